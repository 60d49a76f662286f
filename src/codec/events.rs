//! The records of the usage topic, field by field in the order of their schemas: each once read, once written. The struct
//! literals below evaluate top down; their order is the schema's.

use super::reader::{COUNT_MAX, Fault, FieldReader, Read, SIGNED};
use super::slots::{Raw, Slots};
use super::writer::FieldWriter;
use crate::domain::id::{ID_BYTES_MAX, VALUE_BYTES_MAX};
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::event::{
    Event, Multiplier, Outcome, OutcomeRecorded, Status, Subject, UsageAdjusted, UsageEvent,
};
use crate::domain::usage::reject::Reason;

/// The dimensions that usage and corrections must name.
const REQUIRED: &[Dimension] = &[Dimension::Product, Dimension::Operation];
const REASON_BYTES_MAX: usize = 1024;
/// `decimal(9,4)`.
const MULTIPLIER_MAX: i128 = 999_999_999;
const MULTIPLIER_SCALE: u32 = 4;

/// Reads a `UsageEvent`.
#[inline]
pub(crate) fn read_usage<'a>(fields: &mut impl FieldReader<'a>) -> Read<UsageEvent<'a>> {
    Ok(UsageEvent {
        event_id: fields.text(ID_BYTES_MAX)?,
        source: fields.text(ID_BYTES_MAX)?,
        occurred_at: fields.civil_time()?,
        org_id: fields.id()?,
        dims: fields.dims(REQUIRED)?,
        credits: fields.credits(0)?,
        multiplier: multiplier(fields)?,
        input_tokens: fields.opt_long(0, COUNT_MAX)?,
        output_tokens: fields.opt_long(0, COUNT_MAX)?,
        cached_input_tokens: fields.opt_long(0, COUNT_MAX)?,
        reasoning_tokens: fields.opt_long(0, COUNT_MAX)?,
        latency_ms: fields.opt_long(0, COUNT_MAX)?,
        time_to_first_token_ms: fields.opt_long(0, COUNT_MAX)?,
        status: fields.known_or_default(Status::from_name)?,
        content_id: fields.opt_text(VALUE_BYTES_MAX)?,
        attempt: fields.opt_long(1, COUNT_MAX)?,
        trace_id: fields.opt_text(VALUE_BYTES_MAX)?,
    })
}

#[inline]
fn multiplier<'a>(fields: &mut impl FieldReader<'a>) -> Read<Option<Multiplier>> {
    let Some(value) = fields.opt_decimal(MULTIPLIER_SCALE)? else { return Ok(None) };
    match i32::try_from(value) {
        Ok(value) if (0..=MULTIPLIER_MAX).contains(&i128::from(value)) => Ok(Some(Multiplier(value))),
        _ => Err(fields.fault(Reason::OutOfRange, "must lie within 0..99999.9999")),
    }
}

/// Writes a `UsageEvent`.
pub(crate) fn write_usage<W: FieldWriter>(event: &UsageEvent<'_>, writer: &mut W) {
    writer.text(&event.event_id);
    writer.text(&event.source);
    writer.time(event.occurred_at);
    writer.text(&event.org_id);
    writer.dims(&event.dims, REQUIRED);
    writer.credits(event.credits);
    writer.opt(event.multiplier, |writer, value| writer.decimal(i128::from(value.0), MULTIPLIER_SCALE));
    writer.opt_long(event.input_tokens);
    writer.opt_long(event.output_tokens);
    writer.opt_long(event.cached_input_tokens);
    writer.opt_long(event.reasoning_tokens);
    writer.opt_long(event.latency_ms);
    writer.opt_long(event.time_to_first_token_ms);
    writer.text(event.status.name());
    writer.opt_text(event.content_id.as_deref());
    writer.opt_long(event.attempt);
    writer.opt_text(event.trace_id.as_deref());
}

/// Reads a `UsageAdjusted`.
pub(crate) fn read_adjusted<'a>(slots: &mut Slots<'a>) -> Read<UsageAdjusted<'a>> {
    Ok(UsageAdjusted {
        adjustment_id: slots.text(ID_BYTES_MAX)?,
        source: slots.text(ID_BYTES_MAX)?,
        occurred_at: slots.civil_time()?,
        org_id: slots.id()?,
        dims: slots.dims(REQUIRED)?,
        credits: slots.credits(SIGNED)?,
        events: slots.opt_long(-COUNT_MAX, COUNT_MAX)?.unwrap_or(0),
        reason: slots.text(REASON_BYTES_MAX)?,
        event_id: slots.opt_text(ID_BYTES_MAX)?,
    })
}

/// Writes a `UsageAdjusted`.
pub(crate) fn write_adjusted<W: FieldWriter>(event: &UsageAdjusted<'_>, writer: &mut W) {
    writer.text(&event.adjustment_id);
    writer.text(&event.source);
    writer.time(event.occurred_at);
    writer.text(&event.org_id);
    writer.dims(&event.dims, REQUIRED);
    writer.credits(event.credits);
    writer.long(event.events);
    writer.text(&event.reason);
    writer.opt_text(event.event_id.as_deref());
}

/// Reads an `OutcomeRecorded`; where it names both, the content is its subject.
pub(crate) fn read_outcome<'a>(slots: &mut Slots<'a>) -> Read<OutcomeRecorded<'a>> {
    Ok(OutcomeRecorded {
        outcome_id: slots.text(ID_BYTES_MAX)?,
        source: slots.text(ID_BYTES_MAX)?,
        occurred_at: slots.civil_time()?,
        org_id: slots.id()?,
        subject: match (slots.opt_text(VALUE_BYTES_MAX)?, slots.opt_text(ID_BYTES_MAX)?) {
            (Some(content), _) => Subject::Content(content),
            (None, Some(event)) => Subject::Event(event),
            (None, None) => {
                let what = "is missing, and `event_id` too; one of them must be there".into();
                return Err(Box::new(Fault { field: "content_id", reason: Reason::BadField, what }));
            }
        },
        dims: slots.dims(&[])?,
        outcome: slots.opt_known(Outcome::from_name)?,
        rating: slots.opt_int(1, 5)?.map(|rating| u8::try_from(rating).expect("1..5 fits")),
        value: slots.opt_credits(SIGNED)?,
    })
}

/// Writes an `OutcomeRecorded`.
pub(crate) fn write_outcome<W: FieldWriter>(event: &OutcomeRecorded<'_>, writer: &mut W) {
    writer.text(&event.outcome_id);
    writer.text(&event.source);
    writer.time(event.occurred_at);
    writer.text(&event.org_id);
    let (content, single) = match &event.subject {
        Subject::Content(id) => (Some(&**id), None),
        Subject::Event(id) => (None, Some(&**id)),
    };
    writer.opt_text(content);
    writer.opt_text(single);
    writer.dims(&event.dims, &[]);
    writer.opt_text(event.outcome.map(Outcome::name));
    writer.opt_long(event.rating.map(i64::from));
    writer.opt_credits(event.value);
}

/// Writes any record of the usage topic.
pub(crate) fn write_event<W: FieldWriter>(event: &Event<'_>, writer: &mut W) {
    match event {
        Event::Usage(event) => write_usage(event, writer),
        Event::Adjusted(event) => write_adjusted(event, writer),
        Event::Outcome(event) => write_outcome(event, writer),
    }
}

/// The text of a list's item, when it can be a dimension's value.
pub(crate) fn value_text(raw: Raw<'_>) -> Option<String> {
    match raw {
        Raw::Text(text) if (1..=VALUE_BYTES_MAX).contains(&text.len()) => Some(text.into_owned()),
        _ => None,
    }
}
