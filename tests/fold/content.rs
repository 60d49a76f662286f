//! Content, attempts and tiers, one rule at a time, with the sums written out.

use std::collections::BTreeMap;

use tallyman::domain::credits::Credits;
use tallyman::domain::cube::fold::Fold;
use tallyman::domain::cube::seal::Sealer;
use tallyman::domain::cube::tally::Field;
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::usage::event::{
    Dims, Event, Multiplier, Outcome, OutcomeRecorded, Status, Subject, UsageEvent,
};

use crate::model::Flushed;

/// Fields by number.
type Fields = BTreeMap<u8, i128>;

/// The first hour of 1970 and the one after it.
const HOURS: [Timestamp; 2] = [Timestamp::from_micros(0), Timestamp::from_micros(3_600_000_000)];

fn dims(values: &[(Dimension, &'static str)]) -> Dims<'static> {
    let mut dims = Dims::default();
    for (dimension, value) in values {
        dims.0[dimension.index()] = Some((*value).into());
    }
    dims
}

fn usage(hour: usize, model: &'static str, micros: i64, attempt: Option<i64>) -> UsageEvent<'static> {
    UsageEvent {
        event_id: "e".into(),
        source: "s".into(),
        occurred_at: HOURS[hour],
        org_id: "org".into(),
        dims: dims(&[(Dimension::Product, "p"), (Dimension::Operation, "o"), (Dimension::Model, model)]),
        credits: Credits::from_micros(micros).unwrap(),
        multiplier: None,
        input_tokens: None,
        output_tokens: None,
        cached_input_tokens: None,
        reasoning_tokens: None,
        latency_ms: None,
        time_to_first_token_ms: None,
        status: Status::Ok,
        content_id: Some("c".into()),
        attempt,
        trace_id: None,
    }
}

fn outcome(hour: usize, outcome: Option<Outcome>, rating: Option<u8>) -> Event<'static> {
    Event::Outcome(OutcomeRecorded {
        outcome_id: "o".into(),
        source: "s".into(),
        occurred_at: HOURS[hour],
        org_id: "org".into(),
        subject: Subject::Content("c".into()),
        dims: Dims::default(),
        outcome,
        rating,
        value: None,
    })
}

/// Fields of each (hour, value) of `dimension`, each event folded and flushed by itself.
fn rows_by(dimension: Dimension, events: &[Event<'_>]) -> BTreeMap<(i32, Option<String>), Fields> {
    let (mut fold, mut sealer, mut flushed) = (Fold::default(), Sealer::default(), Flushed::default());
    for event in events {
        fold.add(event, &flushed).unwrap();
        fold.end_batch();
        flushed.flush(&mut fold, &mut sealer, true);
    }
    let mut rows = BTreeMap::<_, Fields>::new();
    for (fact, fields) in flushed.facts().0 {
        let row = rows.entry((fact.hour.0, fact.values[dimension.index()].clone())).or_default();
        fields.iter().for_each(|(field, value)| *row.entry(field.number()).or_default() += value);
    }
    rows
}

fn field(rows: &BTreeMap<(i32, Option<String>), Fields>, hour: i32, value: &str, field: Field) -> i128 {
    let row = rows.get(&(hour, Some(value.to_owned())));
    row.and_then(|row| row.get(&field.number())).copied().unwrap_or_default()
}

#[test]
fn a_later_outcome_replaces_the_earlier_one_where_that_was_counted() {
    let rows = rows_by(
        Dimension::Model,
        &[
            Event::Usage(usage(0, "m", 100, None)),
            outcome(0, Some(Outcome::Accepted), Some(2)),
            outcome(1, Some(Outcome::Published), None),
        ],
    );
    let told = |hour, of| field(&rows, hour, "m", of);
    assert_eq!((told(0, Field::ACCEPTED), told(0, Field::ACCEPTED_CREDITS)), (0, 0));
    assert_eq!((told(0, Field::ACCEPTED_FIRST), told(0, Field::RATINGS)), (0, 0));
    assert_eq!((told(1, Field::PUBLISHED), told(1, Field::PUBLISHED_CREDITS)), (1, 100));
    assert_eq!((told(1, Field::RATINGS), told(1, Field::RATING_SUM)), (1, 2), "what it does not name stays");
}

#[test]
fn credits_that_settled_content_costs_later_follow_to_where_its_outcome_is_counted() {
    let rows = rows_by(
        Dimension::Model,
        &[
            Event::Usage(usage(0, "m", 100, None)),
            outcome(0, Some(Outcome::Rejected), None),
            Event::Usage(usage(1, "n", 30, None)),
        ],
    );
    assert_eq!(field(&rows, 0, "m", Field::REJECTED), 1);
    assert_eq!(field(&rows, 0, "m", Field::REJECTED_CREDITS), 130);
    assert_eq!(field(&rows, 1, "n", Field::REJECTED_CREDITS), 0);
    assert_eq!(field(&rows, 1, "n", Field::CREDITS), 30);
}

#[test]
fn content_is_counted_once_and_attempts_without_a_number_are_numbered_as_they_come() {
    let events: Vec<_> =
        [None, None, Some(7), None].into_iter().map(|attempt| Event::Usage(usage(0, "m", 10, attempt))).collect();
    let rows = rows_by(Dimension::Model, &events);
    let told = |of| field(&rows, 0, "m", of);
    assert_eq!((told(Field::CONTENTS), told(Field::CONTENT_CREDITS)), (1, 40));
    assert_eq!([Field::ATTEMPT_1, Field::ATTEMPT_2, Field::ATTEMPT_3].map(told), [1, 1, 0]);
    assert_eq!((told(Field::ATTEMPT_4), told(Field::ATTEMPT_5)), (1, 1), "the fourth event, and attempt 7");
}

#[test]
fn only_content_with_one_attempt_is_accepted_at_the_first() {
    let accepted = outcome(0, Some(Outcome::Accepted), None);
    let once = [Event::Usage(usage(0, "m", 10, None)), accepted.clone()];
    let twice = [Event::Usage(usage(0, "m", 10, None)), Event::Usage(usage(0, "m", 10, None)), accepted];
    for (events, expected) in [(once.as_slice(), 1), (twice.as_slice(), 0)] {
        let rows = rows_by(Dimension::Model, events);
        assert_eq!(field(&rows, 0, "m", Field::ACCEPTED_FIRST), expected);
        assert_eq!(field(&rows, 0, "m", Field::ACCEPTED), 1);
    }
}

#[test]
fn a_tier_that_is_absent_follows_from_the_multiplier_and_one_that_is_named_stays() {
    let with = |multiplier: Option<i32>, tier: Option<&'static str>| {
        let mut event = usage(0, "m", 10, None);
        event.multiplier = multiplier.map(Multiplier);
        event.dims.0[Dimension::Tier.index()] = tier.map(Into::into);
        let rows = rows_by(Dimension::Tier, &[Event::Usage(event)]);
        rows.into_keys().next().unwrap().1
    };
    assert_eq!(with(None, None), None);
    for (multiplier, tier) in [(9_999, "economy"), (10_000, "standard"), (19_999, "standard"), (20_000, "premium")]
    {
        assert_eq!(with(Some(multiplier), None).as_deref(), Some(tier));
    }
    assert_eq!(with(Some(1), Some("own")).as_deref(), Some("own"));
}
