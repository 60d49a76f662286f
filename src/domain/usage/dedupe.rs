//! Duplicates: which ids were seen less than a window of log time ago (CONTRACT.md, Meaning: Duplicate).

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::domain::credits::Credits;
use crate::domain::time::Timestamp;
use crate::domain::usage::event::{Dims, Event, Subject, UsageEvent};

/// A record's identity: a 128-bit hash of (org, source, record type, id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdKey(pub u128);

/// What is kept of an accepted record for its id's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Log time when it was first seen.
    pub at: Timestamp,
    /// Hash of its decoded fields, trace id apart: 48 bits.
    pub fingerprint: u64,
}

/// Ids are kept in buckets of log time, so that old ones go away by the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdBucket(pub u32);

/// How ids are hashed and how long they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Microseconds of log time for which an id is remembered; above 0.
    micros: i64,
}

/// The bits of a fingerprint: one in 3 x 10^14 contradictions is taken for a duplicate.
const FINGERPRINT: u64 = (1 << 48) - 1;

/// Id buckets in one window: an id leaves at most a quarter of a window after its time.
const BUCKETS_PER_WINDOW: i64 = 4;

impl Window {
    /// A window of `micros` microseconds of log time, at least [`BUCKETS_PER_WINDOW`].
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self { micros: if micros < BUCKETS_PER_WINDOW { BUCKETS_PER_WINDOW } else { micros } }
    }

    /// The bucket of an id first seen at log time `at`; instants before the epoch share the first bucket.
    #[must_use]
    pub fn bucket(self, at: Timestamp) -> IdBucket {
        let number = at.micros().max(0) / (self.micros / BUCKETS_PER_WINDOW);
        IdBucket(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// The oldest bucket that can hold an id still in its window at log time `now`.
    #[must_use]
    pub fn oldest_live(self, now: Timestamp) -> IdBucket {
        self.bucket(now.plus_micros(-self.micros))
    }

    /// Whether an id first seen at `seen` is still remembered at log time `now`: less than a window ago.
    #[must_use]
    pub const fn remembers(self, seen: Timestamp, now: Timestamp) -> bool {
        now.micros_since(seen) < self.micros
    }
}

/// Hashes events to their identity and fingerprint, reusing one buffer.
#[derive(Debug, Default)]
pub struct IdHasher {
    buffer: Vec<u8>,
}

impl IdHasher {
    /// The event's identity.
    pub fn key(&mut self, event: &Event<'_>) -> IdKey {
        self.buffer.clear();
        self.buffer.push(event.event_type() as u8);
        self.text(event.org_id());
        self.text(event.source());
        self.text(event.id());
        IdKey(xxh3_128(&self.buffer))
    }

    /// The fingerprint of the event's decoded fields, trace id and identity apart.
    pub fn fingerprint(&mut self, event: &Event<'_>) -> u64 {
        self.buffer.clear();
        self.number(event.occurred_at().micros());
        match event {
            Event::Usage(event) => self.usage(event),
            Event::Adjusted(event) => {
                self.dims(&event.dims);
                self.number(event.credits.micros());
                self.number(event.events);
                self.text(&event.reason);
                self.optional(event.event_id.as_deref());
            }
            Event::Outcome(event) => {
                let (kind, subject) = match &event.subject {
                    Subject::Content(id) => (0, id),
                    Subject::Event(id) => (1, id),
                };
                self.buffer.push(kind);
                self.text(subject);
                self.dims(&event.dims);
                self.buffer.push(event.outcome.map_or(0, |outcome| outcome as u8 + 1));
                self.buffer.push(event.rating.unwrap_or(0));
                self.optional_number(event.value.map(Credits::micros));
            }
        }
        xxh3_64(&self.buffer) & FINGERPRINT
    }

    fn usage(&mut self, event: &UsageEvent<'_>) {
        self.dims(&event.dims);
        self.number(event.credits.micros());
        self.buffer.push(event.status as u8);
        let numbers = [
            event.multiplier.map(|multiplier| i64::from(multiplier.0)),
            event.input_tokens,
            event.output_tokens,
            event.cached_input_tokens,
            event.reasoning_tokens,
            event.latency_ms,
            event.time_to_first_token_ms,
            event.attempt,
        ];
        for number in numbers {
            self.optional_number(number);
        }
        self.optional(event.content_id.as_deref());
    }

    fn dims(&mut self, dims: &Dims<'_>) {
        for value in &dims.0 {
            self.optional(value.as_deref());
        }
    }

    fn text(&mut self, text: &str) {
        self.buffer.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.buffer.extend_from_slice(text.as_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.buffer.extend_from_slice(&u32::MAX.to_le_bytes()),
        }
    }

    fn number(&mut self, number: i64) {
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    fn optional_number(&mut self, number: Option<i64>) {
        match number {
            Some(number) => {
                self.buffer.push(1);
                self.number(number);
            }
            None => self.buffer.push(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_remembered_for_less_than_the_window_of_log_time() {
        let window = Window::new(100);
        let seen = Timestamp::from_micros(1000);
        assert!(window.remembers(seen, Timestamp::from_micros(1099)));
        assert!(!window.remembers(seen, Timestamp::from_micros(1100)));
    }

    #[test]
    fn a_bucket_is_live_as_long_as_any_of_its_ids_is_remembered() {
        let window = Window::new(100);
        for at in 0..500 {
            let seen = Timestamp::from_micros(at);
            for now in at..at + 100 {
                let now = Timestamp::from_micros(now);
                assert!(window.oldest_live(now) <= window.bucket(seen));
            }
        }
    }
}
