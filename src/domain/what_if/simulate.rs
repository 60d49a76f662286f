//! What other terms would have made of the same usage: a replay told period by period. All usage is counted as it came,
//! under either terms, so that the same terms give the same outcome as they did; what came while usage was blocked is
//! counted on its own, for under those terms it would have been refused. The sums of a period hold its late usage too, as those of
//! `walk::segments` do; its blocks and thresholds follow from what was known at the time. Next: `replay` for how it is judged.

use std::collections::BTreeMap;

use crate::domain::credits::CreditSum;
use crate::domain::limits::decide::Judgement;
use crate::domain::limits::decision::Action;
use crate::domain::limits::walk::{Terms, last_instant};
use crate::domain::terms::book::{OrgTerms, PolicyHistory};
use crate::domain::terms::in_force::InForce;
use crate::domain::terms::in_force::in_force;
use crate::domain::terms::period::Period;
use crate::domain::terms::records::{CreditGrant, OrgPolicy, TermsRecord};
use crate::domain::time::{Hour, Timestamp};
use crate::domain::what_if::replay::{Replay, Step, Turn};

/// An instant of a replay, and the hour of the usage that made it matter, where usage did.
pub type Moment = (Timestamp, Option<Hour>);

/// What came of one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodOutcome {
    /// Which; perhaps only a part of it was asked for.
    pub period: Period,
    /// Credits used in it, from its start to its end or the end of what was asked for, whenever they became known.
    pub used: CreditSum,
    /// The allowance then; `None` without a limit.
    pub allowance: Option<CreditSum>,
    /// Usage beyond the allowance; 0 without a limit.
    pub overage: CreditSum,
    /// Credits that came while usage was blocked: these terms would have refused them. What came after its period is
    /// not among them.
    pub while_blocked: CreditSum,
    /// From when to when usage was blocked, inside what was asked for; no end where it still was at the end.
    pub blocked: Vec<(Moment, Option<Timestamp>)>,
    /// Each threshold reached, in percent, and when first.
    pub thresholds: Vec<(i32, Moment)>,
    /// Packs that automatic purchase asked for.
    pub packs: i32,
}

/// A replay that is told period by period, from that of `from` on, up to `to`.
#[derive(Clone, Debug)]
pub struct Simulation<'a> {
    replay: Replay<'a>,
    told: Told<'a>,
    first_hour: Hour,
    to: Timestamp,
    /// Usage of the range that was known after its end.
    late: BTreeMap<Hour, CreditSum>,
}

impl<'a> Simulation<'a> {
    /// Begins at the start of the period that holds `from`: its usage from before `from` counts to its sum, and what
    /// held at `from` is told as of then.
    #[must_use]
    pub fn new(org_id: &'a str, terms: Terms<'a>, from: Timestamp, to: Timestamp) -> Self {
        Self::over(Replay::new(org_id, terms, terms.period(from).starts_at()), terms, from, to)
    }

    /// The same for terms that never were: nobody answered their requests for packs, so that each pack comes at once.
    #[must_use]
    pub fn of_other_terms(org_id: &'a str, terms: Terms<'a>, from: Timestamp, to: Timestamp) -> Self {
        Self::over(Replay::new(org_id, terms, terms.period(from).starts_at()).with_packs(), terms, from, to)
    }

    fn over(replay: Replay<'a>, terms: Terms<'a>, from: Timestamp, to: Timestamp) -> Self {
        let mut told = Told { terms, from, periods: Vec::new() };
        told.turn(replay.turn());
        Self { first_hour: replay.first_hour(), replay, told, to, late: BTreeMap::new() }
    }

    /// The first hour whose usage counts.
    #[must_use]
    pub const fn first_hour(&self) -> Hour {
        self.first_hour
    }

    /// Takes usage, which is not known before what was taken already.
    pub fn add(&mut self, step: Step) {
        if step.hour < self.first_hour || step.hour.start() >= self.to {
            return;
        }
        if step.known_at >= self.to {
            *self.late.entry(step.hour).or_default() += step.credits;
            return;
        }
        let Self { replay, told, .. } = self;
        replay.pass(step.known_at, &mut |turn| told.turn(turn));
        if step.known_at >= told.from && replay.period().contains(step.hour.start()) {
            told.used(replay, step.credits);
        }
        replay.add(step, &mut |turn| told.turn(turn));
        told.packs(replay);
    }

    /// Lets time go on to the end, and tells what came of it.
    #[must_use]
    pub fn finish(self) -> Vec<PeriodOutcome> {
        let Self { mut replay, mut told, to, late, .. } = self;
        let last = to.plus_micros(-1);
        replay.pass(last, &mut |turn| told.turn(turn));
        told.packs(&replay);
        late.into_iter().for_each(|(hour, credits)| replay.add_in_hindsight(hour, credits));
        for period in &mut told.periods {
            set_sums(period, &replay.in_hindsight(last.min(last_instant(period.period))));
        }
        told.periods
    }
}

