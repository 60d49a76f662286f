//! The queues of budget scopes: those that a batch changed are decided with it, those that time or terms changed in
//! slices (Law 6), and one timer per org tells when time changes any.

use std::convert::Infallible;
use std::ops::Range;

use super::budgets::{Budgets, Told};
use super::scopes::ScopeState;
use super::{Change, Law, OrgHours, OrgState, Orgs, set_timer};
use crate::domain::credits::CreditSum;
use crate::domain::cube::fold::Spend;
use crate::domain::limits::alert::{AlertKind, alert_of};
use crate::domain::limits::decide;
use crate::domain::limits::decision::{Cause, LimitDecision};
use crate::domain::limits::forecast::Outlook;
use crate::domain::limits::rate::RateRing;
use crate::domain::limits::scope::Scope;
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;

/// A scope that the running batch may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Its org.
    pub place: u32,
    /// Its number there.
    pub scope: u32,
    /// The number of the batch's last record that touched it.
    pub record: u32,
}

/// A scope whose record goes: its tombstone is to be published.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Its org.
    pub place: u32,
    /// It.
    pub scope: Scope,
}

/// The queues of all orgs' budget scopes.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Scopes that the running batch touched.
    touched: Vec<(u32, u32)>,
    /// Scopes that a batch changed, with the record that did.
    caused: Vec<(u32, u32, Cause)>,
    /// Scopes that time or terms may have changed.
    waiting: Vec<(u32, u32)>,
    /// Orgs whose timer rang.
    due: Vec<u32>,
    /// Orgs that wait for a flush.
    pub stale: Vec<u32>,
    timers: std::collections::BTreeSet<(Timestamp, u32)>,
}

/// Hours of an org that has none.
struct Unread;

impl OrgHours for Unread {
    type Error = Infallible;

    fn hours(&self, _: &str, _: Hour, _: &mut dyn FnMut(Hour, CreditSum)) -> Result<(), Infallible> {
        Ok(())
    }

    fn rate(&self, _: &str) -> Result<RateRing, Infallible> {
        Ok(RateRing::default())
    }

    fn values(
        &self,
        _: &str,
        _: Dimension,
        _: Range<Hour>,
        _: Hour,
        _: &mut dyn FnMut(Hour, &str, CreditSum),
    ) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Orgs {
    /// Whether an org has budgets: their scopes want each record of a batch.
    #[must_use]
    pub fn has_budgets(&self, place: u32) -> bool {
        self.states[place as usize].budgets.is_some()
    }

    /// Counts what record number `record` of the running batch spent on the scopes of its org's budgets.
    pub fn spend(&mut self, place: u32, spend: &Spend<'_>, record: u32) {
        let Some(budgets) = &mut self.states[place as usize].budgets else { return };
        let touched = &mut self.turns.touched;
        budgets.spend(spend, record, &mut |scope| touched.push((place, scope)));
    }

    /// The scopes that the batch touched so that they may be judged otherwise now; the next batch begins.
    pub fn take_touched(&mut self) -> Vec<Touched> {
        let touched = std::mem::take(&mut self.turns.touched).into_iter();
        let take = |(place, scope): (u32, u32)| {
            let budgets = self.states[place as usize].budgets.as_mut()?;
            let record = budgets.scopes.get_mut(scope)?.touched.take()?;
            Some(Touched { place, scope, record })
        };
        touched.filter_map(take).collect()
    }

    /// Queues a touched scope, to be decided with the position of the record that asks for it (Law 3).
    pub fn caused(&mut self, touched: Touched, cause: Cause) {
        let Some(budgets) = &mut self.states[touched.place as usize].budgets else { return };
        let Some(scope) = budgets.scopes.get_mut(touched.scope) else { return };
        let caused = &mut self.turns.caused;
        // Another batch since the last decision: the later record is the cause.
        let before = scope.caused.and_then(|place| caused.get_mut(place as usize));
        match before.filter(|before| (before.0, before.1) == (touched.place, touched.scope)) {
            Some(before) => before.2 = cause,
            None => {
                scope.caused = u32::try_from(caused.len()).ok();
                caused.push((touched.place, touched.scope, cause));
            }
        }
    }

    /// Decides a change's org or scope again, once it is published: a forecast alert waits behind it.
    pub fn decide_again(&mut self, place: u32, scope: Option<u32>) {
        match scope {
            None => self.enqueue(place),
            Some(scope) if self.scope_mut(place, scope).is_some_and(|state| state.caused.is_none()) => {
                self.caused(Touched { place, scope, record: 0 }, Cause::default());
            }
            Some(_) => {}
        }
    }

    /// Takes a level that the control topic holds, when a task begins to speak.
    pub fn restore(&mut self, place: u32, decision: &LimitDecision) {
        if let Some(number) = self.published(place, decision) {
            self.wait(place, [number]);
        } else {
            self.enqueue(place);
        }
    }

    /// Lets an org's restored scopes know what they need of the period before; only once all are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recall<H: OrgHours>(&mut self, hours: &H, law: Law<'_>) -> Result<(), H::Error> {
        for state in &mut self.states {
            if let Some(budgets) = &mut state.budgets {
                // When the org was found, no level of it was known: what was asked for then told nothing.
                budgets.list.iter_mut().for_each(|budget| budget.knows_before = false);
                budgets.recall(state.org.as_str(), law, hours)?;
            }
        }
        Ok(())
    }

