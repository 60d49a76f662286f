//! What one budget would have said of one value, instant by instant: the `replay` of a budget's scope. It judges by
//! `budget::Use` alone, so that it is never another truth than what was published; it never reads a row or a clock.
//! Unlike a published scope, that of a value under a `*` budget is there before the value is first used: the rest of
//! such a budget says the same of it. `explain` asks one scope since when it is blocked, `simulate_budgets` asks all.

use crate::domain::credits::CreditSum;
use crate::domain::limits::budget::{self, Binds, Steady, Use};
use crate::domain::limits::decide::{Judgement, remaining};
use crate::domain::limits::walk::Terms;
use crate::domain::terms::book::History;
use crate::domain::terms::period::{Period, cycle_at};
use crate::domain::terms::records::{Budget, BudgetPeriod};
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;
use crate::domain::what_if::replay::Step;
use crate::domain::what_if::simulate::Moment;

/// The org's days, weeks and months, which all its budgets share.
#[derive(Clone, Debug)]
pub struct Cycles<'a> {
    terms: Terms<'a>,
    from: Timestamp,
    periods: [Vec<Period>; BudgetPeriod::COUNT],
}

impl<'a> Cycles<'a> {
    /// Those that hold any instant of `from..to` at hand.
    #[must_use]
    pub fn new(terms: Terms<'a>, from: Timestamp, to: Timestamp) -> Self {
        let mut periods = [const { Vec::new() }; BudgetPeriod::COUNT];
        for &kind in BudgetPeriod::ALL {
            let of = |at| cycle_at(kind, Some(&terms.org.policies), terms.default, at);
            let next = |period: &Period| (period.ends_at() < to).then(|| of(period.ends_at()));
            periods[kind.index()] = std::iter::successors(Some(of(from)), next).collect();
        }
        Self { terms, from, periods }
    }

    /// The first hour that counts to any of them.
    #[must_use]
    pub fn first_hour(&self) -> Hour {
        let starts = self.periods.iter().filter_map(|periods| periods.first()).map(|period| period.start);
        starts.min().unwrap_or_else(|| self.from.hour())
    }

    /// The period of that kind that holds `at`.
    #[must_use]
    pub fn at(&self, kind: BudgetPeriod, at: Timestamp) -> Period {
        let periods = &self.periods[kind.index()];
        let known = periods.partition_point(|period| period.ends_at() <= at);
        let known = periods.get(known).filter(|period| period.contains(at));
        known.copied().unwrap_or_else(|| cycle_at(kind, Some(&self.terms.org.policies), self.terms.default, at))
    }
}

/// What a value used in the running period of one kind.
#[derive(Clone, Debug)]
struct Sum {
    kind: BudgetPeriod,
    period: Period,
    used: CreditSum,
    /// Of hours after it: events may be dated some minutes ahead.
    ahead: Vec<(Hour, CreditSum)>,
}

impl Sum {
    fn pass(&mut self, cycles: &Cycles<'_>, at: Timestamp) {
        if at < self.period.ends_at() {
            return;
        }
        self.period = cycles.at(self.kind, at);
        self.used = CreditSum::ZERO;
        let (period, used) = (self.period, &mut self.used);
        self.ahead.retain(|(hour, credits)| {
            if period.contains(hour.start()) {
                *used += *credits;
            }
            *hour >= period.end
        });
    }

    /// What comes late to a period that is over changes nothing any more.
    fn add(&mut self, step: Step) {
        if self.period.contains(step.hour.start()) {
            self.used += step.credits;
        } else if step.hour >= self.period.end {
            self.ahead.push((step.hour, step.credits));
        }
    }
}

/// The budget as it binds a scope, and what that scope is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound<'a> {
    /// The record in force and its offset.
    pub budget: (i64, &'a Budget),
    /// The budget's running period.
    pub period: Period,
    /// What it says.
    pub judged: Judgement,
}

/// Hears when something turned, and what holds from then on.
pub type Each<'e, 'a> = &'e mut dyn FnMut(Moment, Option<&Bound<'a>>);

/// A replay of one scope up to an instant.
#[derive(Clone, Debug)]
pub struct ScopeReplay<'a> {
    cycles: &'a Cycles<'a>,
    history: &'a History<Budget>,
    /// Budgets that name the value exactly, now or at some time.
    others: Vec<&'a History<Budget>>,
    dimension: Option<Dimension>,
    value: Option<Box<str>>,
    sums: Vec<Sum>,
    at: Timestamp,
    until: Timestamp,
    steady: Steady,
    bound: Option<Bound<'a>>,
    since: (Timestamp, Option<Hour>),
}

impl<'a> ScopeReplay<'a> {
    /// Of the budget with that history and one value (no dimension: the whole org; a dimension without a value: the rest
    /// of a `*` budget, to which nothing counts). `others` are the budgets that ever name the value exactly. Begins at
    /// [`Cycles::first_hour`], before any usage.
    #[must_use]
    pub fn new(
        cycles: &'a Cycles<'a>,
        history: &'a History<Budget>,
        others: Vec<&'a History<Budget>>,
        (dimension, value): (Option<Dimension>, Option<&str>),
    ) -> Self {
        let at = cycles.first_hour().start();
        let has = |kind: &BudgetPeriod| history.iter().any(|(_, record)| record.period == *kind);
        let sum = |kind| Sum { kind, period: cycles.at(kind, at), used: CreditSum::ZERO, ahead: Vec::new() };
        let mut replay = Self {
            cycles,
            history,
            others,
            dimension,
            value: value.map(Into::into),
            sums: BudgetPeriod::ALL.iter().copied().filter(has).map(sum).collect(),
            at,
            until: Timestamp::MAX,
            steady: Steady::ALWAYS,
            bound: None,
            since: (at, None),
        };
        replay.judge(at, None);
        replay
    }

