//! The decision: what an org's terms, its usage and the instant make of it. Pure, and the only place that says when
//! usage is blocked (Law 2). It must never know where its facts come from or who hears of the result: the task reads
//! rows and publishes differences (Law 4). Next to read: `inputs`, `terms::period`, `alert`.

use crate::domain::credits::CreditSum;
use crate::domain::limits::decision::{Action, DecisionReason, Figures, Level};
use crate::domain::limits::forecast::{self, Outlook};
use crate::domain::limits::inputs::{Granted, Inputs};
use crate::domain::limits::percent::level_reached;
use crate::domain::limits::purchase::{self, Asked};
use crate::domain::terms::in_force::{InForce, in_force};
use crate::domain::terms::records::{LimitMode, OrgStatus, extra_of};
use crate::domain::time::Timestamp;

/// How much an org may use in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Credits of the base allocation.
    pub base: CreditSum,
    /// Credits that may be used: the base allocation and what grants add to it.
    pub allowance: CreditSum,
    /// Credits beyond the allowance; `None` without an end.
    pub extra: Option<CreditSum>,
}

impl Limit {
    /// The same with what grants make of the allowance.
    #[must_use]
    pub fn with(self, granted: Option<Granted>) -> Self {
        Self { allowance: granted.map_or(self.allowance, |granted| granted.allowance), ..self }
    }

    /// Where usage is blocked; `None` without an end.
    #[must_use]
    pub fn line(self) -> Option<CreditSum> {
        Some(self.allowance + self.extra?)
    }
}

/// The limit of those terms; `None` when there is none.
#[must_use]
pub fn limit_of(terms: InForce<'_>) -> Option<Limit> {
    match terms {
        InForce::Nothing => None,
        InForce::Block => {
            let zero = CreditSum::ZERO;
            Some(Limit { base: zero, allowance: zero, extra: Some(zero) })
        }
        InForce::Policy(_, policy) if policy.unlimited => None,
        InForce::Policy(_, policy) => {
            let base = CreditSum::from(policy.base_allocation);
            Some(Limit { base, allowance: base, extra: extra_of(policy) })
        }
    }
}

/// max(0, allowance - used).
#[must_use]
pub fn remaining(allowance: CreditSum, used: CreditSum) -> CreditSum {
    (allowance - used).max(CreditSum::ZERO)
}

/// Whether a guard blocks usage that is below the line, but beyond it with what is `ahead`.
#[must_use]
pub fn is_near(used: CreditSum, ahead: CreditSum, line: CreditSum) -> bool {
    used < line && used + ahead >= line
}

/// A decision before it is known whether it is another one than the published one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What makes it differ.
    pub level: Level,
    /// What informs.
    pub figures: Figures,
    /// Offset of the policy in force, `None` without one of the org's own.
    pub policy_offset: Option<i64>,
    /// The purchase that goes out with it.
    pub purchase: Option<Asked>,
    /// What the recent rate makes of the allowance.
    pub outlook: Outlook,
}

