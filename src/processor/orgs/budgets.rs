//! The budgets of one org: which are in force, over which period each counts, and the scopes that follow.
//!
//! Like all of `orgs`, it follows from (rows, terms, now, published levels). A record of usage costs a look-up per
//! dimension that has a budget; terms and time are met by `sync`, budget by budget (`review`). Next: `scopes` for the state of one
//! scope, `turns` for the queues.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::collections::BTreeSet;
use std::hash::BuildHasher as _;

use super::Published;
use super::review::{InForce, runs};
use super::scopes::{ScopeState, Scopes};
use crate::domain::cube::fold::Spend;
use crate::domain::limits::budget::{self, Steady, Use};
use crate::domain::limits::decide::Judgement;
use crate::domain::limits::decision::LimitDecision;
use crate::domain::limits::forecast::{self, Outlook};
use crate::domain::limits::scope::{BudgetScope, Scope};
use crate::domain::terms::book::{History, OrgTerms};
use crate::domain::terms::records::Budget;
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;

/// One budget.
#[derive(Debug)]
pub(super) struct BudgetState {
    /// Its id.
    pub id: Box<str>,
    /// What of it is in force, as of the last review.
    pub in_force: Option<InForce>,
    /// When time alone changes that.
    pub next: Timestamp,
    /// How many records of it there were.
    pub records: usize,
    /// Whether its scopes tell if they were used in the period before.
    pub knows_before: bool,
}

/// What is to be said of a scope.
#[derive(Debug)]
pub(super) enum Told {
    /// Nothing new.
    Nothing,
    /// Another level.
    Decision(Judgement),
    /// Its record goes.
    Tombstone,
}

/// All budgets of one org.
#[derive(Debug)]
pub(super) struct Budgets {
    pub list: Vec<BudgetState>,
    places: HashTable<u32>,
    hasher: FixedState,
    pub scopes: Scopes,
    /// Scopes that are over, by the instant of their tombstone.
    over: BTreeSet<(Timestamp, u32)>,
    /// Budgets in force that bind each value of a dimension.
    pub each: Vec<(Dimension, u32)>,
    /// Bit n: a budget binds dimension n; bit `Dimension::COUNT`: the whole org.
    pub bound: u16,
    /// When time alone changes what is in force.
    pub next: Timestamp,
    /// Scopes published as blocked.
    pub blocked: usize,
}

/// The bit of a dimension, or of the whole org.
pub(super) const fn bit(dimension: Option<Dimension>) -> u16 {
    match dimension {
        Some(dimension) => 1 << dimension.index(),
        None => 1 << Dimension::COUNT,
    }
}

impl Budgets {
    /// None yet.
    pub fn new() -> Self {
        Self {
            list: Vec::new(),
            places: HashTable::new(),
            hasher: FixedState::default(),
            scopes: Scopes::default(),
            over: BTreeSet::new(),
            each: Vec::new(),
            bound: 0,
            next: Timestamp::MAX,
            blocked: 0,
        }
    }

    /// The place of a budget in the list, new if need be.
    pub fn place_of(&mut self, id: &str) -> u32 {
        let hash = self.hasher.hash_one(id);
        let Self { list, places, hasher, .. } = self;
        if let Some(&place) = places.find(hash, |&place| &*list[place as usize].id == id) {
            return place;
        }
        let place = u32::try_from(list.len()).expect("memory ends far below 2^32 budgets");
        let next = Timestamp::MAX;
        list.push(BudgetState { id: id.into(), in_force: None, next, records: 0, knows_before: false });
        places.insert_unique(hash, place, |&place| hasher.hash_one(&*list[place as usize].id));
        place
    }

    /// When time alone changes something: what is in force, or a scope that is over goes.
    pub fn due(&self) -> Option<Timestamp> {
        let tombstone = self.over.first().map(|&(due, _)| due);
        let due = tombstone.map_or(self.next, |due| due.min(self.next));
        (due < Timestamp::MAX).then_some(due)
    }

    /// Takes the scopes whose tombstone is due.
    pub fn wake(&mut self, now: Timestamp, wake: &mut Vec<u32>) {
        while let Some(&(due, number)) = self.over.first()
            && due <= now
        {
            self.over.pop_first();
            wake.push(number);
        }
    }

    /// Counts what record `record` of the running batch spent, and gives the scopes that may be judged otherwise now
    /// to `touched`, each once a batch.
    pub fn spend(&mut self, spend: &Spend<'_>, record: u32, touched: &mut impl FnMut(u32)) {
        if self.bound & bit(None) != 0 {
            self.spend_on((None, None), spend, record, touched);
        }
        for dimension in Dimension::ALL {
            if self.bound & bit(Some(dimension)) != 0
                && let Some(value) = spend.value(dimension)
            {
                self.spend_on((Some(dimension), Some(value)), spend, record, touched);
            }
        }
    }

