//! The plan of a fold: from which deltas each view takes its own.
//!
//! A view can be fed by any view that has all its dimensions and the same or a finer bucket. Narrower views are fed
//! last, and a view that feeds nobody needs no deltas of its own: its rows take the parent's directly.

use crate::domain::time::BucketSize;
use crate::domain::view::View;

/// How one view is fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The view's number in the store's list.
    pub view: usize,
    /// Views that can feed it, all of them folded before; empty: only the batch's combinations can.
    pub parents: Vec<usize>,
    /// Whether another view may take its deltas.
    pub feeds: bool,
}

/// The steps for `views`, each after all that can feed it.
#[must_use]
pub fn plan(views: &[View]) -> Vec<Step> {
    let mut order: Vec<usize> = (0..views.len()).collect();
    order.sort_by_key(|&view| (usize::MAX - views[view].dimensions.len(), views[view].bucket == BucketSize::Day));
    let mut steps: Vec<Step> = Vec::with_capacity(views.len());
    for &view in &order {
        let feeds_it = |parent: &&Step| {
            let (parent, child) = (&views[parent.view], &views[view]);
            let finer = parent.bucket == child.bucket || parent.bucket == BucketSize::Hour;
            finer && parent.covers(&child.dimensions)
        };
        let width = |step: &Step| views[step.view].dimensions.len();
        let able: Vec<&Step> = steps.iter().filter(feeds_it).collect();
        let narrowest = able.iter().map(|step| width(step)).min();
        let parents: Vec<usize> =
            able.iter().filter(|step| Some(width(step)) == narrowest).map(|step| step.view).collect();
        for step in steps.iter_mut().filter(|step| parents.contains(&step.view)) {
            step.feeds = true;
        }
        steps.push(Step { view, parents, feeds: false });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::view::built_in;

    #[test]
    fn every_view_is_fed_once_and_after_all_that_feed_it() {
        let views = built_in();
        let steps = plan(&views);
        assert_eq!(steps.len(), views.len());
        for (place, step) in steps.iter().enumerate() {
            for parent in &step.parents {
                assert!(steps[..place].iter().any(|earlier| earlier.view == *parent && earlier.feeds));
            }
        }
    }

    #[test]
    fn days_are_fed_by_hours_and_the_org_by_a_single_dimension() {
        let views = built_in();
        let steps = plan(&views);
        let step = |name: &str, bucket| {
            let view = views.iter().position(|view| view.name == name && view.bucket == bucket).unwrap();
            steps.iter().find(|step| step.view == view).unwrap()
        };
        let names =
            |step: &Step| -> Vec<&str> { step.parents.iter().map(|&view| views[view].name.as_str()).collect() };
        assert_eq!(names(step("user", BucketSize::Day)), ["user"]);
        assert_eq!(names(step("org", BucketSize::Day)), ["org"]);
        assert_eq!(names(step("org", BucketSize::Hour)).len(), 12);
        assert!(names(step("cell", BucketSize::Day)).is_empty());
        assert!(!step("user", BucketSize::Day).feeds);
    }
}
