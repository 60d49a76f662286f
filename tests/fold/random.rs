//! Random legal events: few orgs, values and pieces of content, so that they meet.

use proptest::option;
use proptest::prelude::*;
use tallyman::domain::credits::Credits;
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::usage::event::{
    Dims, Event, Multiplier, Outcome, OutcomeRecorded, Status, Subject, UsageAdjusted, UsageEvent,
};

fn dims() -> impl Strategy<Value = Dims<'static>> {
    proptest::array::uniform12(option::of(0..3_u8)).prop_map(|values| {
        Dims(values.map(|value| value.map(|value| ["a", "b", "\u{e9}\0"][usize::from(value)].into())))
    })
}

fn org() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("one"), Just("two"), Just("two.")]
}

fn at() -> impl Strategy<Value = Timestamp> {
    // Five days across the epoch: the bucket of an instant before it is the one below, not the one above.
    (-60..60_i64, 0..3_600_000_000_i64).prop_map(|(hour, us)| Timestamp::from_micros(hour * 3_600_000_000 + us))
}

fn credits(least: i64) -> impl Strategy<Value = Credits> {
    (least..50_000_000).prop_map(|micros| Credits::from_micros(micros).unwrap())
}

fn content() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("c1"), Just("c2"), Just("c3")]
}

/// A usage event.
pub fn usage() -> impl Strategy<Value = UsageEvent<'static>> {
    let number = || option::of(0..70_000_i64);
    let status = prop_oneof![Just(Status::Ok), Just(Status::Error), Just(Status::Cancelled)];
    let multiplier = option::of(prop_oneof![0..40_000_i32, Just(10_000), Just(20_000), Just(9_999)]);
    let numbers = (number(), number(), number(), number(), number(), number());
    let tries = (option::of(content()), option::of(1..8_i64));
    let strategy = (org(), at(), dims(), credits(0), multiplier, numbers, status, tries);
    strategy.prop_map(|(org, occurred_at, dims, credits, multiplier, numbers, status, (content, attempt))| {
        UsageEvent {
            event_id: "e".into(),
            source: "s".into(),
            occurred_at,
            org_id: org.into(),
            dims,
            credits,
            multiplier: multiplier.map(Multiplier),
            input_tokens: numbers.0,
            output_tokens: numbers.1,
            cached_input_tokens: numbers.2,
            reasoning_tokens: numbers.3,
            latency_ms: numbers.4,
            time_to_first_token_ms: numbers.5,
            status,
            content_id: content.map(Into::into),
            attempt,
            trace_id: None,
        }
    })
}

fn adjusted() -> impl Strategy<Value = UsageAdjusted<'static>> {
    (org(), at(), dims(), credits(-50_000_000), -3..3_i64).prop_map(|(org, occurred_at, dims, credits, events)| {
        UsageAdjusted {
            adjustment_id: "a".into(),
            source: "s".into(),
            occurred_at,
            org_id: org.into(),
            dims,
            credits,
            events,
            reason: "r".into(),
            event_id: None,
        }
    })
}

fn outcome() -> impl Strategy<Value = OutcomeRecorded<'static>> {
    let told = option::of((0..4_usize).prop_map(|place| Outcome::ALL[place]));
    let sparse = prop_oneof![Just(Dims::default()), dims()];
    let strategy =
        (org(), at(), any::<bool>(), content(), sparse, told, option::of(1..6_u8), option::of(credits(-9)));
    strategy.prop_map(|(org, occurred_at, is_content, id, dims, outcome, rating, value)| OutcomeRecorded {
        outcome_id: "o".into(),
        source: "s".into(),
        occurred_at,
        org_id: org.into(),
        subject: if is_content { Subject::Content(id.into()) } else { Subject::Event(id.into()) },
        dims,
        outcome,
        rating,
        value,
    })
}

/// Any event; corrections and usage name what they must.
pub fn event() -> impl Strategy<Value = Event<'static>> {
    let required = |dims: &mut Dims<'static>| {
        for dimension in [Dimension::Product, Dimension::Operation] {
            dims.0[dimension.index()].get_or_insert("a".into());
        }
    };
    prop_oneof![
        4 => usage().prop_map(move |mut event| { required(&mut event.dims); Event::Usage(event) }),
        1 => adjusted().prop_map(move |mut event| { required(&mut event.dims); Event::Adjusted(event) }),
        2 => outcome().prop_map(Event::Outcome),
    ]
}