    /// Brings an org's budgets to `law`; false when that has to wait for a flush.
    pub(super) fn sync<H: OrgHours>(
        &mut self,
        place: u32,
        hours: Option<&H>,
        law: Law<'_>,
    ) -> Result<bool, H::Error> {
        let OrgState { org, budgets, recent, .. } = &mut self.states[place as usize];
        let has_terms = || law.terms.org(org.as_str()).is_some_and(|terms| !terms.budgets.is_empty());
        if budgets.is_none() && !has_terms() {
            return Ok(true);
        }
        let budgets = budgets.get_or_insert_with(|| Box::new(Budgets::new()));
        let mut wake = Vec::new();
        let done = budgets.sync(org.as_str(), law, recent.hour, hours, &mut wake)?;
        self.wait(place, wake);
        if !done {
            self.turns.stale.push(place);
        }
        self.set_budget_timer(place);
        Ok(done)
    }

    /// Puts scopes in the queue of those that need not be decided at once.
    fn wait(&mut self, place: u32, scopes: impl IntoIterator<Item = u32>) {
        let Some(budgets) = &mut self.states[place as usize].budgets else { return };
        for number in scopes {
            let scope = budgets.scopes.get_mut(number);
            if scope.is_some_and(|scope| !std::mem::replace(&mut scope.waits, true)) {
                self.turns.waiting.push((place, number));
            }
        }
    }

    fn set_budget_timer(&mut self, place: u32) {
        let state = &mut self.states[place as usize];
        let due = state.budgets.as_ref().and_then(|budgets| budgets.due());
        if state.budget_timer == due {
            return;
        }
        let old = std::mem::replace(&mut state.budget_timer, due);
        match due {
            Some(due) => set_timer(&mut self.turns.timers, old, due, place),
            None => drop(old.map(|old| self.turns.timers.remove(&(old, place)))),
        }
    }

    pub(super) fn ring_budgets(&mut self, now: Timestamp) {
        while let Some(&(due, place)) = self.turns.timers.first()
            && due <= now
        {
            self.turns.timers.pop_first();
            self.states[place as usize].budget_timer = None;
            self.turns.due.push(place);
        }
    }

    pub(super) fn next_budget_timer(&self) -> Option<Timestamp> {
        self.turns.timers.first().map(|&(due, _)| due)
    }

    pub(super) const fn has_turns(&self) -> bool {
        !(self.turns.caused.is_empty() && self.turns.waiting.is_empty() && self.turns.due.is_empty())
    }

    /// Meets the time that passed, org by org, until `count_max` scopes wait.
    fn turn_budgets(&mut self, count_max: usize, law: Law<'_>) {
        let mut orgs = 0;
        while self.turns.waiting.len() < count_max && orgs < count_max {
            let Some(place) = self.turns.due.pop() else { return };
            orgs += 1;
            let Some(budgets) = &mut self.states[place as usize].budgets else { continue };
            let mut wake = Vec::new();
            budgets.wake(law.now, &mut wake);
            let turns = budgets.next <= law.now;
            self.wait(place, wake);
            if turns {
                let Ok(_) = self.sync(place, None::<&Unread>, law);
            } else {
                self.set_budget_timer(place);
            }
        }
    }

