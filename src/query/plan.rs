//! The planner: which rows answer a question. Pure: views and bucket edges in, stretches of rows out; it reads none.
//!
//! Every view holds every event once, so any view that tells the asked dimensions apart gives the same sums. The
//! smallest is taken: fewest dimensions, then days rather than hours. Day rows serve the whole UTC days inside a bucket,
//! hour rows the rest.

use std::ops::Range;

use crate::domain::dimension::Dimension;
use crate::domain::time::{BucketSize, Hour};
use crate::domain::view::View;

use super::error::QueryError;

/// Adjacent rows of one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Number of the view in the store's list.
    pub view: u8,
    /// What its row numbers count.
    pub size: BucketSize,
    /// Numbers of the rows.
    pub rows: Range<i32>,
}

/// The smallest view of a size that tells `dimensions` apart: its number and how many dimensions it has.
fn smallest(views: &[View], size: BucketSize, dimensions: &[Dimension]) -> Option<(u8, usize)> {
    let fits = |view: &&View| view.bucket == size && view.covers(dimensions);
    let least = views.iter().filter(fits).map(|view| view.dimensions.len()).min()?;
    let number = views.iter().position(|view| fits(&view) && view.dimensions.len() == least)?;
    Some((u8::try_from(number).ok()?, least))
}

/// The smallest view that tells `dimensions` apart by hour, for what must be known of each hour; `why` it must.
///
/// # Errors
/// [`QueryError::NeedsView`] when there is none.
pub fn by_hour(views: &[View], dimensions: &[Dimension], why: &'static str) -> Result<u8, QueryError> {
    let needs = || QueryError::NeedsView {
        dimensions: dimensions.to_vec(),
        size: BucketSize::Hour.name(),
        why,
        ask_for: "other measures",
    };
    smallest(views, BucketSize::Hour, dimensions).map(|(view, _)| view).ok_or_else(needs)
}

