//! How the budgets of an org meet new terms and the passing of time: which are in force now, whose sums start anew, and
//! what of the rows has to be read for that.
//!
//! A budget whose limit alone changed keeps its sums; one whose period turned starts at zero without a look at the
//! rows, unless usage of the new period was folded before it began. Nothing is changed before it is known that what
//! must be read can be.

use std::collections::BTreeSet;

use super::budgets::{BudgetState, Budgets, bit};
use super::scopes::ScopeState;
use super::{Law, OrgHours, Recent};
use crate::domain::credits::CreditSum;
use crate::domain::limits::budget::{self, Binds};
use crate::domain::limits::decision::Level;
use crate::domain::terms::book::{History, OrgTerms};
use crate::domain::terms::period::{Period, cycle_at};
use crate::domain::terms::records::{Budget, BudgetPeriod};
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;

/// What of a budget is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InForce {
    /// Offset of the record.
    pub offset: i64,
    /// What it binds.
    pub binds: Binds,
    /// The kind of its period.
    pub kind: BudgetPeriod,
    /// The period that holds now.
    pub period: Period,
    /// Whether it blocks from the first credit on.
    pub is_closed: bool,
}

impl InForce {
    fn of(offset: i64, budget: &Budget, period: Period) -> Self {
        let binds = Binds::of(budget);
        Self { offset, binds, kind: budget.period, period, is_closed: budget::is_closed(budget) }
    }

    /// Whether it binds each value of a dimension.
    pub const fn is_each(&self) -> bool {
        matches!(self.binds, Binds::Each(_))
    }
}

/// What became of one budget since the last review.
struct Change {
    place: u32,
    in_force: Option<InForce>,
    next: Timestamp,
    records: usize,
    sums: Sums,
}

/// What becomes of a changed budget's sums.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sums {
    /// They stay.
    Kept,
    /// The period turned: what was used in the last one is known.
    Turned,
    /// Nothing is known.
    Unknown,
}

impl Change {
    fn between(place: u32, old: &BudgetState, new: (Option<InForce>, Timestamp, usize)) -> Self {
        let (in_force, next, records) = new;
        let sums = match (&old.in_force, &in_force) {
            (_, None) => Sums::Kept,
            (Some(old), Some(new)) if old.binds == new.binds && old.period == new.period => Sums::Kept,
            (Some(old), Some(new))
                if (&old.binds, old.kind, old.period.end) == (&new.binds, new.kind, new.period.start) =>
            {
                Sums::Turned
            }
            _ => Sums::Unknown,
        };
        Self { place, in_force, next, records, sums }
    }

    /// Whether rows tell something of its running period, when the latest usage is of the hour `latest`.
    fn reads(&self, latest: Hour) -> bool {
        let Some(in_force) = &self.in_force else { return false };
        let may_have_rows = latest >= in_force.period.start || (in_force.is_each() && self.sums == Sums::Unknown);
        self.sums != Sums::Kept && may_have_rows
    }
}

impl ScopeState {
    /// Counts credits of an hour.
    pub(super) fn add(&mut self, period: Period, hour: Hour, credits: CreditSum) {
        if period.contains(hour.start()) {
            self.used += credits;
            self.peak = self.peak.max(self.used);
            self.seen = true;
        }
        self.recent.add(hour, credits.micros());
    }
}

