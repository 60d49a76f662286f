//! What the budgets of other terms would have made of the same usage: a replay of every scope that they bind, told scope
//! by scope, side by side with what the org's own budgets made of it. As in `simulate`, all usage is counted as it came.
//! Next: `budget_replay` for how one scope is judged.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::domain::credits::CreditSum;
use crate::domain::limits::budget::Binds;
use crate::domain::limits::decision::Action;
use crate::domain::limits::percent::level_reached;
use crate::domain::limits::scope::BudgetScope;
use crate::domain::terms::book::{History, OrgTerms};
use crate::domain::terms::period::Period;
use crate::domain::terms::records::Budget;
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;
use crate::domain::what_if::budget_replay::{Bound, Cycles, ScopeReplay};
use crate::domain::what_if::replay::Step;
use crate::domain::what_if::simulate::Moment;

/// The most scopes that a simulation tells: the most severe.
pub const SCOPES_TOLD_MAX: usize = 100;
/// The most scopes that a simulation follows, but for values that budgets name: some 200 MB.
pub const SCOPES_MAX: usize = 200_000;
/// The most periods of scopes whose sums are kept where usage may come late: some 300 MB.
pub const PERIODS_KEPT_MAX: usize = 4_000_000;

/// A budget's period, and what of its limit was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Which; perhaps only a part of it was asked for.
    pub period: Period,
    /// Credits used in it, from its start to its end or the end of what was asked for, whenever they became known.
    pub used: CreditSum,
    /// The limit, as of then.
    pub limit: CreditSum,
}

impl Filled {
    /// Whether more of its limit was used than of the other's; of equal ones the earlier is.
    fn is_fuller_than(&self, other: &Self) -> bool {
        // Of no credits at all the least part is all.
        let part = |one: &Self, of: &Self| one.used.0.saturating_mul(of.limit.0.max(1));
        let place = |one: &Self| Reverse((one.period.start, one.period.end));
        (part(self, other), place(self)) > (part(other, self), place(other))
    }
}

/// A threshold that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Percent of the limit.
    pub percent: i32,
    /// When first.
    pub first: Moment,
    /// In how many of the budget's periods.
    pub periods: u32,
}

/// What came of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeOutcome {
    /// The budget's name.
    pub budget_name: String,
    /// Of the budget's periods, the one in which most of the limit was used; the earliest of those.
    pub fullest: Filled,
    /// The highest threshold of that period that its sum reached, in percent, with what came late; 0 if none.
    pub level: i32,
    /// Thresholds reached as usage came, lowest first.
    pub thresholds: Vec<Reached>,
    /// From when to when usage was first blocked, inside what was asked for; no end where it still was at the end.
    pub first_block: Option<(Moment, Option<Timestamp>)>,
    /// How often it was blocked.
    pub blocks: u32,
    /// For how long in all, microseconds.
    pub blocked_micros: i64,
    /// Credits that came while it was blocked: these terms would have refused them.
    pub while_blocked: CreditSum,
}

impl ScopeOutcome {
    fn is_told(&self) -> bool {
        self.blocks > 0 || self.level > 0 || !self.thresholds.is_empty()
    }

    fn severity(&self) -> (bool, i64, i32, CreditSum) {
        let percent = self.thresholds.last().map_or(0, |reached| reached.percent).max(self.level);
        (self.blocks > 0, self.blocked_micros, percent, self.while_blocked)
    }
}

/// What came of every scope that was bound.
pub type ScopeOutcomes = BTreeMap<BudgetScope, ScopeOutcome>;

/// One scope under other terms and under the org's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopePair {
    /// Which.
    pub scope: BudgetScope,
    /// Under the other terms; `None` where they do not bind it.
    pub simulated: Option<ScopeOutcome>,
    /// Under its own, likewise.
    pub actual: Option<ScopeOutcome>,
}

/// The scopes that reached a threshold or were blocked on either side, the most severe first, and how many more there
/// are than are told.
#[must_use]
pub fn side_by_side(simulated: ScopeOutcomes, mut actual: ScopeOutcomes) -> (Vec<ScopePair>, usize) {
    let pair = |(scope, simulated)| {
        let actual = actual.remove(&scope);
        ScopePair { scope, simulated: Some(simulated), actual }
    };
    let mut pairs: Vec<ScopePair> = simulated.into_iter().map(pair).collect();
    let of_actual = |(scope, actual)| ScopePair { scope, simulated: None, actual: Some(actual) };
    pairs.extend(actual.into_iter().map(of_actual));
    let sides = |pair: &ScopePair| [pair.simulated.clone(), pair.actual.clone()].into_iter().flatten();
    pairs.retain(|pair| sides(pair).any(|side| side.is_told()));
    pairs.sort_by_cached_key(|pair| {
        let severity = sides(pair).map(|side| side.severity()).max();
        (Reverse(severity), pair.scope.clone())
    });
    let left_out = pairs.len().saturating_sub(SCOPES_TOLD_MAX);
    pairs.truncate(SCOPES_TOLD_MAX);
    (pairs, left_out)
}

