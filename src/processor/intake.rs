//! The door of a task: is this record folded, dropped, forwarded or dead?
//!
//! Place first (another org's partition), then age, then duplicates. Nothing is changed here; the task acts on the
//! verdict.

use crate::codec::{DecodeError, Decoder};
use crate::domain::time::Timestamp;
use crate::domain::usage::dedupe::{IdHasher, IdKey, Seen, Window};
use crate::domain::usage::event::Event;
use crate::domain::usage::murmur2::partition_of;
use crate::domain::usage::reject::{Reason, Reject};

use super::ports::{Header, Record};

/// The header that carries a forwarded or replayed record's first Kafka timestamp, microseconds.
pub const FIRST_TIMESTAMP: &str = "tallyman-timestamp";

/// 2000-01-01T00:00:00Z. Nothing of this trade happened before it: what is dated so has another unit (seconds or milliseconds
/// taken for microseconds), or a clock that was never set. Corrections and outcomes have no other bound of their age.
const PLAUSIBLE_FROM: Timestamp = Timestamp::from_micros(946_684_800_000_000);

/// What is to be done with a record.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// Fold it and remember its id.
    Fold(Event<'a>, IdKey, Seen),
    /// It was folded already.
    Duplicate,
    /// It stands in the wrong place: send it to this partition, keyed by this org.
    Forward(i32, String),
    /// It can never be folded.
    DeadLetter(Reject),
}

/// What the verdict depends on besides the record.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Partitions of the usage topic.
    pub partitions: i32,
    /// The dedupe window.
    pub window: Window,
    /// `in_future` beyond this many microseconds past the record's own time.
    pub future_micros_max: i64,
    /// `too_old` beyond this many microseconds before it; for usage events only.
    pub age_micros_max: i64,
}

/// Whether a record was forwarded once already.
#[must_use]
pub fn is_forwarded(headers: &[Header]) -> bool {
    headers.iter().any(|(name, _)| name == FIRST_TIMESTAMP)
}

/// The time that a record's age is told by: its first Kafka timestamp.
fn own_time(record: &Record<'_>, headers: &[Header]) -> Timestamp {
    let first = headers.iter().find(|(name, _)| name == FIRST_TIMESTAMP);
    let first = first.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
    // Nothing stood in a log before now later than now: a header cannot make the future plausible.
    first.map_or(record.timestamp, |first| Timestamp::from_micros(first).min(record.timestamp))
}

/// The partition in which an org's record belongs, when this one does not stand there under its key.
#[must_use]
pub fn misplaced(record: &Record<'_>, org: &str, partitions: i32) -> Option<i32> {
    let home = partition_of(org.as_bytes(), partitions);
    (record.partition != home || record.key != Some(org.as_bytes())).then_some(home)
}

/// Judges one record of the usage topic. `seen` tells what is remembered of an id; `log_time` includes the record.
///
/// # Errors
/// Those of the decoder that are not the record's fault, and those of `seen`.
pub fn judge<'a, E: From<DecodeError>>(
    record: &Record<'a>,
    headers: &[Header],
    log_time: Timestamp,
    rules: &Rules,
    decoder: &mut Decoder,
    hasher: &mut IdHasher,
    seen: impl FnOnce(IdKey) -> Result<Option<Seen>, E>,
) -> Result<Verdict<'a>, E> {
    let Some(value) = record.value else {
        let reject =
            Reject::new(Reason::Undecodable, "the record has no value; send a UsageEvent, not a tombstone");
        return Ok(Verdict::DeadLetter(reject));
    };
    let event = match decoder.usage(value) {
        Ok(event) => event,
        Err(DecodeError::Reject(reject)) => return Ok(Verdict::DeadLetter(reject)),
        Err(unavailable) => return Err(unavailable.into()),
    };
    if let Some(home) = misplaced(record, event.org_id(), rules.partitions) {
        return Ok(if is_forwarded(headers) {
            let detail = format!("org {} belongs to partition {home}; forwarded once already", event.org_id());
            Verdict::DeadLetter(Reject::new(Reason::Misrouted, detail))
        } else {
            Verdict::Forward(home, event.org_id().to_owned())
        });
    }
    if let Some(reject) = wrong_age(&event, own_time(record, headers), rules) {
        return Ok(Verdict::DeadLetter(reject));
    }
    let key = hasher.key(&event);
    let fingerprint = hasher.fingerprint(&event);
    let known = seen(key)?.filter(|seen| rules.window.remembers(seen.at, log_time));
    Ok(match known {
        Some(seen) if seen.fingerprint == fingerprint => Verdict::Duplicate,
        Some(_) => Verdict::DeadLetter(Reject::new(
            Reason::IdConflict,
            format!("id {:?} of source {:?} came before with other fields", event.id(), event.source()),
        )),
        None => Verdict::Fold(event, key, Seen { at: log_time, fingerprint }),
    })
}

fn wrong_age(event: &Event<'_>, own_time: Timestamp, rules: &Rules) -> Option<Reject> {
    let age = own_time.micros_since(event.occurred_at());
    let told = |what: &str| format!("occurred_at {} is {what} the record's time {own_time}", event.occurred_at());
    if age < -rules.future_micros_max {
        return Some(Reject::new(Reason::InFuture, told("too far past")));
    }
    if age > rules.age_micros_max && matches!(event, Event::Usage(_)) {
        return Some(Reject::new(Reason::TooOld, told("too long before")));
    }
    if event.occurred_at() < PLAUSIBLE_FROM {
        let detail =
            format!("occurred_at {} lies before {PLAUSIBLE_FROM}: is its unit right?", event.occurred_at());
        return Some(Reject::new(Reason::OutOfRange, detail));
    }
    None
}