#[derive(Clone, Debug)]
struct Told<'a> {
    terms: Terms<'a>,
    from: Timestamp,
    periods: Vec<PeriodOutcome>,
}

impl Told<'_> {
    /// The period of a turn; a new one where the turn begins it.
    fn turn(&mut self, turn: &Turn) {
        let level = &turn.judged.level;
        let (at, by_usage_of) = if turn.at < self.from { (self.from, None) } else { (turn.at, turn.by_usage_of) };
        let known = self.periods.last().is_some_and(|last| last.period.starts_at() == level.period_start);
        if !known {
            if let Some(before) = self.periods.last_mut() {
                end_block(before, level.period_start);
            }
            self.periods.push(PeriodOutcome {
                period: self.terms.period(level.period_start),
                used: CreditSum::ZERO,
                allowance: None,
                overage: CreditSum::ZERO,
                while_blocked: CreditSum::ZERO,
                blocked: Vec::new(),
                thresholds: Vec::new(),
                packs: 0,
            });
        }
        let thresholds = match in_force(Some(&self.terms.org.policies), self.terms.default, turn.at) {
            InForce::Policy(_, policy) => policy.thresholds.as_slice(),
            InForce::Nothing | InForce::Block => &[],
        };
        let Some(period) = self.periods.last_mut() else { return };
        period.packs = level.purchases_requested;
        // What was over before the range is no part of it.
        if turn.at < self.from {
            period.blocked.clear();
        }
        match level.action {
            Action::Block if period.blocked.last().is_none_or(|(_, until)| until.is_some()) => {
                period.blocked.push(((at, by_usage_of), None));
            }
            Action::Block => {}
            Action::Allow => end_block(period, at),
        }
        // Several jumped at once were all reached.
        for &reached in thresholds.iter().filter(|percent| **percent <= level.level) {
            if !period.thresholds.iter().any(|(known, _)| *known == reached) {
                period.thresholds.push((reached, (turn.at, turn.by_usage_of)));
            }
        }
    }

    fn used(&mut self, replay: &Replay<'_>, credits: CreditSum) {
        if let (Action::Block, Some(period)) = (replay.turn().judged.level.action, self.periods.last_mut()) {
            period.while_blocked += credits;
        }
    }

    fn packs(&mut self, replay: &Replay<'_>) {
        if let Some(period) = self.periods.last_mut() {
            period.packs = replay.turn().judged.level.purchases_requested;
        }
    }
}

fn set_sums(period: &mut PeriodOutcome, judged: &Judgement) {
    period.used = judged.figures.used;
    period.allowance = judged.level.allowance;
    let overage = judged.level.allowance.map(|allowance| judged.figures.used - allowance);
    period.overage = overage.unwrap_or_default().max(CreditSum::ZERO);
}

fn end_block(period: &mut PeriodOutcome, at: Timestamp) {
    if let Some((_, until @ None)) = period.blocked.last_mut() {
        *until = Some(at);
    }
}

/// An org's terms with `records` in the place of those that are in force from the first of them on: of the policy, and of
/// each budget and grant that they name. Those of other entities, and of the time before, stay.
#[must_use]
pub fn with_terms(org: &OrgTerms, records: &[TermsRecord]) -> OrgTerms {
    let mut terms = org.clone();
    let policies: Vec<&OrgPolicy> = records
        .iter()
        .filter_map(|record| match record {
            TermsRecord::OrgPolicy(policy) => Some(policy),
            _ => None,
        })
        .collect();
    let first = policies.iter().map(|policy| policy.effective_at).min();
    if let Some(first) = first {
        let mut kept = PolicyHistory::default();
        for (offset, policy) in org.policies.iter().filter(|(_, policy)| policy.effective_at < first) {
            kept.insert(offset, policy.clone());
        }
        terms.policies = kept;
    }
    if !policies.is_empty() {
        // What answered requests of the policies that are gone was never asked for.
        let answers = |grant: &CreditGrant| {
            grant.kind == "purchase" && first.is_some_and(|first| grant.effective_at >= first)
        };
        terms.grants.retain(|_, records| !records.first().is_some_and(answers));
    }
    for (place, record) in records.iter().enumerate() {
        match record {
            TermsRecord::Budget(budget) => drop(terms.budgets.remove(&budget.budget_id)),
            TermsRecord::CreditGrant(grant) => drop(terms.grants.remove(&grant.grant_id)),
            _ => {}
        }
        // Behind every offset of the topic, so that they win where the instants are equal.
        terms.insert(i64::MAX - records.len() as i64 + place as i64, record.clone());
    }
    terms
}