    /// Decides all scopes that batches changed and at most `count_max` of those that time or terms did.
    pub fn decide_budgets(
        &mut self,
        count_max: usize,
        law: Law<'_>,
        changes: &mut Vec<Change>,
        endings: &mut Vec<Ending>,
    ) {
        self.turn_budgets(count_max, law);
        // No scope is decided twice: what is proposed is not yet what was published.
        for (place, number, cause) in std::mem::take(&mut self.turns.caused) {
            if let Some(scope) = self.scope_mut(place, number) {
                (scope.caused, scope.waits) = (None, false);
                self.decide_scope((place, number), Some(cause), law, changes, endings);
            }
        }
        let rest = self.turns.waiting.len().saturating_sub(count_max);
        for (place, number) in self.turns.waiting.split_off(rest) {
            let scope = self.scope_mut(place, number);
            if scope.is_some_and(|scope| std::mem::replace(&mut scope.waits, false)) {
                self.decide_scope((place, number), None, law, changes, endings);
            }
        }
    }

    fn scope_mut(&mut self, place: u32, number: u32) -> Option<&mut ScopeState> {
        self.states[place as usize].budgets.as_mut()?.scopes.get_mut(number)
    }

    /// `cause` is the record that asks for it; none when time or terms do.
    fn decide_scope(
        &mut self,
        (place, number): (u32, u32),
        cause: Option<Cause>,
        law: Law<'_>,
        changes: &mut Vec<Change>,
        endings: &mut Vec<Ending>,
    ) {
        let OrgState { org, budgets: Some(budgets), .. } = &mut self.states[place as usize] else { return };
        let none = crate::domain::terms::book::OrgTerms::default();
        let terms = law.terms.org(org.as_str()).unwrap_or(&none);
        let told = budgets.decide(number, cause.is_some(), terms, law.now);
        let Some(scope) = budgets.scope_of(org.as_str(), number) else { return };
        let judged = match told {
            Told::Nothing => return,
            Told::Tombstone => return endings.push(Ending { place, scope }),
            Told::Decision(judged) => judged,
        };
        let Some(state) = budgets.scopes.get(number) else { return };
        let previous = state.published.as_deref();
        // Nobody uses the rest of a `*` budget.
        let is_used = state.dimension.is_none() || state.value.is_some();
        let overshoot = previous.filter(|_| is_used);
        let overshoot = overshoot.and_then(|previous| super::overshoot(previous, &judged.level, state.peak));
        let decision = LimitDecision {
            scope,
            version: decide::next_version(previous.map(|previous| previous.version), law.now),
            decided_at: law.now,
            cause: Cause { policy_offset: judged.policy_offset, ..cause.unwrap_or_default() },
            level: judged.level,
            figures: judged.figures,
        };
        let alert = alert_of(previous.map(|previous| &previous.level), &decision);
        // Who hears that it may go on need not hear at once that it may not for long.
        let unblocked = alert.as_ref().is_some_and(|alert| alert.kind == AlertKind::Unblocked);
        let foretold = decision.level.forecast_alerted_on.is_some();
        let again = judged.outlook == Outlook::Depletes && !foretold && !unblocked;
        changes.push(Change { place, decision, alert, purchase: None, overshoot, again });
    }

    /// Takes a scope's tombstone as published; only after its transaction is known to be committed (Law 3).
    pub fn buried(&mut self, ending: &Ending) {
        let state = &mut self.states[ending.place as usize];
        if let (Some(budgets), Some(scope)) = (&mut state.budgets, &ending.scope.budget) {
            budgets.buried(scope);
        }
        self.set_budget_timer(ending.place);
    }

    /// Takes a budget scope's decision as published, and gives the scope's number.
    pub(super) fn published_scope(&mut self, place: u32, decision: &LimitDecision) -> Option<u32> {
        let scope = decision.scope.budget.as_ref()?;
        let budgets = self.states[place as usize].budgets.get_or_insert_with(|| Box::new(Budgets::new()));
        let number = budgets.published(scope, decision);
        self.set_budget_timer(place);
        Some(number)
    }

    /// How many budget scopes are blocked.
    pub(super) fn blocked_scopes(&self) -> usize {
        self.states.iter().filter_map(|state| state.budgets.as_ref()).map(|budgets| budgets.blocked).sum()
    }
}
