//! Whatever the events, the batches and the flushes: the facts are those of the naive fold.

use proptest::prelude::*;
use tallyman::domain::cube::fold::Fold;
use tallyman::domain::cube::seal::Sealer;
use tallyman::domain::usage::event::Event;

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

fn folded(events: &[(Event<'_>, After)]) -> Flushed {
    let (mut fold, mut sealer, mut flushed) = (Fold::default(), Sealer::default(), Flushed::default());
    let mut settle = |fold: &mut Fold, flushed: &mut Flushed, after: After| {
        if after >= After::EndOfBatch {
            fold.end_batch();
        }
        if after >= After::Flush {
            flushed.flush(fold, &mut sealer, after == After::Forget);
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
    fn any_batches_and_flushes_give_the_facts_of_the_naive_fold(
        events in proptest::collection::vec((event(), after()), 1..60),
    ) {
        let mut model = Model::default();
        events.iter().for_each(|(event, _)| model.add(event));
        let (facts, totals_are_their_sums) = folded(&events).facts();
        prop_assert_eq!(facts, model.facts());
        prop_assert!(totals_are_their_sums);
    }

    #[test]
    fn what_a_batch_says_of_an_org_is_what_its_facts_gained(
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
