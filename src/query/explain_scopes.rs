//! The budgets' part of `explain`: what budgets said of a value at an instant, from the terms of then and the rows at the
//! grain of an hour. It judges with the decider's own function (`domain::budget_replay`).

use crate::domain::credits::CreditSum;
use crate::domain::limits::budget::{self, Binds};
use crate::domain::limits::decision::{Action, Cause, Level, LimitDecision};
use crate::domain::limits::scope::{BudgetScope, Scope};
use crate::domain::terms::book::{History, OrgTerms};
use crate::domain::terms::records::Budget;
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;
use crate::domain::what_if::budget_replay::{Bound, Cycles, ScopeReplay};
use crate::store::StoreSnapshot;

use super::QueryError;
use super::explain::{Seen, TURNS_AHEAD_MAX};
use super::overage::{org_hours, value_hours};

/// A budget's scope, replayed to an instant.
pub(super) struct Replayed<'a> {
    pub(super) scope: BudgetScope,
    pub(super) replay: ScopeReplay<'a>,
    pub(super) seen: Seen,
    /// Credits of the instant's hour that are not counted.
    pub(super) in_that_hour: Option<CreditSum>,
}

/// The scopes that budgets in force at `at` make of a request with that value, or with none that is known.
pub(super) fn binding(org: &OrgTerms, asked: Option<(Dimension, &str)>, at: Timestamp) -> Vec<BudgetScope> {
    let scope = |(id, history): (&String, &History<Budget>)| {
        let binds = Binds::of(budget::in_force(history, at)?.1);
        let value = match (&binds, asked) {
            (Binds::Org, _) => None,
            (Binds::Value(of, own), Some((dimension, value))) if *of == dimension && **own == *value => {
                Some(value)
            }
            (Binds::Each(of), Some((dimension, value))) if *of == dimension => Some(value),
            _ => return None,
        };
        let value = value.map(str::to_owned);
        Some(BudgetScope { dimension: binds.dimension(), value, budget_id: id.clone() })
    };
    org.budgets.iter().filter_map(scope).collect()
}

/// Replays scopes as far as each is seen.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn replayed<'a>(
    snapshot: &StoreSnapshot<'_>,
    (name, org): (&str, &'a OrgTerms),
    cycles: &'a Cycles<'a>,
    scopes: Vec<(Seen, BudgetScope)>,
) -> Result<Vec<Replayed<'a>>, QueryError> {
    let mut all = Vec::with_capacity(scopes.len());
    for (seen, scope) in scopes {
        let Some(history) = org.budgets.get(&scope.budget_id) else { continue };
        let value = scope.value.as_deref();
        let exact = |other: &Budget| {
            value.is_some() && (other.dimension, other.value.as_deref()) == (scope.dimension, value)
        };
        let others = org.budgets.iter().filter(|(id, _)| **id != scope.budget_id).map(|(_, history)| history);
        let others = others.filter(|history| history.iter().any(|(_, other)| exact(other))).collect();
        let replay = ScopeReplay::new(cycles, history, others, (scope.dimension, value));
        let mut one = Replayed { replay, scope, seen, in_that_hour: None };
        one.read(snapshot, name, cycles.first_hour())?;
        if one.replay.look(seen.at).is_some() {
            all.push(one);
        }
    }
    Ok(all)
}

impl<'a> Replayed<'a> {
    fn read(&mut self, snapshot: &StoreSnapshot<'_>, org: &str, first: Hour) -> Result<(), QueryError> {
        let Self { scope, replay, seen, in_that_hour } = self;
        let mut take = |hour: Hour, credits| {
            if let Some(step) = seen.step(hour, credits) {
                replay.add(step, &mut |_, _| {});
            } else if seen.hides(hour) {
                *in_that_hour.get_or_insert_default() += credits;
            }
        };
        match (scope.dimension, scope.value.as_deref()) {
            (None, _) => org_hours(snapshot, org, first)?.into_iter().for_each(|(hour, sum)| take(hour, sum)),
            (Some(_), None) => {}
            (Some(dimension), Some(own)) => {
                let end = seen.until.max(Hour(seen.at.hour().0.saturating_add(1)));
                value_hours(snapshot, org, (dimension, Some(own)), first..end, &mut |hour, _, credits| {
                    take(hour, credits);
                })?;
            }
        }
        Ok(())
    }

    /// What held; those that are kept are bound.
    pub(super) fn bound(&self) -> Option<&Bound<'a>> {
        self.replay.bound()
    }

    /// It as a decision of that instant, to be told among others.
    pub(super) fn decision(&self, org: &str, at: Timestamp) -> Option<LimitDecision> {
        let bound = self.bound()?;
        Some(LimitDecision {
            scope: Scope { org_id: org.to_owned(), budget: Some(self.scope.clone()) },
            level: bound.judged.level.clone(),
            figures: bound.judged.figures,
            version: 0,
            decided_at: at,
            cause: Cause { policy_offset: Some(bound.budget.0), ..Cause::default() },
        })
    }

    /// Since when it has been so in its running period, and the hour of the usage that made it so.
    pub(super) fn since(&self) -> (Timestamp, Option<Hour>) {
        let start = self.bound().map_or(Timestamp::MIN, |bound| bound.period.starts_at());
        let (at, hour) = self.replay.since();
        if at < start { (start, None) } else { (at, hour) }
    }

    /// The first instant at which time alone unblocks: its own period's end, unless terms come or go before.
    pub(super) fn unblocked_at(&self) -> Option<Timestamp> {
        let blocks =
            |bound: Option<&Bound<'_>>| bound.is_some_and(|bound| bound.judged.level.action == Action::Block);
        let mut replay = self.replay.clone();
        if !blocks(replay.bound()) {
            return None;
        }
        for _ in 0..TURNS_AHEAD_MAX {
            let next = replay.until();
            if next == Timestamp::MAX {
                return None;
            }
            replay.pass(next, &mut |_, _| {});
            if !blocks(replay.bound()) {
                return Some(next);
            }
        }
        None
    }

    /// What held at the end of the instant's hour, where it allows or blocks otherwise.
    pub(super) fn at_end_of_hour(&self) -> Option<Level> {
        let rest = self.seen.rest(self.in_that_hour?);
        let before = self.bound()?.judged.level.action;
        let mut replay = self.replay.clone();
        replay.add(rest, &mut |_, _| {});
        let level = &replay.bound()?.judged.level;
        (level.action != before).then(|| level.clone())
    }
}
