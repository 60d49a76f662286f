//! Whatever the events, the batches and the flushes: the rows are those of the naive fold.

use proptest::prelude::*;
use tallyman::domain::event::Event;
use tallyman::domain::fold::{Fold, RowSets};
use tallyman::domain::view::{View, built_in};

use crate::model::{Flushed, Model};
use crate::random::event;

/// What happens after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum After {
    Nothing,
    EndOfBatch,
    Flush,
    Forget,
}

fn after() -> impl Strategy<Value = After> {
    prop_oneof![
        4 => Just(After::Nothing),
        2 => Just(After::EndOfBatch),
        1 => Just(After::Flush),
        1 => Just(After::Forget),
    ]
}

/// Views of several widths and sizes in an order that no plan would choose.
fn views() -> impl Strategy<Value = Vec<View>> {
    prop_oneof![Just(built_in()), Just(built_in().into_iter().rev().collect())]
}

fn folded(views: &[View], events: &[(Event<'_>, After)]) -> Flushed {
    let (mut fold, mut sets, mut flushed) = (Fold::default(), RowSets::new(views.to_vec()), Flushed::default());
    let mut settle = |fold: &mut Fold, flushed: &mut Flushed, after: After| {
        if after >= After::EndOfBatch {
            let mut frozen = fold.freeze();
            sets.settle(&mut frozen, flushed).unwrap();
            fold.thaw(frozen);
            fold.end_batch();
        }
        if after >= After::Flush {
            flushed.flush(fold, &mut sets, if after == After::Forget { 0 } else { usize::MAX });
        }
    };
    for (event, after) in events {
        fold.add(event, &flushed).unwrap();
        settle(&mut fold, &mut flushed, *after);
    }
    settle(&mut fold, &mut flushed, After::Forget);
    flushed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_batches_and_flushes_give_the_rows_of_the_naive_fold(
        views in views(),
        events in proptest::collection::vec((event(), after()), 1..60),
    ) {
        let mut model = Model::new(views.clone());
        events.iter().for_each(|(event, _)| model.add(event));
        prop_assert_eq!(folded(&views, &events).fields(), model.rows);
    }

    #[test]
    fn what_a_batch_says_of_an_org_is_what_its_rows_gained(
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let (mut fold, flushed) = (Fold::default(), Flushed::default());
        events.iter().for_each(|event| { fold.add(event, &flushed).unwrap(); });
        let told: i128 = fold.org_deltas().map(|delta| delta.credits.micros()).sum();
        let of = |event: &Event<'_>| match event {
            Event::Usage(event) => i128::from(event.credits.micros()),
            Event::Adjusted(event) => i128::from(event.credits.micros()),
            Event::Outcome(_) => 0,
        };
        prop_assert_eq!(told, events.iter().map(of).sum());
    }
}