    fn spend_on(
        &mut self,
        (dimension, value): (Option<Dimension>, Option<&str>),
        spend: &Spend<'_>,
        record: u32,
        touched: &mut impl FnMut(u32),
    ) {
        let Self { list, scopes, each, .. } = self;
        let mut missing = each.iter().filter(|(of, _)| Some(*of) == dimension).count();
        let mut take = |number: u32, scope: &mut ScopeState, in_force: &InForce| {
            let looks = scope.may_clear(spend.hour);
            scope.add(in_force.period, spend.hour, spend.credits.into());
            if (looks || !scope.steady.holds(scope.used)) && scope.touched.replace(record).is_none() {
                touched(number);
            }
        };
        scopes.each_of(dimension, value, |number, scope| {
            let Some(in_force) = &list[scope.budget as usize].in_force else { return };
            if in_force.binds.dimension() == dimension {
                missing -= usize::from(in_force.is_each());
                take(number, scope, in_force);
            }
        });
        if missing == 0 {
            return;
        }
        // A value that a `*` budget has not met in its running period.
        for &(_, budget) in each.iter().filter(|(of, _)| Some(*of) == dimension) {
            let in_force = list[budget as usize].in_force.as_ref().expect("`each` holds what is in force");
            if in_force.period.contains(spend.hour.start()) && scopes.find(budget, dimension, value).is_none() {
                let number = scopes.insert(ScopeState::new(budget, dimension, value, spend.hour));
                let scope = scopes.get_mut(number).expect("it was just put there");
                take(number, scope, in_force);
            }
        }
    }

    /// What binds a scope now; `None` when nobody calls for it any more.
    ///
    /// A value's scope under a `*` budget is called for once it is used in the running period, and then until a whole
    /// period passed in which it was not; one that may spend nothing, as long as its budget is in force.
    fn judge(&self, scope: &ScopeState, terms: &OrgTerms, now: Timestamp) -> Option<(Judgement, Steady)> {
        let state = &self.list[scope.budget as usize];
        let in_force = state.in_force.as_ref()?;
        let dimension = in_force.binds.dimension();
        if dimension != scope.dimension {
            return None;
        }
        let record = budget::in_force(terms.budgets.get(&*state.id)?, now)?;
        let mut facts = Use {
            budget: record,
            period: in_force.period,
            used: scope.used,
            micros_per_second: scope.recent.per_second(now),
            changes_at: Some(state.next),
        };
        match scope.value.as_deref() {
            Some(value) if in_force.is_each() => {
                let others = self.others(scope, terms);
                let turns = budget::override_turns(&others, record.1, value, now);
                facts.changes_at = facts.changes_at.into_iter().chain(turns).min();
                if budget::overrides(&others, record.1, value, now) {
                    return in_force.is_closed.then(|| (facts.exempt(), Steady::ALWAYS));
                }
                let stays = scope.published.as_deref().is_some_and(|Published { level, .. }| {
                    in_force.is_closed
                        || !budget::is_over(level) && (runs(level, in_force.period) || scope.seen_before)
                });
                if !scope.seen && !stays {
                    return None;
                }
            }
            value if value == in_force.binds.standing() => {}
            _ => return None,
        }
        Some((facts.judge(), facts.watched()))
    }

