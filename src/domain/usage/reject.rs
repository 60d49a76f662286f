//! Why a record cannot be folded: the named reasons of a dead letter (CONTRACT.md, Dead letter).

use std::fmt;

/// The reason in the header `tallyman-reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The bytes are none of the three encodings, or end early, or are no value of their schema.
    Undecodable,
    /// A fingerprint nobody knows, a schema id that the registry denies, or a schema that cannot be read as ours.
    UnknownSchema,
    /// A field is missing, malformed or not one of the allowed values.
    BadField,
    /// A decimal is malformed or has more decimals than its field.
    BadDecimal,
    /// `occurred_at` lies over 5 minutes past the record's own time.
    InFuture,
    /// A usage event over 90 days older than its record's own time.
    TooOld,
    /// The id of an accepted record with other fields.
    IdConflict,
    /// A number beyond its bounds.
    OutOfRange,
    /// Forwarded once already, and foreign again.
    Misrouted,
    /// A type that this topic does not hold.
    UnknownType,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Undecodable,
        Self::UnknownSchema,
        Self::BadField,
        Self::BadDecimal,
        Self::InFuture,
        Self::TooOld,
        Self::IdConflict,
        Self::OutOfRange,
        Self::Misrouted,
        Self::UnknownType,
    ];

    /// The reason's text in headers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::UnknownSchema => "unknown_schema",
            Self::BadField => "bad_field",
            Self::BadDecimal => "bad_decimal",
            Self::InFuture => "in_future",
            Self::TooOld => "too_old",
            Self::IdConflict => "id_conflict",
            Self::OutOfRange => "out_of_range",
            Self::Misrouted => "misrouted",
            Self::UnknownType => "unknown_type",
        }
    }
}

/// A record's refusal: the named reason, and the detail that tells a person what and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The named reason.
    pub reason: Reason,
    /// What was wrong, naming the field.
    pub detail: String,
}

impl Reject {
    /// A refusal for `reason`, told by `detail`.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.detail)
    }
}

impl std::error::Error for Reject {}
