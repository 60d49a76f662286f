//! A content row: what one piece of content cost, how often it was tried, and what became of it.

use crate::domain::credits::CreditSum;
use crate::domain::time::Hour;
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::event::Outcome;

/// Owned dimension values of a row.
pub type Values = [Option<Box<str>>; Dimension::COUNT];

/// What became of the content, and where that was counted, so that a later outcome can take it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// 1..=5.
    pub rating: Option<u8>,
    /// In the org's currency, an integer of 10^-6.
    pub value: Option<i128>,
    /// The hour in which it was counted.
    pub hour: Hour,
    /// The dimension values under which it was counted.
    pub values: Box<Values>,
    /// Whether it counted as accepted at the first attempt.
    pub first_attempt: bool,
}

/// One piece of content of one org.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Credits of its events.
    pub credits: CreditSum,
    /// Events folded for it.
    pub events: u64,
    /// The greatest attempt seen.
    pub attempts: i64,
    /// The dimension values of its latest event.
    pub values: Box<Values>,
    /// What became of it.
    pub settled: Option<Settled>,
}