/// Decides whether the org may go on spending (CONTRACT.md, Meaning: Allowance and Decision).
///
/// Without a limit (unlimited, or no policy where that allows) allowance, extra and remaining are `None` and the
/// level is 0. `valid_until` is greater than `now`.
#[must_use]
pub fn judge(facts: &Inputs<'_>) -> Judgement {
    let policies = facts.terms.map(|terms| &terms.policies);
    let terms = in_force(policies, facts.default, facts.now);
    let limit = limit_of(terms).map(|limit| limit.with(facts.granted));
    let (policy_offset, thresholds) = match terms {
        InForce::Policy(offset, policy) => (offset, policy.thresholds.as_slice()),
        InForce::Nothing | InForce::Block => (None, [].as_slice()),
    };
    let period_start = facts.period.starts_at();
    let sent = facts.previous.filter(|previous| previous.period_start == period_start);
    let (action, reason) = match verdict(terms, limit, facts.used) {
        plain if !is_guarded(plain.1, limit, facts, sent) => plain,
        _ => (Action::Block, DecisionReason::Guard),
    };
    let purchase = limit.and_then(|limit| purchase::asked(facts, terms, limit.allowance, sent));
    let mut level = Level {
        action,
        reason,
        level: limit.map_or(0, |limit| level_reached(thresholds, facts.used, limit.allowance)),
        allowance: limit.map(|limit| limit.allowance),
        extra: limit.and_then(|limit| limit.extra),
        budget: None,
        period_start,
        period_end: facts.period.ends_at(),
        valid_until: valid_until(facts),
        forecast_alerted_on: None,
        purchases_requested: purchase
            .map_or(sent.map_or(0, |sent| sent.purchases_requested), |asked| asked.ordinal),
    };
    let figures = Figures {
        used: facts.used,
        remaining: limit.map(|limit| remaining(limit.allowance, facts.used)),
        micros_per_second: facts.micros_per_second,
    };
    let outlook = forecast::outlook(&level, &figures, facts.now);
    level.forecast_alerted_on =
        forecast::alerted_on((&level, outlook), facts.previous, facts.forecast_cleared, facts.now);
    Judgement { level, figures, policy_offset, purchase, outlook }
}

fn verdict(terms: InForce<'_>, limit: Option<Limit>, used: CreditSum) -> (Action, DecisionReason) {
    let policy = match terms {
        InForce::Nothing => return (Action::Allow, DecisionReason::NoPolicy),
        InForce::Block => return (Action::Block, DecisionReason::NoPolicy),
        InForce::Policy(_, policy) => policy,
    };
    if policy.status == OrgStatus::Suspended {
        return (Action::Block, DecisionReason::Suspended);
    }
    let Some(limit) = limit else { return (Action::Allow, DecisionReason::Unlimited) };
    if used < limit.allowance {
        return (Action::Allow, DecisionReason::WithinAllowance);
    }
    match (policy.limit_mode, limit.extra) {
        (LimitMode::Hard, _) => (Action::Block, DecisionReason::AllowanceSpent),
        (LimitMode::Soft, Some(extra)) if used >= limit.allowance + extra => {
            (Action::Block, DecisionReason::OverageSpent)
        }
        (LimitMode::Soft, _) => (Action::Allow, DecisionReason::InOverage),
    }
}

/// Whether the guard blocks: the line is near, or was when a record came; or it blocked already for the same limit and
/// period, for a rate that falls because of the block must not lift it.
fn is_guarded(plain: DecisionReason, limit: Option<Limit>, facts: &Inputs<'_>, sent: Option<&Level>) -> bool {
    use DecisionReason::{AllowanceSpent, InOverage, OverageSpent, WithinAllowance};
    let line = limit.and_then(Limit::line);
    let (Some(ahead), Some(limit), Some(line)) = (facts.ahead, limit, line) else { return false };
    let stays = |sent: &Level| {
        sent.reason == DecisionReason::Guard
            && (sent.allowance, sent.extra) == (Some(limit.allowance), limit.extra)
            && sent.period_end == facts.period.ends_at()
    };
    matches!(plain, WithinAllowance | InOverage | AllowanceSpent | OverageSpent)
        && (ahead.near == Some(line) || is_near(facts.used, ahead.credits, line) || sent.is_some_and(stays))
}

/// The next instant at which time alone changes the decision: the period's end, another policy, or a grant's start or
/// end, whichever is first.
fn valid_until(facts: &Inputs<'_>) -> Timestamp {
    let end = facts.period.ends_at();
    let policy = facts.terms.and_then(|terms| terms.policies.next_change_after(facts.now));
    let grant = facts.granted.map(|granted| granted.until);
    policy.into_iter().chain(grant).fold(end, Timestamp::min)
}

/// The version of the next decision of a scope: greater than the previous one, and at least `decided_at` in
/// microseconds, so that it also grows when the previous one was lost.
#[must_use]
pub fn next_version(previous: Option<i64>, decided_at: Timestamp) -> i64 {
    previous.map_or(decided_at.micros(), |previous| decided_at.micros().max(previous.saturating_add(1)))
}
