//! Budgets: which record of one is in force, over which period it counts, which values it binds, and what its scope's
//! use makes of it. Pure: it must never know where sums come from or who hears of the result.
//!
//! A scope whose budget went, or that nobody calls for any more, is *over*: its level has no allowance, it is allowed,
//! and its `valid_until` says when its record goes. Next: `period::cycle_at` for the period it
//! counts over, `processor::orgs` for the scopes of an org beside its rows.

use crate::domain::credits::CreditSum;
use crate::domain::limits::decide::{Judgement, remaining};
use crate::domain::limits::decision::{Action, DecisionReason, Figures, Level};
use crate::domain::limits::forecast::{self, Outlook};
use crate::domain::limits::percent::level_reached;
use crate::domain::limits::scope::{BudgetScope, Scope};
use crate::domain::terms::book::History;
use crate::domain::terms::period::Period;
use crate::domain::terms::records::{Budget, BudgetAction};
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;

/// From the end of a scope to its tombstone, microseconds (CONTRACT.md, LimitDecision).
pub const TOMBSTONE_AFTER: i64 = 24 * 3_600_000_000;
/// The `value` of a budget that binds each value separately.
pub const EACH: &str = "*";

/// A scope's forecast is looked at each time another of so many parts of its limit is used. Nothing is foretold before the
/// first: a few requests in an hour are no rate, and every new value would be told of.
const FORECAST_PARTS: i128 = 20;

/// What a budget binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binds {
    /// The whole org.
    Org,
    /// One value of a dimension.
    Value(Dimension, Box<str>),
    /// Each value of a dimension separately.
    Each(Dimension),
}

impl Binds {
    /// What the record `budget` binds.
    #[must_use]
    pub fn of(budget: &Budget) -> Self {
        match (budget.dimension, budget.value.as_deref()) {
            (Some(dimension), Some(EACH)) => Self::Each(dimension),
            (Some(dimension), Some(value)) => Self::Value(dimension, value.into()),
            (Some(dimension), None) => Self::Each(dimension),
            (None, _) => Self::Org,
        }
    }

    /// Its dimension; `None` for the whole org.
    #[must_use]
    pub const fn dimension(&self) -> Option<Dimension> {
        match self {
            Self::Org => None,
            Self::Value(dimension, _) | Self::Each(dimension) => Some(*dimension),
        }
    }

    /// The value of the scope that always stands while the budget is in force: its own, or none for the whole org and
    /// for the rest of a `*` budget.
    #[must_use]
    pub fn standing(&self) -> Option<&str> {
        match self {
            Self::Value(_, value) => Some(value),
            Self::Org | Self::Each(_) => None,
        }
    }
}

/// The scope of `budget_id` for one value.
#[must_use]
pub fn scope(org: &str, budget_id: &str, dimension: Option<Dimension>, value: Option<&str>) -> Scope {
    let budget = BudgetScope { dimension, value: value.map(str::to_owned), budget_id: budget_id.to_owned() };
    Scope { org_id: org.to_owned(), budget: Some(budget) }
}

/// The record in force at `at` with its offset: the greatest (effective_at, offset) with effective_at <= `at`; `None`
/// before the first, and from that record's `expires_at` on.
#[must_use]
pub fn in_force(history: &History<Budget>, at: Timestamp) -> Option<(i64, &Budget)> {
    history.in_force(at).filter(|(_, budget)| budget.expires_at.is_none_or(|expires_at| at < expires_at))
}

/// The next instant after `at` at which time alone puts another record in force, or none.
#[must_use]
pub fn next_change(history: &History<Budget>, at: Timestamp) -> Option<Timestamp> {
    let expiry = in_force(history, at).and_then(|(_, budget)| budget.expires_at);
    [history.next_change_after(at), expiry].into_iter().flatten().min()
}

/// Whether any budget of `others` overrides the `*` budget `each` for `value` at `at`: it is in force there, names the
/// same dimension and exactly that value, whatever its period and action.
#[must_use]
pub fn overrides(others: &[&History<Budget>], each: &Budget, value: &str, at: Timestamp) -> bool {
    others
        .iter()
        .filter_map(|history| in_force(history, at))
        .any(|(_, exact)| exact.dimension == each.dimension && exact.value.as_deref() == Some(value))
}

/// The next instant after `at` at which time alone starts or ends that.
#[must_use]
pub fn override_turns(
    others: &[&History<Budget>],
    each: &Budget,
    value: &str,
    at: Timestamp,
) -> Option<Timestamp> {
    let now = overrides(others, each, value, at);
    let next = |at: Timestamp| others.iter().filter_map(|history| next_change(history, at)).min();
    let mut changes = std::iter::successors(next(at), |&change| next(change));
    changes.find(|&change| overrides(others, each, value, change) != now)
}

/// Whether the budget blocks from the first credit on, so that its rest blocks too.
#[must_use]
pub fn is_closed(budget: &Budget) -> bool {
    budget.action == BudgetAction::Block && budget.limit.micros() == 0
}

/// A scope under a budget in force.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// The record in force and its offset in the policies partition.
    pub budget: (i64, &'a Budget),
    /// The budget's period that holds now.
    pub period: Period,
    /// Credits the scope used in it.
    pub used: CreditSum,
    /// Recent rate in micro-credits per second.
    pub micros_per_second: i128,
    /// The next instant, if before the period's end, at which time alone changes what binds the scope.
    pub changes_at: Option<Timestamp>,
}