impl Budgets {
    /// Brings all budgets to `law`, and gives the scopes to be decided to `wake`. False, and nothing is changed, when
    /// rows must be read and `hours` is none; `latest` is an hour after which nothing was folded.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn sync<H: OrgHours>(
        &mut self,
        org: &str,
        law: Law<'_>,
        latest: Hour,
        hours: Option<&H>,
        wake: &mut Vec<u32>,
    ) -> Result<bool, H::Error> {
        let Some(terms) = law.terms.org(org) else { return Ok(true) };
        let changes = self.review(terms, law);
        let reading: Vec<u32> =
            changes.iter().filter(|change| change.reads(latest)).map(|change| change.place).collect();
        if hours.is_none() && !reading.is_empty() {
            return Ok(false);
        }
        let touched: Vec<(u32, Sums)> = changes.iter().map(|change| (change.place, change.sums)).collect();
        for change in changes {
            let state = &mut self.list[change.place as usize];
            state.knows_before = match change.sums {
                Sums::Kept => state.knows_before,
                Sums::Turned => true,
                Sums::Unknown => false,
            };
            (state.in_force, state.next, state.records) = (change.in_force, change.next, change.records);
        }
        self.index();
        // Before values are forgotten and after others are met.
        self.wake_touched(&touched, wake);
        self.turn(&touched, &reading, law.now.hour());
        self.stand_all(&touched, terms, law.now);
        if let Some(hours) = hours {
            self.read(&reading, org, law.now.hour(), hours)?;
            self.recall(org, law, hours)?;
        }
        self.wake_touched(&touched, wake);
        Ok(true)
    }

    fn review(&mut self, terms: &OrgTerms, law: Law<'_>) -> Vec<Change> {
        let policies = Some(&terms.policies).filter(|policies| !policies.is_empty());
        let mut periods: [Option<Period>; BudgetPeriod::COUNT] = [None; BudgetPeriod::COUNT];
        let mut period = |kind: BudgetPeriod| {
            *periods[kind.index()].get_or_insert_with(|| cycle_at(kind, policies, law.default, law.now))
        };
        let mut changes = Vec::new();
        for (id, history) in &terms.budgets {
            let in_force = budget::in_force(history, law.now);
            let in_force = in_force.map(|(offset, record)| InForce::of(offset, record, period(record.period)));
            let ends = in_force.as_ref().map(|in_force| in_force.period.ends_at());
            let next = budget::next_change(history, law.now).into_iter().chain(ends).min();
            let next = next.unwrap_or(Timestamp::MAX);
            let place = self.place_of(id);
            let state = &self.list[place as usize];
            // Another record may be one of time to come, which others must see coming.
            if state.in_force != in_force || state.next != next || state.records != history.len() {
                changes.push(Change::between(place, state, (in_force, next, history.len())));
            }
        }
        changes
    }

    /// What a record of usage has to look at, and when time is due.
    fn index(&mut self) {
        (self.bound, self.next) = (0, Timestamp::MAX);
        self.each.clear();
        for (place, state) in (0..).zip(&self.list) {
            self.next = self.next.min(state.next);
            let Some(in_force) = &state.in_force else { continue };
            let dimension = in_force.binds.dimension();
            self.bound |= bit(dimension);
            if let Binds::Each(dimension) = in_force.binds {
                self.each.push((dimension, place));
            }
        }
    }

    /// Starts the sums of changed budgets anew. A `*` budget forgets the values that nobody was told of.
    fn turn(&mut self, touched: &[(u32, Sums)], reading: &[u32], hour: Hour) {
        let mut sums = vec![Sums::Kept; self.list.len()];
        for &(place, of) in touched {
            sums[place as usize] = of;
        }
        let mut is_read = vec![false; self.list.len()];
        for &place in reading {
            is_read[place as usize] = true;
        }
        let mut forgotten = Vec::new();
        for (number, scope) in self.scopes.iter_mut() {
            let place = scope.budget as usize;
            if sums[place] == Sums::Kept {
                continue;
            }
            scope.used = CreditSum::ZERO;
            scope.seen_before = sums[place] == Sums::Turned && scope.seen;
            scope.seen = false;
            if is_read[place] {
                scope.recent = Recent::at(hour);
            }
            let is_each = self.list[place].in_force.as_ref().is_some_and(InForce::is_each);
            if is_each && scope.value.is_some() && scope.published.is_none() {
                forgotten.push(number);
            }
        }
        for number in forgotten {
            self.scopes.remove(number);
        }
    }

    /// Sets up the scopes that stand without usage: of changed budgets now and in time to come, and of values that are
    /// exempt from a `*` budget that blocks all others.
    fn stand_all(&mut self, touched: &[(u32, Sums)], terms: &OrgTerms, now: Timestamp) {
        for &(place, _) in touched {
            let state = &self.list[place as usize];
            let now_bound = state.in_force.as_ref().map(|in_force| in_force.binds.clone());
            let history = terms.budgets.get(&*state.id);
            let later = history.into_iter().flat_map(History::iter);
            let later = later.filter(|(_, record)| record.effective_at > now).map(|(_, record)| Binds::of(record));
            let later = later.filter(|binds| matches!(binds, Binds::Value(..)));
            for binds in now_bound.into_iter().chain(later) {
                self.stand(place, binds.dimension(), binds.standing(), now.hour());
            }
        }
        let is_closed = |place: u32| self.list[place as usize].in_force.as_ref().is_some_and(|f| f.is_closed);
        let closed: Vec<_> = self.each.iter().copied().filter(|&(_, place)| is_closed(place)).collect();
        if closed.is_empty() {
            return;
        }
        let exact = self.list.iter().filter_map(|state| match &state.in_force.as_ref()?.binds {
            Binds::Value(dimension, value) => Some((*dimension, value.clone())),
            Binds::Org | Binds::Each(_) => None,
        });
        for (dimension, value) in exact.collect::<Vec<_>>() {
            for &(_, place) in closed.iter().filter(|(of, _)| *of == dimension) {
                self.stand(place, Some(dimension), Some(&value), now.hour());
            }
        }
    }

    /// Reads the sums of the budgets at `reading` from the rows, in one pass for all that count alike.
    fn read<H: OrgHours>(&mut self, reading: &[u32], org: &str, now: Hour, hours: &H) -> Result<(), H::Error> {
        let mut is_read = vec![false; self.list.len()];
        let mut passes: BTreeSet<(Option<Dimension>, Hour)> = BTreeSet::new();
        for &place in reading {
            let Some(in_force) = &self.list[place as usize].in_force else { continue };
            let dimension = in_force.binds.dimension();
            is_read[place as usize] = true;
            passes.insert((dimension, in_force.period.start));
        }
        for (dimension, start) in passes {
            // The hour before this one is for the rate alone.
            let from = start.min(Hour(now.0 - 1));
            let mut take = |hour: Hour, value: Option<&str>, credits: CreditSum| {
                self.take_row((dimension, value), start, &is_read, hour, credits);
            };
            match dimension {
                None => hours.hours(org, from, &mut |hour, credits| take(hour, None, credits))?,
                Some(dimension) => {
                    let mut each = |hour, value: &str, credits| take(hour, Some(value), credits);
                    hours.values(org, dimension, from..Hour(i32::MAX), Hour(now.0 - 1), &mut each)?;
                }
            }
        }
        Ok(())
    }

    fn take_row(
        &mut self,
        (dimension, value): (Option<Dimension>, Option<&str>),
        start: Hour,
        is_read: &[bool],
        hour: Hour,
        credits: CreditSum,
    ) {
        let reads = |place: u32| is_read[place as usize];
        for &(_, place) in self.each.iter().filter(|(of, place)| Some(*of) == dimension && reads(*place)) {
            let in_force = self.list[place as usize].in_force.as_ref();
            let counts = in_force.is_some_and(|f| f.period.start == start && f.period.contains(hour.start()));
            if counts && self.scopes.find(place, dimension, value).is_none() {
                self.scopes.insert(ScopeState::new(place, dimension, value, hour));
            }
        }
        let Self { list, scopes, .. } = self;
        scopes.each_of(dimension, value, |_, scope| {
            let in_force = list[scope.budget as usize].in_force.as_ref();
            let in_force = in_force.filter(|f| f.period.start == start && f.binds.dimension() == dimension);
            if let Some(in_force) = in_force.filter(|_| reads(scope.budget)) {
                scope.add(in_force.period, hour, credits);
            }
        });
    }

    /// Whether scopes that were published in an earlier period, and are not used in this one, were in the one before:
    /// that is how they stay (only after a start, or when a period was missed).
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn recall<H: OrgHours>(&mut self, org: &str, law: Law<'_>, hours: &H) -> Result<(), H::Error> {
        let mut unknown = BTreeSet::new();
        for &(dimension, place) in &self.each {
            let state = &mut self.list[place as usize];
            if !std::mem::replace(&mut state.knows_before, true) {
                unknown.insert((place, dimension));
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let waits = |scope: &ScopeState, period: Period| {
            let told = scope.published.as_ref().map(|published| &published.level);
            scope.value.is_some()
                && !scope.seen
                && told.is_some_and(|level| !budget::is_over(level) && !runs(level, period))
        };
        for (place, dimension) in unknown {
            let Some(in_force) = &self.list[place as usize].in_force else { continue };
            let (kind, period) = (in_force.kind, in_force.period);
            if !self.scopes.iter().any(|(_, scope)| scope.budget == place && waits(scope, period)) {
                continue;
            }
            let policies = law.terms.policies(org);
            let before = cycle_at(kind, policies, law.default, period.starts_at().plus_micros(-1));
            let scopes = &mut self.scopes;
            let mut each = |_: Hour, value: &str, _: CreditSum| {
                scopes.each_of(Some(dimension), Some(value), |_, scope| {
                    scope.seen_before |= scope.budget == place;
                });
            };
            hours.values(org, dimension, before.start..before.end, before.end, &mut each)?;
        }
        Ok(())
    }

    /// The scopes of changed budgets, and those that other budgets have of the same values.
    fn wake_touched(&self, touched: &[(u32, Sums)], wake: &mut Vec<u32>) {
        let mut is_touched = vec![false; self.list.len()];
        for &(place, _) in touched {
            is_touched[place as usize] = true;
        }
        for (number, scope) in self.scopes.iter().filter(|(_, scope)| is_touched[scope.budget as usize]) {
            wake.push(number);
            if let Some(value) = scope.value.as_deref() {
                wake.extend(self.scopes.of(scope.dimension, Some(value)).filter(|&mate| mate != number));
            }
        }
    }
}

/// Whether a level was published for that period.
pub(super) fn runs(level: &Level, period: Period) -> bool {
    level.period_start == period.starts_at() && level.period_end == period.ends_at()
}
