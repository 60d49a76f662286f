//! A decision as it is published, and the part of it that makes it another decision: its level (Law 4).

use crate::domain::credits::CreditSum;
use crate::domain::limits::scope::Scope;
use crate::domain::terms::records::BudgetPeriod;
use crate::domain::time::Timestamp;

/// Whether a scope may go on spending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It may.
    Allow,
    /// It may not.
    Block,
}

impl Action {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Block => "BLOCK",
        }
    }

    /// The action of that wire name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Allow, Self::Block].into_iter().find(|action| action.name() == name)
    }
}

/// Why a decision is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "CONTRACT.md names them; each says what it means in `decide`")]
pub enum DecisionReason {
    WithinAllowance,
    InOverage,
    AllowanceSpent,
    OverageSpent,
    WithinBudget,
    BudgetSpent,
    Guard,
    Suspended,
    NoPolicy,
    Unlimited,
}

impl DecisionReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::WithinAllowance,
        Self::InOverage,
        Self::AllowanceSpent,
        Self::OverageSpent,
        Self::WithinBudget,
        Self::BudgetSpent,
        Self::Guard,
        Self::Suspended,
        Self::NoPolicy,
        Self::Unlimited,
    ];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WithinAllowance => "WITHIN_ALLOWANCE",
            Self::InOverage => "IN_OVERAGE",
            Self::AllowanceSpent => "ALLOWANCE_SPENT",
            Self::OverageSpent => "OVERAGE_SPENT",
            Self::WithinBudget => "WITHIN_BUDGET",
            Self::BudgetSpent => "BUDGET_SPENT",
            Self::Guard => "GUARD",
            Self::Suspended => "SUSPENDED",
            Self::NoPolicy => "NO_POLICY",
            Self::Unlimited => "UNLIMITED",
        }
    }

    /// The reason of that wire name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// What makes one decision differ from another: a decision is published when this changes (CONTRACT.md,
/// LimitDecision), and only then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Allow or block.
    pub action: Action,
    /// Why.
    pub reason: DecisionReason,
    /// Highest threshold reached in percent, 0 if none.
    pub level: i32,
    /// Credits that may be used in the period; `None` when unlimited.
    pub allowance: Option<CreditSum>,
    /// Credits beyond the allowance; `None` without an end.
    pub extra: Option<CreditSum>,
    /// The budget's name and period, for a budget's scope.
    pub budget: Option<(String, BudgetPeriod)>,
    /// Start of the period.
    pub period_start: Timestamp,
    /// End of the period.
    pub period_end: Timestamp,
    /// The next instant at which time alone changes the decision.
    pub valid_until: Timestamp,
    /// The last UTC day on which a forecast alert went out.
    pub forecast_alerted_on: Option<i32>,
    /// Purchases requested in this period.
    pub purchases_requested: i32,
}

/// The numbers of a decision that inform and never cause another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Credits used in the period.
    pub used: CreditSum,
    /// max(0, allowance - used); `None` when unlimited.
    pub remaining: Option<CreditSum>,
    /// Recent rate in micro-credits per second.
    pub micros_per_second: i128,
}

/// What caused a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The record's place, where a record caused it.
    pub record: Option<(i32, i64)>,
    /// The event's id.
    pub event_id: Option<String>,
    /// The event's trace.
    pub trace_id: Option<String>,
    /// Offset of the policy in force.
    pub policy_offset: Option<i64>,
}

/// A decision as gateways read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitDecision {
    /// What it binds.
    pub scope: Scope,
    /// What makes it differ.
    pub level: Level,
    /// What informs.
    pub figures: Figures,
    /// Greater with each decision of the key; at least `decided_at` in microseconds.
    pub version: i64,
    /// When it was made.
    pub decided_at: Timestamp,
    /// What caused it.
    pub cause: Cause,
}

/// The sign of life of a partition's decider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Which partition.
    pub partition: i32,
    /// When it was sent.
    pub at: Timestamp,
    /// Log time of the partition's usage.
    pub log_time: Timestamp,
}