    /// What holds; `None` while the budget does not bind the scope.
    #[must_use]
    pub const fn bound(&self) -> Option<&Bound<'a>> {
        self.bound.as_ref()
    }

    /// Since when action and reason are what they are, and the hour of the usage that made them so.
    #[must_use]
    pub const fn since(&self) -> (Timestamp, Option<Hour>) {
        self.since
    }

    /// The next instant at which time alone may change what holds.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// Lets time go on to `until`; `each` hears what holds at each turn on the way.
    pub fn pass(&mut self, until: Timestamp, each: Each<'_, 'a>) {
        while self.until <= until && self.until < Timestamp::MAX {
            let at = self.until;
            self.judge(at, None);
            each((at, None), self.bound.as_ref());
        }
    }

    /// Lets time go on to `at`, and tells what holds then.
    pub fn look(&mut self, at: Timestamp) -> Option<&Bound<'a>> {
        self.pass(at, &mut |_, _| {});
        // Of a value that uses nothing periods turned unseen.
        self.judge(at.max(self.at), None);
        self.bound.as_ref()
    }

    /// Takes usage; steps come in the order in which they were known.
    pub fn add(&mut self, step: Step, each: Each<'_, 'a>) {
        let at = step.known_at.max(self.at);
        self.pass(at, each);
        for sum in &mut self.sums {
            sum.pass(self.cycles, at);
            sum.add(step);
        }
        let Some(bound) = &mut self.bound else { return };
        let kind = bound.budget.1.period;
        let sum = self.sums.iter().find(|sum| sum.kind == kind);
        let Some(sum) = sum.filter(|sum| sum.period == bound.period && self.steady.holds(sum.used)) else {
            self.judge(at, Some(step.hour));
            return each((at, Some(step.hour)), self.bound.as_ref());
        };
        // The judgement is the same but for what was used.
        let figures = &mut bound.judged.figures;
        figures.used = sum.used;
        figures.remaining = Some(remaining(CreditSum::from(bound.budget.1.limit), sum.used));
        self.until = self.until.min(bound.period.ends_at());
    }

    /// The record that binds the scope at `at`, and when time alone changes that.
    fn binding(&self, at: Timestamp) -> (Option<(i64, &'a Budget)>, Option<Timestamp>) {
        let next = budget::next_change(self.history, at);
        let Some(record) = budget::in_force(self.history, at) else { return (None, next) };
        let binds = match (Binds::of(record.1), self.value.as_deref()) {
            (Binds::Org, value) => self.dimension.is_none() && value.is_none(),
            (Binds::Value(of, own), Some(value)) => Some(of) == self.dimension && *own == *value,
            (Binds::Value(..), None) => false,
            (Binds::Each(of), None) => Some(of) == self.dimension,
            (Binds::Each(of), Some(value)) if Some(of) == self.dimension => {
                let turns = budget::override_turns(&self.others, record.1, value, at);
                let is_bound = !budget::overrides(&self.others, record.1, value, at);
                return (is_bound.then_some(record), next.into_iter().chain(turns).min());
            }
            (Binds::Each(_), Some(_)) => false,
        };
        (binds.then_some(record), next)
    }

    /// The budget's periods to which an hour's usage counts, whenever it comes, each with the record that bound the scope
    /// last in it before `to`. It counts when the budget binds the scope at the hour's end or later in the period.
    pub fn counts_to(&self, hour: Hour, to: Timestamp) -> impl Iterator<Item = (&'a Budget, Period)> {
        let periods: [Period; BudgetPeriod::COUNT] =
            std::array::from_fn(|place| self.cycles.at(BudgetPeriod::ALL[place], hour.start()));
        let end = periods.iter().map(Period::ends_at).fold(Timestamp::MIN, Timestamp::max).min(to);
        let mut last = [None; BudgetPeriod::COUNT];
        let mut at = Step::whole_hour(hour, CreditSum::ZERO).known_at;
        while at < end {
            let (record, next) = self.binding(at);
            if let Some((_, budget)) = record {
                let place = budget.period.index();
                if at < periods[place].ends_at() {
                    last[place] = Some((budget, periods[place]));
                }
            }
            at = next.unwrap_or(Timestamp::MAX);
        }
        last.into_iter().flatten()
    }

    fn judge(&mut self, at: Timestamp, by_usage_of: Option<Hour>) {
        self.at = at;
        let (record, changes_at) = self.binding(at);
        for sum in &mut self.sums {
            sum.pass(self.cycles, at);
        }
        let said = |bound: &Bound<'_>| (bound.judged.level.action, bound.judged.level.reason);
        let before = self.bound.as_ref().map(said);
        self.until = changes_at.unwrap_or(Timestamp::MAX);
        self.bound = record.and_then(|budget| {
            let sum = self.sums.iter().find(|sum| sum.kind == budget.1.period)?;
            let facts = Use { budget, period: sum.period, used: sum.used, micros_per_second: 0, changes_at };
            // Nothing used of something: until it is used, periods come and go, and nobody has to look.
            let idle = sum.used == CreditSum::ZERO && sum.ahead.is_empty() && budget.1.limit.micros() > 0;
            if !idle {
                self.until = self.until.min(sum.period.ends_at());
            }
            self.steady = facts.steady();
            Some(Bound { budget, period: sum.period, judged: facts.judge() })
        });
        if self.bound.as_ref().map(said) != before {
            self.since = (at, by_usage_of);
        }
    }
}