/// The places of the scopes of each value of a dimension; that of the whole org and of the rest of `*` budgets is empty.
type Places = HashMap<Box<str>, Vec<usize>>;

/// A replay of all budgets of an org from `from` up to `to`.
#[derive(Clone, Debug)]
pub struct BudgetSimulation<'a> {
    cycles: &'a Cycles<'a>,
    range: (Timestamp, Timestamp),
    budgets: Vec<(&'a str, &'a History<Budget>)>,
    /// Of each dimension: the budgets that ever bind each value of it, and those that name one.
    each: [Vec<usize>; Dimension::COUNT],
    exact: [HashMap<&'a str, Vec<usize>>; Dimension::COUNT],
    of_org: Vec<usize>,
    places: [Places; Dimension::COUNT],
    scopes: Vec<Scope<'a>>,
    /// Periods whose sums are kept, for usage may come late; `None` where none can.
    kept: Option<usize>,
    is_full: bool,
}

impl<'a> BudgetSimulation<'a> {
    /// Begins at the start of the periods that hold `from`, which must be those of `cycles`. For hours in their order.
    #[must_use]
    pub fn new(org: &'a OrgTerms, cycles: &'a Cycles<'a>, from: Timestamp, to: Timestamp) -> Self {
        Self::over(org, cycles, (from, to), None)
    }

    /// The same for events in the order in which they became known: what comes late counts to its period.
    #[must_use]
    pub fn of_events(org: &'a OrgTerms, cycles: &'a Cycles<'a>, from: Timestamp, to: Timestamp) -> Self {
        Self::over(org, cycles, (from, to), Some(0))
    }

    fn over(
        org: &'a OrgTerms,
        cycles: &'a Cycles<'a>,
        range: (Timestamp, Timestamp),
        kept: Option<usize>,
    ) -> Self {
        let budgets: Vec<_> = org.budgets.iter().map(|(id, history)| (id.as_str(), history)).collect();
        let (each, exact) = ([const { Vec::new() }; Dimension::COUNT], std::array::from_fn(|_| HashMap::new()));
        let places = std::array::from_fn(|_| HashMap::new());
        let (of_org, scopes) = (Vec::new(), Vec::new());
        let mut all = Self { cycles, range, budgets, each, exact, of_org, places, scopes, kept, is_full: false };
        for place in 0..all.budgets.len() {
            all.index(place);
        }
        let exact =
            Dimension::ALL.map(|dimension| all.exact[dimension.index()].keys().copied().collect::<Vec<_>>());
        for (dimension, values) in Dimension::ALL.into_iter().zip(exact) {
            values.into_iter().for_each(|value| all.meet(dimension, value));
        }
        all
    }

    /// What the records of a budget ever bind, and the scopes that stand without usage.
    fn index(&mut self, place: usize) {
        let history = self.budgets[place].1;
        for (_, record) in history.iter() {
            match (Binds::of(record), record.value.as_deref()) {
                (Binds::Org, _) if self.of_org.iter().all(|number| self.scopes[*number].budget != place) => {
                    self.of_org.push(self.scopes.len());
                    self.scopes.push(self.scope(place, Vec::new(), (None, None)));
                }
                (Binds::Each(dimension), _) if !self.each[dimension.index()].contains(&place) => {
                    self.each[dimension.index()].push(place);
                    self.scopes.push(self.scope(place, Vec::new(), (Some(dimension), None)));
                }
                (Binds::Value(dimension, _), Some(value)) => {
                    let known = self.exact[dimension.index()].entry(value).or_default();
                    if !known.contains(&place) {
                        known.push(place);
                    }
                }
                _ => {}
            }
        }
    }

