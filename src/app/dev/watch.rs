//! Follows the decisions topic as a gateway does, and tells what changed in plain words.

use std::fmt::Write as _;
use std::sync::mpsc::Sender;

use crate::clock::{Clock as _, SystemClock};
use crate::codec::Decoder;
use crate::domain::credits::CreditSum;
use crate::domain::limits::decision::{Action, DecisionReason, LimitDecision};
use crate::domain::limits::scope::Scope;
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;
use crate::processor::ports::Record;

/// A decision and when it could be read.
pub(super) struct Seen {
    pub(super) decision: LimitDecision,
    pub(super) at: Timestamp,
}

/// Hands decisions on; heartbeats and tombstones are not for people.
pub(super) struct Watch {
    decoder: Decoder,
    to: Sender<Seen>,
}

impl Watch {
    pub(super) fn new(to: Sender<Seen>) -> Self {
        Self { decoder: Decoder::new(None), to }
    }

    pub(super) fn take(&mut self, record: &Record<'_>) {
        let at = SystemClock.now();
        if record.key.is_some_and(|key| key.starts_with(b"!")) {
            return;
        }
        if let Some(Ok(decision)) = record.value.map(|value| self.decoder.decision(value)) {
            // Nobody listens any more when the demo ends.
            let _ = self.to.send(Seen { decision, at });
        }
    }
}

/// Whether a gateway refuses.
pub(super) fn blocks(decision: &LimitDecision) -> bool {
    decision.level.action == Action::Block
}

/// The line for a decision that differs from `before` in what people care for; `sent` is when its event was sent.
pub(super) fn line(seen: &Seen, before: Option<&LimitDecision>, sent: Option<Timestamp>) -> Option<String> {
    let decision = &seen.decision;
    let level = &decision.level;
    let figures = |of: &LimitDecision| (of.level.action, of.level.reason, of.level.level, of.level.allowance);
    if before.is_some_and(|before| figures(before) == figures(decision)) {
        return None;
    }
    let time = seen.at.to_string();
    let mut line = format!(
        "{}  {:5}  {}: {}",
        time.get(11..19).unwrap_or(&time),
        level.action.name(),
        name(&decision.scope),
        standing(decision.figures.used, decision)
    );
    if let Some(sent) = sent {
        let millis = seen.at.micros_since(sent).max(0) / 1000;
        let _ = write!(line, ", {millis} ms after the event");
    } else if decision.cause.record.is_none() && decision.cause.event_id.is_none() {
        line.push_str(", by its terms");
    }
    line.push('\n');
    Some(line)
}

/// Whom a decision binds: `walkers`, or `user ada of walkers (budget daily)`.
fn name(scope: &Scope) -> String {
    let org = &scope.org_id;
    let Some(budget) = &scope.budget else { return org.clone() };
    let whom = match (budget.dimension.map(Dimension::name), &budget.value) {
        (Some(dimension), Some(value)) => format!("{dimension} {value} of {org}"),
        (Some(dimension), None) => format!("each other {dimension} of {org}"),
        (None, _) => org.clone(),
    };
    let whom: String = whom.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("{whom} (budget {})", budget.budget_id)
}

/// Where an org stands, in words: `used 812.40 of 810 credits, the allowance is spent`.
pub(super) fn standing(used: CreditSum, decision: &LimitDecision) -> String {
    let mut text = format!("used {}", credits(used));
    if let Some(allowance) = decision.level.allowance {
        let _ = write!(text, " of {}", credits(allowance));
    }
    if let Some(extra) = decision.level.extra.filter(|extra| *extra > CreditSum::ZERO) {
        let _ = write!(text, " + {} extra", credits(extra));
    }
    let _ = write!(text, " credits, {}", in_words(decision.level.reason));
    if decision.level.level > 0 && decision.level.reason == DecisionReason::WithinAllowance {
        let _ = write!(text, ", {} % reached", decision.level.level);
    }
    text
}

const fn in_words(reason: DecisionReason) -> &'static str {
    match reason {
        DecisionReason::WithinAllowance => "within the allowance",
        DecisionReason::InOverage => "the allowance is spent, the extra is not",
        DecisionReason::AllowanceSpent => "the allowance is spent",
        DecisionReason::OverageSpent => "allowance and extra are spent",
        DecisionReason::WithinBudget => "within the budget",
        DecisionReason::BudgetSpent => "the budget is spent",
        DecisionReason::Guard => "stopped by a guard",
        DecisionReason::Suspended => "suspended",
        DecisionReason::NoPolicy => "no policy",
        DecisionReason::Unlimited => "unlimited",
    }
}

/// Two decimals for people, cut and not rounded; whole credits without any.
fn credits(sum: CreditSum) -> String {
    let text = sum.to_string();
    let text = text.get(..text.len() - 4).unwrap_or(&text);
    text.strip_suffix(".00").unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::scope::BudgetScope;

    #[test]
    fn a_budgets_decision_names_whom_it_binds_and_not_the_whole_organisation() {
        let scope = |dimension, value: Option<&str>| Scope {
            org_id: "walkers".into(),
            budget: Some(BudgetScope { dimension, value: value.map(Into::into), budget_id: "daily".into() }),
        };
        assert_eq!(name(&Scope::org("walkers")), "walkers");
        assert_eq!(name(&scope(Some(Dimension::User), Some("ada"))), "user ada of walkers (budget daily)");
        assert_eq!(name(&scope(Some(Dimension::User), None)), "each other user of walkers (budget daily)");
        assert_eq!(name(&scope(None, None)), "walkers (budget daily)");
        assert_eq!(
            name(&scope(Some(Dimension::User), Some("a\u{1b}[2J"))),
            "user a\u{fffd}[2J of walkers (budget daily)"
        );
    }

    #[test]
    fn credits_are_cut_to_two_decimals() {
        assert_eq!(credits(CreditSum(12_345_678)), "12.34");
        assert_eq!(credits(CreditSum::whole(810)), "810");
        assert_eq!(credits(CreditSum(9)), "0");
    }
}