impl Use<'_> {
    /// What the scope is told (CONTRACT.md, Meaning: Decision). Beyond the limit a BLOCK budget leaves nothing (extra
    /// 0); a WARN budget says that it is spent and never blocks (extra `None`: without an end).
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let (_, budget) = self.budget;
        let limit = CreditSum::from(budget.limit);
        let (action, reason) = match (self.used >= limit, budget.action) {
            (false, _) => (Action::Allow, DecisionReason::WithinBudget),
            (true, BudgetAction::Block) => (Action::Block, DecisionReason::BudgetSpent),
            (true, BudgetAction::Warn) => (Action::Allow, DecisionReason::BudgetSpent),
        };
        let extra = (budget.action == BudgetAction::Block).then_some(CreditSum::ZERO);
        let level = level_reached(&budget.thresholds, self.used, limit);
        self.judgement((action, reason), level, Some(limit), extra)
    }

    /// What a value is told that another budget binds in place of a `*` budget that blocks all others: no limit here.
    #[must_use]
    pub fn exempt(&self) -> Judgement {
        self.judgement((Action::Allow, DecisionReason::WithinBudget), 0, None, None)
    }

    fn judgement(
        &self,
        (action, reason): (Action, DecisionReason),
        level: i32,
        allowance: Option<CreditSum>,
        extra: Option<CreditSum>,
    ) -> Judgement {
        let (offset, budget) = self.budget;
        let end = self.period.ends_at();
        let level = Level {
            action,
            reason,
            level,
            allowance,
            extra,
            budget: Some((budget.name.clone(), budget.period)),
            period_start: self.period.starts_at(),
            period_end: end,
            valid_until: self.changes_at.map_or(end, |at| at.min(end)),
            forecast_alerted_on: None,
            purchases_requested: 0,
        };
        let figures = Figures {
            used: self.used,
            remaining: allowance.map(|allowance| remaining(allowance, self.used)),
            micros_per_second: self.micros_per_second,
        };
        Judgement { level, figures, policy_offset: Some(offset), purchase: None, outlook: Outlook::Lasts }
    }

    /// The uses, from the first and below the second, among which the judgement is this one's but for `used`.
    #[must_use]
    pub fn steady(&self) -> Steady {
        let (_, budget) = self.budget;
        let limit = i128::from(budget.limit.micros());
        // Threshold T is reached from the least use above 0 with 100 x use >= T x limit on.
        let reached_at = |threshold: &i32| (i128::from(*threshold) * limit + 99).div_euclid(100).max(1);
        let mut steady = Steady::ALWAYS;
        for edge in budget.thresholds.iter().map(reached_at).chain([limit]).map(CreditSum) {
            if edge <= self.used {
                steady.from = steady.from.max(edge);
            } else {
                steady.below = steady.below.min(edge);
            }
        }
        steady
    }

    /// Likewise, up to the next use at which its forecast is looked at.
    #[must_use]
    pub fn watched(&self) -> Steady {
        let (_, budget) = self.budget;
        let limit = i128::from(budget.limit.micros());
        let part = (limit / FORECAST_PARTS).max(1);
        let mut steady = self.steady();
        if self.used.micros() < limit {
            let next = (self.used.micros().div_euclid(part) + 1) * part;
            steady.below = steady.below.min(CreditSum(next));
        }
        steady
    }
}

/// What the recent rate makes of a scope's limit at `now`.
#[must_use]
pub fn outlook(level: &Level, figures: &Figures, now: Timestamp) -> Outlook {
    let begun = |limit: CreditSum| figures.used.micros() * FORECAST_PARTS >= limit.micros();
    if level.allowance.is_some_and(begun) { forecast::outlook(level, figures, now) } else { Outlook::Lasts }
}

/// A range of uses, from the first and below the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steady {
    from: CreditSum,
    below: CreditSum,
}

impl Steady {
    /// All uses.
    pub const ALWAYS: Self = Self { from: CreditSum(i128::MIN), below: CreditSum(i128::MAX) };
    /// None.
    pub const NEVER: Self = Self { from: CreditSum::ZERO, below: CreditSum::ZERO };

    /// Whether `used` is among them.
    #[must_use]
    pub fn holds(&self, used: CreditSum) -> bool {
        self.from <= used && used < self.below
    }
}

/// What a scope is told that ends at `now`, after `previous`: allowed without a limit, until its tombstone.
#[must_use]
pub fn over(previous: &Level, used: CreditSum, micros_per_second: i128, now: Timestamp) -> Judgement {
    let level = Level {
        action: Action::Allow,
        reason: DecisionReason::WithinBudget,
        level: 0,
        allowance: None,
        extra: None,
        valid_until: now.plus_micros(TOMBSTONE_AFTER),
        ..previous.clone()
    };
    let figures = Figures { used, remaining: None, micros_per_second };
    Judgement { level, figures, policy_offset: None, purchase: None, outlook: Outlook::Lasts }
}

/// Whether a budget scope's level says that it is over, or exempt.
#[must_use]
pub const fn is_over(level: &Level) -> bool {
    level.allowance.is_none()
}