    /// The histories of the budgets that name a value exactly, now or in time to come.
    fn others<'t>(&self, scope: &ScopeState, terms: &'t OrgTerms) -> Vec<&'t History<Budget>> {
        let mates = self.scopes.of(scope.dimension, scope.value.as_deref());
        let mates = mates.filter_map(|mate| self.scopes.get(mate)).filter(|mate| mate.budget != scope.budget);
        mates.filter_map(|mate| terms.budgets.get(&*self.list[mate.budget as usize].id)).collect()
    }

    /// Decides one scope; `by_usage` tells that usage asks for it. One whose budget waits for its next period is left to that.
    pub fn decide(&mut self, number: u32, by_usage: bool, terms: &OrgTerms, now: Timestamp) -> Told {
        let Some(scope) = self.scopes.get(number) else { return Told::Nothing };
        if self.list[scope.budget as usize].next <= now {
            return Told::Nothing;
        }
        let judged = self.judge(scope, terms, now);
        let judged = judged.map(|(judged, steady)| (foretell(judged, scope, by_usage, now), steady));
        let lasts = judged.as_ref().is_some_and(|(judged, _)| judged.outlook == Outlook::Lasts);
        let published = scope.published.as_ref();
        let (told, steady) = match (judged, published) {
            (Some((judged, steady)), Some(published)) if published.level == judged.level => {
                (Told::Nothing, steady)
            }
            (Some((judged, steady)), _) => (Told::Decision(judged), steady),
            (None, None) => (Told::Nothing, unasked(scope)),
            (None, Some(published)) if budget::is_over(&published.level) => {
                let is_due = published.level.valid_until <= now;
                (if is_due { Told::Tombstone } else { Told::Nothing }, unasked(scope))
            }
            (None, Some(published)) => {
                let rate = scope.recent.per_second(now);
                (Told::Decision(budget::over(&published.level, scope.used, rate, now)), unasked(scope))
            }
        };
        let scope = self.scopes.get_mut(number).expect("it was just looked at");
        scope.steady = steady;
        scope.forecast_cleared |= lasts;
        told
    }

    /// The scope of that number, as gateways name it.
    pub fn scope_of(&self, org: &str, number: u32) -> Option<Scope> {
        let scope = self.scopes.get(number)?;
        let id = &self.list[scope.budget as usize].id;
        Some(budget::scope(org, id, scope.dimension, scope.value.as_deref()))
    }

    fn number_of(&mut self, scope: &BudgetScope) -> (u32, Option<u32>) {
        let budget = self.place_of(&scope.budget_id);
        (budget, self.scopes.find(budget, scope.dimension, scope.value.as_deref()))
    }

    /// Takes a decision as published and gives its scope's number.
    pub fn published(&mut self, scope: &BudgetScope, decision: &LimitDecision) -> u32 {
        let number = match self.number_of(scope) {
            (_, Some(number)) => number,
            (budget, None) => {
                let hour = decision.decided_at.hour();
                self.scopes.insert(ScopeState::new(budget, scope.dimension, scope.value.as_deref(), hour))
            }
        };
        let state = self.scopes.get_mut(number).expect("it was just found");
        if let Some(before) = state.published.as_ref().filter(|before| budget::is_over(&before.level)) {
            self.over.remove(&(before.level.valid_until, number));
        }
        let was_blocked = state.is_blocked();
        let before = state.published.as_ref().map(|before| &before.level);
        state.forecast_cleared = forecast::stays_cleared(state.forecast_cleared, before, &decision.level);
        if budget::is_over(&decision.level) {
            self.over.insert((decision.level.valid_until, number));
        }
        state.published = Some(Box::new(Published::of(decision, state.published.as_deref())));
        match (was_blocked, state.is_blocked()) {
            (false, true) => {
                state.peak = state.used;
                self.blocked += 1;
            }
            (true, false) => self.blocked -= 1,
            _ => {}
        }
        number
    }

    /// Forgets what was published of a scope: its tombstone is.
    pub fn buried(&mut self, scope: &BudgetScope) {
        let (_, Some(number)) = self.number_of(scope) else { return };
        let state = self.scopes.get_mut(number).expect("it was just found");
        self.blocked -= usize::from(state.is_blocked());
        state.published = None;
        // One that a later record names stays, so that others see that coming; `*` budgets forget at their next turn.
        if self.list[state.budget as usize].next == Timestamp::MAX {
            self.scopes.remove(number);
        }
    }

    /// An empty scope of a budget, unless there is one; gives its number when it is new.
    pub fn stand(
        &mut self,
        budget: u32,
        dimension: Option<Dimension>,
        value: Option<&str>,
        hour: Hour,
    ) -> Option<u32> {
        if self.scopes.find(budget, dimension, value).is_some() {
            return None;
        }
        Some(self.scopes.insert(ScopeState::new(budget, dimension, value, hour)))
    }
}

/// A scope's judgement with its forecast. Only usage raises an alert, which a scope is looked at for at certain sums: so neither
/// a restart nor new terms tell what a task that went on would not.
fn foretell(mut judged: Judgement, scope: &ScopeState, by_usage: bool, now: Timestamp) -> Judgement {
    judged.outlook = match budget::outlook(&judged.level, &judged.figures, now) {
        Outlook::Depletes if !by_usage => Outlook::Unsure,
        outlook => outlook,
    };
    let previous = scope.published.as_ref().map(|published| &published.level);
    judged.level.forecast_alerted_on =
        forecast::alerted_on((&judged.level, judged.outlook), previous, scope.forecast_cleared, now);
    judged
}

/// Of a scope that nobody calls for only its first use can make another one.
const fn unasked(scope: &ScopeState) -> Steady {
    if scope.seen { Steady::ALWAYS } else { Steady::NEVER }
}
