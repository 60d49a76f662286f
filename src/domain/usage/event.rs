//! The records of the usage topic after decoding and validation: facts that happened.
//!
//! Values borrow from the record's bytes where the encoding allows it. What a constructor in `codec` hands over
//! here already keeps every bound of CONTRACT.md; only age, duplicates and place are still open.

use std::borrow::Cow;

use crate::domain::credits::Credits;
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;

/// The values of all twelve dimensions, by [`Dimension::index`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dims<'a>(pub [Option<Cow<'a, str>>; Dimension::COUNT]);

impl Dims<'_> {
    /// The value of one dimension, `None` where absent.
    #[must_use]
    pub fn get(&self, dimension: Dimension) -> Option<&str> {
        self.0[dimension.index()].as_deref()
    }
}

/// A multiplier: an integer of 10^-4 (`decimal(9,4)`), zero or greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiplier(pub i32);

impl Multiplier {
    /// The tier of a call with this multiplier whose own tier is absent (CONTRACT.md, Meaning: Tier).
    #[must_use]
    pub const fn tier(self) -> &'static str {
        match self.0 {
            ..10_000 => "economy",
            20_000.. => "premium",
            _ => "standard",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// It worked.
    #[default]
    Ok,
    /// It failed.
    Error,
    /// The caller gave it up.
    Cancelled,
}

impl Status {
    /// The status of that wire name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "ok" => Some(Self::Ok),
            "error" => Some(Self::Error),
            "cancelled" => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One prompt or call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEvent<'a> {
    /// The id that its source gave it, 1..128 bytes.
    pub event_id: Cow<'a, str>,
    /// The producing service, 1..128 bytes.
    pub source: Cow<'a, str>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// Who pays; a legal id.
    pub org_id: Cow<'a, str>,
    /// Its dimension values; product and operation are present. A null tier is as sent: the fold derives it.
    pub dims: Dims<'a>,
    /// Credits after any multiplier, zero or greater.
    pub credits: Credits,
    /// The multiplier that the credits already hold.
    pub multiplier: Option<Multiplier>,
    /// Tokens, each 0..=10^12.
    pub input_tokens: Option<i64>,
    /// Tokens, each 0..=10^12.
    pub output_tokens: Option<i64>,
    /// Tokens, each 0..=10^12.
    pub cached_input_tokens: Option<i64>,
    /// Tokens, each 0..=10^12.
    pub reasoning_tokens: Option<i64>,
    /// Milliseconds, 0..=10^12.
    pub latency_ms: Option<i64>,
    /// Milliseconds, 0..=10^12.
    pub time_to_first_token_ms: Option<i64>,
    /// How it ended.
    pub status: Status,
    /// The piece of content made or changed, 1..256 bytes.
    pub content_id: Option<Cow<'a, str>>,
    /// Which try this was, 1..=10^12; `None` with a content id: events already folded for it + 1.
    pub attempt: Option<i64>,
    /// The trace; informational, no part of a duplicate's comparison.
    pub trace_id: Option<Cow<'a, str>>,
}

/// A correction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageAdjusted<'a> {
    /// The id that its source gave it, 1..128 bytes.
    pub adjustment_id: Cow<'a, str>,
    /// The producing service, 1..128 bytes.
    pub source: Cow<'a, str>,
    /// The bucket to correct.
    pub occurred_at: Timestamp,
    /// Whose usage is corrected; a legal id.
    pub org_id: Cow<'a, str>,
    /// Taken as given.
    pub dims: Dims<'a>,
    /// Credits to add; signed.
    pub credits: Credits,
    /// Events to add, within +-10^12; signed.
    pub events: i64,
    /// Why, for people; 1..1024 bytes.
    pub reason: Cow<'a, str>,
    /// The event that is corrected, where there is one.
    pub event_id: Option<Cow<'a, str>>,
}

/// What became of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Taken.
    Accepted,
    /// Thrown away.
    Rejected,
    /// Made public.
    Published,
    /// Never used.
    Unused,
}

impl Outcome {
    /// Every outcome, in the order of their stored numbers.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Rejected, Self::Published, Self::Unused];

    /// The outcome of that wire name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Published => "published",
            Self::Unused => "unused",
        }
    }
}

/// What an outcome speaks of: a piece of content, or a single event without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A content id.
    Content(Cow<'a, str>),
    /// An event id.
    Event(Cow<'a, str>),
}

/// A verdict on content, perhaps with a rating and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeRecorded<'a> {
    /// The id that its source gave it, 1..128 bytes.
    pub outcome_id: Cow<'a, str>,
    /// The producing service, 1..128 bytes.
    pub source: Cow<'a, str>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// Whose content it is; a legal id.
    pub org_id: Cow<'a, str>,
    /// What it speaks of.
    pub subject: Subject<'a>,
    /// Absent values come from the content row.
    pub dims: Dims<'a>,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// 1..=5.
    pub rating: Option<u8>,
    /// In the org's currency, an integer of 10^-6 within +-10^9 units.
    pub value: Option<Credits>,
}

/// Any record of the usage topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// One prompt or call.
    Usage(UsageEvent<'a>),
    /// A correction.
    Adjusted(UsageAdjusted<'a>),
    /// What became of content.
    Outcome(OutcomeRecorded<'a>),
}

/// The record type of an event; the number is part of the stored ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventType {
    /// `UsageEvent`.
    Usage = 1,
    /// `UsageAdjusted`.
    Adjusted = 2,
    /// `OutcomeRecorded`.
    Outcome = 3,
}

impl Event<'_> {
    /// Its record type.
    #[must_use]
    pub const fn event_type(&self) -> EventType {
        match self {
            Self::Usage(_) => EventType::Usage,
            Self::Adjusted(_) => EventType::Adjusted,
            Self::Outcome(_) => EventType::Outcome,
        }
    }

    /// The org that pays.
    #[must_use]
    pub fn org_id(&self) -> &str {
        match self {
            Self::Usage(event) => &event.org_id,
            Self::Adjusted(event) => &event.org_id,
            Self::Outcome(event) => &event.org_id,
        }
    }

    /// The producing service.
    #[must_use]
    pub fn source(&self) -> &str {
        match self {
            Self::Usage(event) => &event.source,
            Self::Adjusted(event) => &event.source,
            Self::Outcome(event) => &event.source,
        }
    }

    /// The id that its source gave it.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Usage(event) => &event.event_id,
            Self::Adjusted(event) => &event.adjustment_id,
            Self::Outcome(event) => &event.outcome_id,
        }
    }

    /// The credits that it adds; `None` for an outcome.
    #[must_use]
    pub const fn credits(&self) -> Option<Credits> {
        match self {
            Self::Usage(event) => Some(event.credits),
            Self::Adjusted(event) => Some(event.credits),
            Self::Outcome(_) => None,
        }
    }

    /// When it happened.
    #[must_use]
    pub const fn occurred_at(&self) -> Timestamp {
        match self {
            Self::Usage(event) => event.occurred_at,
            Self::Adjusted(event) => event.occurred_at,
            Self::Outcome(event) => event.occurred_at,
        }
    }

    /// The trace it belongs to, where it says so itself.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        match self {
            Self::Usage(event) => event.trace_id.as_deref(),
            _ => None,
        }
    }
}