    fn scope(
        &self,
        budget: usize,
        others: Vec<&'a History<Budget>>,
        (dimension, value): (Option<Dimension>, Option<&str>),
    ) -> Scope<'a> {
        let (id, history) = self.budgets[budget];
        let replay = ScopeReplay::new(self.cycles, history, others, (dimension, value));
        let scope = BudgetScope { dimension, value: value.map(str::to_owned), budget_id: id.to_owned() };
        let mut told = Told::new(self.range, self.kept.is_some());
        told.hear(replay.since(), replay.bound());
        Scope { budget, what: scope, replay, told }
    }

    /// The scopes of a value: of each budget that ever binds it.
    fn meet(&mut self, dimension: Dimension, value: &str) {
        let exact = self.exact[dimension.index()].get(value).cloned().unwrap_or_default();
        let each = self.each[dimension.index()].iter().filter(|place| !exact.contains(place));
        let bound: Vec<usize> = exact.iter().chain(each).copied().collect();
        let first = self.scopes.len();
        for place in bound {
            let others =
                exact.iter().filter(|other| **other != place).map(|other| self.budgets[*other].1).collect();
            self.scopes.push(self.scope(place, others, (Some(dimension), Some(value))));
        }
        self.places[dimension.index()].insert(value.into(), (first..self.scopes.len()).collect());
    }

    /// The dimensions that budgets bind; `None` for the whole org.
    pub fn dimensions(&self) -> impl Iterator<Item = Option<Dimension>> {
        let bound = |dimension: &Dimension| {
            !self.each[dimension.index()].is_empty() || !self.exact[dimension.index()].is_empty()
        };
        let org = (!self.of_org.is_empty()).then_some(None);
        org.into_iter().chain(Dimension::ALL.into_iter().filter(bound).map(Some))
    }

    /// Whether usage of more values or periods came than are followed: the answer is not complete.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Takes usage of one value, or of the whole org where there is no dimension; of each value it comes in the order in
    /// which it was known.
    pub fn add(&mut self, of: Option<(Dimension, &str)>, step: Step) {
        if self.is_full || step.hour < self.cycles.first_hour() || step.hour.start() >= self.range.1 {
            return;
        }
        let Some((dimension, value)) = of else {
            let kept: usize = self.of_org.iter().map(|place| self.scopes[*place].add(step)).sum();
            return self.keep(kept);
        };
        if self.each[dimension.index()].is_empty() && self.exact[dimension.index()].is_empty() {
            return;
        }
        if !self.places[dimension.index()].contains_key(value) {
            // Law 6.
            if self.scopes.len() >= SCOPES_MAX {
                self.is_full = true;
                return;
            }
            self.meet(dimension, value);
        }
        let places = &self.places[dimension.index()][value];
        let kept = places.iter().map(|place| self.scopes[*place].add(step)).sum();
        self.keep(kept);
    }

    fn keep(&mut self, periods: usize) {
        if let Some(kept) = &mut self.kept {
            *kept += periods;
            // Law 6.
            self.is_full |= *kept > PERIODS_KEPT_MAX;
        }
    }

    /// Lets time go on to the end, and tells what came of each scope.
    #[must_use]
    pub fn finish(self) -> ScopeOutcomes {
        let to = self.range.1;
        let outcome = |scope: Scope<'_>| {
            let Scope { what, mut replay, mut told, .. } = scope;
            replay.pass(to.plus_micros(-1), &mut |moment, bound| told.hear(moment, bound));
            Some((what, told.finish(to)?))
        };
        self.scopes.into_iter().filter_map(outcome).collect()
    }
}

#[derive(Clone, Debug)]
struct Scope<'a> {
    budget: usize,
    what: BudgetScope,
    replay: ScopeReplay<'a>,
    told: Told<'a>,
}

impl Scope<'_> {
    /// Takes usage, and gives how many periods more are kept.
    fn add(&mut self, step: Step) -> usize {
        let Self { replay, told, .. } = self;
        let kept = told.kept.as_mut().map_or(0, |sums| {
            let before = sums.len();
            for (budget, period) in replay.counts_to(step.hour, told.to) {
                sums.entry((period.start, period.end)).or_insert((budget, CreditSum::ZERO)).1 += step.credits;
            }
            sums.len() - before
        });
        if step.known_at >= told.to {
            return kept;
        }
        replay.pass(step.known_at, &mut |moment, bound| told.hear(moment, bound));
        let counts = |bound: &&Bound<'_>| bound.period.contains(step.hour.start()) && step.known_at >= told.from;
        let blocked = |bound: &Bound<'_>| bound.judged.level.action == Action::Block;
        if replay.bound().filter(counts).is_some_and(blocked) {
            told.while_blocked += step.credits;
        }
        replay.add(step, &mut |moment, bound| told.hear(moment, bound));
        if let (Some(bound), Some((_, now))) = (replay.bound(), &mut told.now) {
            now.used = bound.judged.figures.used;
        }
        kept
    }
}

