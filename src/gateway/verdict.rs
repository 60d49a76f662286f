//! What is asked and what is answered. Neither allocates: a request borrows, a verdict keeps the part of the table that it was
//! found in.

use std::borrow::Cow;

use super::dimensions::Dimensions;
use super::held::Held;
use super::told::Place;
use crate::domain::limits::decision::{Action, LimitDecision};
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;

/// What a request will be counted under: its org, and the values of those dimensions that the gateway knows.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub(super) org: &'a str,
    /// Those that it has a value of.
    pub(super) dimensions: Dimensions,
    values: [Option<&'a str>; Dimension::COUNT],
}

impl<'a> Request<'a> {
    /// No value of any dimension.
    const UNSET: [Option<&'static str>; Dimension::COUNT] = [None; Dimension::COUNT];

    /// A request of this org. An id that cannot be one is an unknown org.
    #[inline]
    #[must_use]
    pub const fn of(org: &'a str) -> Self {
        Self { org, dimensions: Dimensions::NONE, values: Self::UNSET }
    }

    /// The same, with this dimension's value.
    #[inline]
    #[must_use]
    pub const fn with(mut self, dimension: Dimension, value: &'a str) -> Self {
        self.dimensions = self.dimensions.with(dimension);
        self.values[dimension.index()] = Some(value);
        self
    }

    #[inline]
    pub(super) const fn value(&self, dimension: Dimension) -> Option<&'a str> {
        self.values[dimension.index()]
    }
}

/// Why a verdict is what it is.
pub(super) enum Basis {
    /// A decision says so.
    Decision(Place),
    /// The org has no decision, or a decision has an action of a later version: `gate.unknown`.
    Unknown(Option<Place>),
    /// The partition's heartbeat is old: `gate.stale`.
    Stale,
}

/// What a gateway does with a request, and why.
pub struct Verdict {
    pub(super) action: Action,
    pub(super) basis: Basis,
}

impl std::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} of {}", self.action.name(), self.reason(), self.scope().unwrap_or("nobody"))
    }
}

impl Verdict {
    /// Whether to refuse it.
    #[inline]
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.action == Action::Block
    }

    /// Allow or block.
    #[inline]
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// The decision's reason; `UNKNOWN` where `gate.unknown` settles it, `STALE` where `gate.stale` does.
    #[must_use]
    pub fn reason(&self) -> &str {
        match &self.basis {
            Basis::Decision(place) => place.held().reason(),
            Basis::Unknown(_) => "UNKNOWN",
            Basis::Stale => "STALE",
        }
    }

    fn held(&self) -> Option<&Held> {
        match &self.basis {
            Basis::Decision(place) | Basis::Unknown(Some(place)) => Some(place.held()),
            Basis::Unknown(None) | Basis::Stale => None,
        }
    }

    /// The key of the scope that is told (CONTRACT.md, LimitDecision); `None` without a decision.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.held().map(Held::key)
    }

    /// The decision's version.
    #[must_use]
    pub fn version(&self) -> Option<i64> {
        self.held().map(|held| held.version)
    }

    /// Of a block that a new period ends: when that begins. An org that is suspended or has no policy waits for a
    /// person, not for time.
    #[must_use]
    pub fn reset_at(&self) -> Option<Timestamp> {
        let spent =
            |held: &&Held| matches!(held.reason(), "ALLOWANCE_SPENT" | "OVERAGE_SPENT" | "BUDGET_SPENT" | "GUARD");
        self.held().filter(|_| self.is_blocked()).filter(spent).map(|held| held.period_end)
    }

    /// The whole decision; `None` without one, or when it holds words that this version does not know.
    #[must_use]
    pub fn decision(&self) -> Option<LimitDecision> {
        self.held().and_then(Held::decision)
    }

    /// The decision as JSON text, where there is one that can be shown.
    #[must_use]
    pub fn decision_json(&self) -> Option<Cow<'_, [u8]>> {
        self.held().and_then(Held::json)
    }
}