/// The stretches that hold each hour between the first and the last of `edges` exactly once, none across an edge that
/// its rows could not tell apart.
///
/// # Errors
/// [`QueryError::NeedsView`] when no kept view answers.
pub fn plan(views: &[View], dimensions: &[Dimension], edges: &[Hour]) -> Result<Vec<Stretch>, QueryError> {
    let by_hour = smallest(views, BucketSize::Hour, dimensions);
    let by_day = smallest(views, BucketSize::Day, dimensions);
    let days_are_smaller = match (by_hour, by_day) {
        (Some((_, hour)), Some((_, day))) => day <= hour,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    let needs = |size, why, ask_for| QueryError::NeedsView { dimensions: dimensions.to_vec(), size, why, ask_for };
    let mut stretches: Vec<Stretch> = Vec::new();
    for pair in edges.windows(2) {
        let (start, end) = (pair[0], pair[1]);
        let days = if days_are_smaller { whole_days(start, end) } else { start..start };
        for (size, hours) in [
            (BucketSize::Hour, start..days.start),
            (BucketSize::Day, days.clone()),
            (BucketSize::Hour, days.end..end),
        ] {
            if hours.is_empty() {
                continue;
            }
            let view = if size == BucketSize::Day { by_day } else { by_hour };
            let Some((view, _)) = view else {
                return Err(if by_day.is_some() {
                    needs("hour", ", for a bucket begins or ends within a UTC day", "whole UTC days")
                } else {
                    needs("day", "", "fewer dimensions")
                });
            };
            push(
                &mut stretches,
                Stretch { view, size, rows: size.bucket_of(hours.start)..size.bucket_of(hours.end) },
            );
        }
    }
    Ok(stretches)
}

/// The whole UTC days within `[start, end)`, as hours; empty at `start` when there is none.
fn whole_days(start: Hour, end: Hour) -> Range<Hour> {
    let first = Hour(start.0.saturating_add(23)).day().first_hour();
    let last = end.day().first_hour();
    if first < last { first..last } else { start..start }
}

/// Adds a stretch, to the one before it where it goes on with it: one scan instead of two.
fn push(stretches: &mut Vec<Stretch>, next: Stretch) {
    match stretches.last_mut() {
        Some(last) if last.view == next.view && last.rows.end == next.rows.start => last.rows.end = next.rows.end,
        _ => stretches.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::view::built_in;
    use proptest::prelude::*;

    fn stretch(views: &[View], name: &str, size: BucketSize, rows: Range<i32>) -> Stretch {
        let view = views.iter().position(|view| view.name == name && view.bucket == size).unwrap();
        Stretch { view: u8::try_from(view).unwrap(), size, rows }
    }

    #[test]
    fn whole_utc_days_are_read_from_day_rows_and_the_edges_from_hour_rows() {
        let views = built_in();
        let stretches = plan(&views, &[], &[Hour(20), Hour(24 * 3 + 2)]).unwrap();
        assert_eq!(
            stretches,
            [
                stretch(&views, "org", BucketSize::Hour, 20..24),
                stretch(&views, "org", BucketSize::Day, 1..3),
                stretch(&views, "org", BucketSize::Hour, 72..74),
            ]
        );
    }

    #[test]
    fn the_view_with_fewest_dimensions_is_taken() {
        let views = built_in();
        let edges = [Hour(0), Hour(24), Hour(48)];
        let one = plan(&views, &[Dimension::Product], &edges).unwrap();
        assert_eq!(one, [stretch(&views, "product", BucketSize::Day, 0..2)]);
        let two = plan(&views, &[Dimension::Operation, Dimension::Product], &edges).unwrap();
        assert_eq!(two, [stretch(&views, "product_operation", BucketSize::Day, 0..2)]);
        let three = plan(&views, &[Dimension::User, Dimension::Model], &edges).unwrap();
        assert_eq!(three, [stretch(&views, "cell", BucketSize::Day, 0..2)]);
    }

    #[test]
    fn hours_of_fewer_dimensions_are_smaller_than_days_of_more() {
        let mut views = built_in();
        views.retain(|view| view.name != "product" || view.bucket == BucketSize::Hour);
        let stretches = plan(&views, &[Dimension::Product], &[Hour(0), Hour(48)]).unwrap();
        assert_eq!(stretches, [stretch(&views, "product", BucketSize::Hour, 0..48)]);
    }

    #[test]
    fn a_question_that_no_view_answers_names_the_view_to_declare() {
        let views = built_in();
        let dimensions = [Dimension::User, Dimension::Model];
        let error = plan(&views, &dimensions, &[Hour(1), Hour(30)]).unwrap_err().to_string();
        assert!(error.contains("`user` with `model` by hour"), "{error}");
        assert!(error.contains("dimensions = [\"user\", \"model\"]\nbuckets = [\"hour\"]"), "{error}");
        let error = plan(&views, &[Dimension::Tier, Dimension::Project], &[Hour(0), Hour(24)]).unwrap_err();
        assert!(error.to_string().contains("by day, which"), "{error}");
    }

    proptest! {
        #[test]
        fn every_hour_of_the_range_is_read_exactly_once_and_no_day_row_crosses_an_edge(
            mut edges in proptest::collection::btree_set(-200..400_i32, 2..12),
            only_hours in any::<bool>(),
        ) {
            let edges: Vec<Hour> = std::mem::take(&mut edges).into_iter().map(Hour).collect();
            let mut views = built_in();
            views.retain(|view| !only_hours || view.bucket == BucketSize::Hour);
            let stretches = plan(&views, &[Dimension::Model], &edges).unwrap();
            let mut read = Vec::new();
            for stretch in &stretches {
                for row in stretch.rows.clone() {
                    let first = stretch.size.first_hour(row);
                    let last = Hour(first.0 + stretch.size.hours() - 1);
                    let bucket = |hour: Hour| edges.partition_point(|edge| *edge <= hour);
                    prop_assert_eq!(bucket(first), bucket(last));
                    read.extend(first.0..=last.0);
                }
            }
            let all: Vec<i32> = (edges[0].0..edges[edges.len() - 1].0).collect();
            prop_assert_eq!(read, all);
        }
    }
}