/// What a scope was told so far.
#[derive(Clone, Debug)]
struct Told<'a> {
    from: Timestamp,
    to: Timestamp,
    /// The sum of each of its periods, with the record that bound it last, where usage may come late; `None` where none can.
    kept: Option<BTreeMap<(Hour, Hour), (&'a Budget, CreditSum)>>,
    /// The budget's last period that bound it.
    now: Option<(&'a Budget, Filled)>,
    fullest: Option<(&'a Budget, Filled)>,
    /// Thresholds of that period that are counted.
    counted: Vec<i32>,
    thresholds: Vec<Reached>,
    /// Since when it is blocked.
    block: Option<Moment>,
    first_block: Option<(Moment, Option<Timestamp>)>,
    blocks: u32,
    blocked_micros: i64,
    while_blocked: CreditSum,
}

impl<'a> Told<'a> {
    fn new((from, to): (Timestamp, Timestamp), keeps_sums: bool) -> Self {
        Self {
            from,
            to,
            kept: keeps_sums.then(BTreeMap::new),
            now: None,
            fullest: None,
            counted: Vec::new(),
            thresholds: Vec::new(),
            block: None,
            first_block: None,
            blocks: 0,
            blocked_micros: 0,
            while_blocked: CreditSum::ZERO,
        }
    }

    fn hear(&mut self, moment: Moment, bound: Option<&Bound<'a>>) {
        if let Some(bound) = bound {
            self.count(moment, bound);
        }
        let blocks = bound.is_some_and(|bound| bound.judged.level.action == Action::Block);
        match (blocks, self.block) {
            (true, None) => self.block = Some(moment),
            (false, Some(since)) => self.end_block(since, moment.0, Some(moment.0)),
            _ => {}
        }
    }

    fn count(&mut self, moment: Moment, bound: &Bound<'a>) {
        let (_, budget) = bound.budget;
        if self.now.is_none_or(|(_, now)| now.period != bound.period) {
            self.turn();
        }
        let (period, used) = (bound.period, bound.judged.figures.used);
        self.now = Some((budget, Filled { period, used, limit: CreditSum::from(budget.limit) }));
        // What was over before the range is no part of it.
        if period.ends_at() <= self.from {
            return;
        }
        // Several jumped at once were all reached.
        for &percent in budget.thresholds.iter().filter(|percent| **percent <= bound.judged.level.level) {
            if self.counted.contains(&percent) {
                continue;
            }
            self.counted.push(percent);
            match self.thresholds.iter_mut().find(|reached| reached.percent == percent) {
                Some(reached) => reached.periods += 1,
                None => self.thresholds.push(Reached { percent, first: moment, periods: 1 }),
            }
        }
    }

    fn turn(&mut self) {
        self.counted.clear();
        if let Some((budget, mut over)) = self.now.take() {
            if self.kept.is_some() {
                // Its sum is weighed at the end, when all that came late is in it.
                over.used = CreditSum::ZERO;
            }
            self.weigh((budget, over));
        }
    }

    fn weigh(&mut self, over: (&'a Budget, Filled)) {
        if over.1.period.ends_at() > self.from
            && self.fullest.is_none_or(|(_, fullest)| over.1.is_fuller_than(&fullest))
        {
            self.fullest = Some(over);
        }
    }

    /// A block that was over before the range is no part of it; one that ran at its start is told from there on.
    fn end_block(&mut self, since: Moment, at: Timestamp, until: Option<Timestamp>) {
        self.block = None;
        let since = if since.0 < self.from { (self.from, None) } else { since };
        if at <= since.0 {
            return;
        }
        self.blocks += 1;
        self.blocked_micros = self.blocked_micros.saturating_add(at.micros_since(since.0));
        self.first_block.get_or_insert((since, until));
    }

    fn finish(mut self, to: Timestamp) -> Option<ScopeOutcome> {
        if let Some(since) = self.block {
            self.end_block(since, to, None);
        }
        self.turn();
        for ((start, end), (budget, used)) in self.kept.take().into_iter().flatten() {
            let limit = CreditSum::from(budget.limit);
            self.weigh((budget, Filled { period: Period { start, end }, used, limit }));
        }
        let (budget, fullest) = self.fullest?;
        self.thresholds.sort_unstable_by_key(|reached| reached.percent);
        Some(ScopeOutcome {
            budget_name: budget.name.clone(),
            fullest,
            level: level_reached(&budget.thresholds, fullest.used, fullest.limit),
            thresholds: self.thresholds,
            first_block: self.first_block,
            blocks: self.blocks,
            blocked_micros: self.blocked_micros,
            while_blocked: self.while_blocked,
        })
    }
}
