//! What an org's decision follows from. Next to read: `decide`.

use crate::domain::credits::CreditSum;
use crate::domain::limits::decision::Level;
use crate::domain::terms::book::OrgTerms;
use crate::domain::terms::period::Period;
use crate::domain::terms::records::DefaultTerms;
use crate::domain::time::Timestamp;

/// What an org's grants make of its allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The allowance with them, [`crate::domain::limits::walk::Balance::allowance`]; means nothing without a limit.
    pub allowance: CreditSum,
    /// When one starts or ends next, [`crate::domain::limits::walk::Walk::until`].
    pub until: Timestamp,
}

/// What a guard sees coming (`limits.guard`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Credits that the recent rate spends before a block would be heard of.
    pub credits: CreditSum,
    /// The line that a record came near to since the last decision.
    pub near: Option<CreditSum>,
}

/// All that an org's decision follows from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The org.
    pub org: &'a str,
    /// The org's terms; `None` when it never had any.
    pub terms: Option<&'a OrgTerms>,
    /// What its grants make of the allowance; `None` without grants.
    pub granted: Option<Granted>,
    /// What an org without a policy in force gets.
    pub default: &'a DefaultTerms,
    /// The period that holds `now`: [`crate::domain::terms::period::period_at`] of the same terms.
    pub period: Period,
    /// Credits used in the period.
    pub used: CreditSum,
    /// Recent rate in micro-credits per second.
    pub micros_per_second: i128,
    /// The level that was last published; what it sent in this period is carried on.
    pub previous: Option<&'a Level>,
    /// Whether the allowance would have lasted at some time since the last forecast alert.
    pub forecast_cleared: bool,
    /// What its guard sees coming; `None` without a guard.
    pub ahead: Option<Ahead>,
    /// max(wall clock, last decided_at).
    pub now: Timestamp,
}
