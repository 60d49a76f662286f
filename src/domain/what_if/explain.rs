//! Why a scope is blocked or allowed, and what would unblock it: the arithmetic behind `tallyman explain`. Pure: it takes
//! what was judged and never judges by rules of its own; each amount is exact, to the micro-credit. Next: `replay` for
//! since when.

use crate::domain::credits::{CreditSum, RECORD_CREDITS_MAX};
use crate::domain::limits::decision::{Action, DecisionReason, Figures, Level, LimitDecision};
use crate::domain::limits::scope::Scope;
use crate::domain::terms::in_force::InForce;
use crate::domain::terms::records::LimitMode;
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;

/// Something that would unblock a scope. Amounts must be exceeded: at exactly that much it is still blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing more than waiting.
    WaitUntil(Timestamp),
    /// A base allocation above this.
    RaiseBase(CreditSum),
    /// A soft extra above this, in SOFT mode.
    RaiseSoftExtra(CreditSum),
    /// A grant of more than this.
    Buy(CreditSum),
    /// Grants of more than this together: more than one may hold.
    BuySeveral(CreditSum),
    /// A budget's limit above this, or an end of the budget.
    RaiseBudget(CreditSum),
    /// An end of the budget, for no limit would do.
    EndBudget,
    /// The status `active`.
    Activate,
    /// A policy of its own.
    GivePolicy,
}

/// What would unblock a scope that was judged so under those terms, as far as a record can say it; nothing for one that is
/// allowed. That waiting helps
/// is for the caller to find out, `unblocked_at`, and so is the greatest base allocation that would not help:
/// `Replay::greatest_blocked_base`, for a greater one also pays what grants paid that have ended since.
#[must_use]
pub fn remedies(
    level: &Level,
    figures: &Figures,
    terms: InForce<'_>,
    unblocked_at: Option<Timestamp>,
    greatest_blocked_base: Option<CreditSum>,
) -> Vec<Remedy> {
    if level.action == Action::Allow {
        return Vec::new();
    }
    let mut remedies: Vec<Remedy> = unblocked_at.into_iter().map(Remedy::WaitUntil).collect();
    let used = figures.used;
    // What a record may say.
    let can_be_exceeded = |sum: CreditSum| sum < CreditSum(RECORD_CREDITS_MAX.into());
    match (level.reason, level.allowance, terms) {
        (DecisionReason::Suspended, ..) => remedies.push(Remedy::Activate),
        (DecisionReason::NoPolicy, ..) => remedies.push(Remedy::GivePolicy),
        (DecisionReason::BudgetSpent, Some(_), _) => {
            remedies.push(if can_be_exceeded(used) { Remedy::RaiseBudget(used) } else { Remedy::EndBudget });
        }
        (_, Some(allowance), InForce::Policy(_, policy)) => {
            let extra = level.extra.unwrap_or_default();
            // A guard blocks before the limit is reached; any other limit ends that.
            let overage = (used - allowance).max(extra);
            remedies.extend(greatest_blocked_base.map(Remedy::RaiseBase));
            let is_endless = policy.limit_mode == LimitMode::Soft && policy.unlimited_overage;
            if !is_endless && can_be_exceeded(overage) {
                remedies.push(Remedy::RaiseSoftExtra(overage));
            }
            let missing = overage - extra;
            let buy = if can_be_exceeded(missing) { Remedy::Buy } else { Remedy::BuySeveral };
            remedies.push(buy(missing));
        }
        _ => {}
    }
    remedies
}

/// The decision that is told of a request with this value: of those that bind it, the blocked first, then the one with
/// least remaining.
#[must_use]
pub fn told<'a>(decisions: &'a [LimitDecision], value: Option<(Dimension, &str)>) -> Option<&'a LimitDecision> {
    let rank = |scope: &Scope| {
        let dimension = scope.budget.as_ref().and_then(|budget| budget.dimension);
        dimension
            .and_then(|dimension| Dimension::TOLD_FIRST.iter().position(|told| *told == dimension))
            .unwrap_or(Dimension::TOLD_FIRST.len())
    };
    let order = |decision: &&LimitDecision| {
        let remaining = decision.figures.remaining.map_or(i128::MAX, |left| left.0);
        (decision.level.action != Action::Block, remaining, rank(&decision.scope))
    };
    decisions.iter().filter(|decision| binds(decisions, &decision.scope, value)).min_by_key(order)
}

/// Whether a scope binds a request with that value: the org's own and whole-org budgets always, another when it names
/// the value, or names none and the value has no decision of its own under that budget, nor under one that is for
/// exactly that value: such a budget has no decision without a value. One that is over, and waits for its tombstone
/// without an allowance, is for nobody any more.
fn binds(decisions: &[LimitDecision], scope: &Scope, asked: Option<(Dimension, &str)>) -> bool {
    let Some(budget) = &scope.budget else { return true };
    let Some(dimension) = budget.dimension else { return true };
    let Some((asked_dimension, asked_value)) = asked else { return false };
    if dimension != asked_dimension {
        return false;
    }
    if let Some(value) = &budget.value {
        return value == asked_value;
    }
    let others =
        || decisions.iter().filter_map(|other| Some((other.scope.budget.as_ref()?, other.level.allowance)));
    let is_exact = |id: &str| !others().any(|(other, _)| other.budget_id == id && other.value.is_none());
    !others().any(|(other, allowance)| {
        other.dimension == budget.dimension
            && other.value.as_deref() == Some(asked_value)
            && (other.budget_id == budget.budget_id || allowance.is_some() && is_exact(&other.budget_id))
    })
}
