//! The oracle: reads the usage log and the policies log itself and says what CONTRACT.md makes of them at an instant. Plain and slow,
//! with no memory between two questions: every record is looked at for every answer, periods are found hour by hour. It must use
//! nothing of `domain` but the decoder's records; it follows one org's zone and anchor day, which the tests here do not change.

use std::collections::{BTreeSet, HashSet};

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use tallyman::codec::Decoder;
use tallyman::domain::limits::decision::{Action, DecisionReason};
use tallyman::domain::limits::scope::BudgetScope;
use tallyman::domain::terms::records::{
    Budget, BudgetAction, BudgetPeriod, CreditGrant, LimitMode, OrgPolicy, OrgStatus, TermsRecord,
};
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::usage::event::{Dims, Event};
use tallyman::kafka::{KafkaSettings, read_topic};

const HOUR: i64 = 3_600_000_000;

/// A record of usage, or a correction.
pub struct Use {
    /// Whose.
    pub org: String,
    /// Its place in the org's partition.
    pub offset: i64,
    /// Its Kafka timestamp, microseconds.
    pub at: i64,
    hour: i64,
    micros: i128,
    user: Option<String>,
    model: Option<String>,
}

/// A record of terms.
pub struct Term {
    /// Its place in the org's partition.
    pub offset: i64,
    /// Its Kafka timestamp, microseconds.
    pub at: i64,
    /// What it says.
    pub record: TermsRecord,
}

/// Both logs, each partition in its order.
#[derive(Default)]
pub struct Logs {
    /// Usage and corrections, duplicates left out.
    pub uses: Vec<Use>,
    /// Terms.
    pub terms: Vec<Term>,
}

/// What must be told of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub action: Action,
    pub reason: DecisionReason,
    pub used: i128,
    pub allowance: Option<i128>,
    pub extra: Option<i128>,
    pub level: i32,
    pub period_start: i64,
    pub period_end: i64,
}

fn value(dims: &Dims<'_>, dimension: Dimension) -> Option<String> {
    dims.get(dimension).map(str::to_owned)
}

impl Logs {
    /// Of all that both topics hold now.
    pub fn read(kafka: &KafkaSettings) -> Self {
        let (mut logs, mut decoder, mut seen) = (Self::default(), Decoder::new(None), HashSet::new());
        read_topic(kafka, &kafka.topics.usage, |record, _| {
            let event = decoder.usage(record.value.unwrap()).unwrap();
            let id = format!("{} {} {:?} {}", event.org_id(), event.source(), event.event_type(), event.id());
            let (dims, credits) = match &event {
                Event::Usage(usage) => (&usage.dims, usage.credits),
                Event::Adjusted(adjusted) => (&adjusted.dims, adjusted.credits),
                Event::Outcome(_) => return,
            };
            if seen.insert(id) {
                logs.uses.push(Use {
                    org: event.org_id().to_owned(),
                    offset: record.offset,
                    at: record.timestamp.micros(),
                    hour: event.occurred_at().micros().div_euclid(HOUR),
                    micros: credits.micros().into(),
                    user: value(dims, Dimension::User),
                    model: value(dims, Dimension::Model),
                });
            }
        })
        .unwrap();
        read_topic(kafka, &kafka.topics.policies, |record, _| {
            let term = decoder.terms(record.value.unwrap()).unwrap();
            logs.terms.push(Term { offset: record.offset, at: record.timestamp.micros(), record: term });
        })
        .unwrap();
        logs
    }

    /// What the logs hold of an org below these offsets, at an instant.
    pub fn view(&self, org: &str, uses_end: i64, terms_end: i64, now: i64) -> View<'_> {
        let uses = self.uses.iter().filter(|each| each.org == org && each.offset < uses_end).collect();
        let of = |each: &&Term| each.record.org_id() == org && each.offset < terms_end;
        let terms = self.terms.iter().filter(of).map(|each| (each.offset, &each.record)).collect();
        View { uses, terms, now }
    }
}

/// What is known of an org at an instant.
pub struct View<'a> {
    uses: Vec<&'a Use>,
    terms: Vec<(i64, &'a TermsRecord)>,
    now: i64,
}

/// A grant in the walk.
struct Pack {
    order: (i32, i64, i64, String),
    hours: (i64, i64),
    left: i128,
}

fn date(hour: i64, zone: &TimeZone) -> Date {
    zone.to_datetime(jiff::Timestamp::from_second(hour * 3600).unwrap()).date()
}

/// The first whole hour at or after an instant.
fn hour_at_or_after(at: i64) -> i64 {
    -(-at).div_euclid(HOUR)
}

/// The greatest `effective_at`, then offset, of those that have begun.
fn in_force<'a, T>(records: impl Iterator<Item = (i64, i64, &'a T)>, at: i64) -> Option<&'a T> {
    records
        .filter(|(from, ..)| *from <= at)
        .max_by_key(|(from, offset, _)| (*from, *offset))
        .map(|(.., record)| record)
}

fn reached(thresholds: &[i32], used: i128, allowance: i128) -> i32 {
    thresholds
        .iter()
        .filter(|each| used > 0 && 100 * used >= i128::from(**each) * allowance)
        .copied()
        .max()
        .unwrap_or(0)
}

impl View<'_> {
    fn policies(&self) -> impl Iterator<Item = (i64, i64, &OrgPolicy)> {
        self.terms.iter().filter_map(|(offset, record)| match record {
            TermsRecord::OrgPolicy(policy) => Some((policy.effective_at.micros(), *offset, policy)),
            _ => None,
        })
    }

    fn grants(&self) -> impl Iterator<Item = (i64, i64, &CreditGrant)> {
        self.terms.iter().filter_map(|(offset, record)| match record {
            TermsRecord::CreditGrant(grant) => Some((grant.effective_at.micros(), *offset, grant)),
            _ => None,
        })
    }

    /// The budgets in force.
    fn budgets(&self) -> Vec<&Budget> {
        let all = || {
            self.terms.iter().filter_map(|(offset, record)| match record {
                TermsRecord::Budget(budget) => Some((budget.effective_at.micros(), *offset, budget)),
                _ => None,
            })
        };
        let ids: BTreeSet<&str> = all().map(|(.., budget)| budget.budget_id.as_str()).collect();
        let of = |id: &&str| in_force(all().filter(|(.., budget)| budget.budget_id == **id), self.now);
        let lives = |budget: &&Budget| budget.expires_at.is_none_or(|end| self.now < end.micros());
        ids.iter().filter_map(of).filter(lives).collect()
    }

    /// The first and the last hour but one of the period that holds `hour`: it begins where the local date is another one than an
    /// hour before, and is the anchor's.
    fn period(&self, kind: BudgetPeriod, hour: i64) -> (i64, i64) {
        let first = self.policies().min_by_key(|(from, offset, _)| (*from, *offset)).map(|(.., policy)| policy);
        let zone = first.map_or(TimeZone::UTC, |policy| TimeZone::get(&policy.time_zone).unwrap());
        let anchor = first.map_or(1, |policy| policy.anchor_day);
        let begins = |hour: &i64| {
            let here = date(*hour, &zone);
            let is_anchor = match kind {
                BudgetPeriod::Day => true,
                BudgetPeriod::Week => here.weekday() == Weekday::Monday,
                BudgetPeriod::Month => i32::from(here.day()) == anchor,
            };
            is_anchor && here != date(hour - 1, &zone)
        };
        let start = (hour - 800..=hour).rev().find(begins).unwrap();
        (start, (hour + 1..hour + 800).find(begins).unwrap())
    }

    fn packs(&self) -> Vec<Pack> {
        let ids: BTreeSet<&str> = self.grants().map(|(.., grant)| grant.grant_id.as_str()).collect();
        let pack = |id: &&str| {
            let records = || self.grants().filter(|(.., grant)| grant.grant_id == **id);
            let start = records().map(|(from, ..)| from).min()?;
            let grant = in_force(records(), self.now)?;
            let end = [grant.expires_at, grant.voided_at].into_iter().flatten().min();
            let end = end.map_or(i64::MAX, |end| hour_at_or_after(end.micros()));
            let order = (grant.priority, end, start, grant.grant_id.clone());
            Some(Pack { order, hours: (start.div_euclid(HOUR), end), left: grant.credits.micros().into() })
        };
        let mut packs: Vec<Pack> = ids.iter().filter_map(pack).collect();
        packs.sort_by(|a, b| a.order.cmp(&b.order));
        packs
    }

    /// The allowance under a base of so much: the spending order, segment by segment, from the period of the first grant on.
    fn allowance(&self) -> i128 {
        let hour_now = self.now.div_euclid(HOUR);
        let mut packs = self.packs();
        let (start_now, last) = self.period(BudgetPeriod::Month, hour_now);
        let first = packs.iter().map(|pack| pack.hours.0).min().unwrap_or(hour_now).min(hour_now);
        let mut from = self.period(BudgetPeriod::Month, first).0;
        loop {
            let to = self.period(BudgetPeriod::Month, from).1;
            let base_at = self.now.min(to * HOUR - 1);
            let policy = in_force(self.policies(), base_at);
            let mut base = policy.map_or(0, |policy| i128::from(policy.base_allocation.micros()));
            let (mut used, mut uncovered) = (0, 0);
            let cuts = packs.iter().flat_map(|pack| [pack.hours.0, pack.hours.1]);
            let cuts: BTreeSet<i64> = cuts.chain([from]).filter(|cut| (from..to).contains(cut)).collect();
            for &cut in &cuts {
                let end = cuts.range(cut + 1..).next().copied().unwrap_or(to);
                let mut take = |amount: i128| {
                    let mut rest = amount;
                    for pack in packs.iter_mut().filter(|pack| pack.hours.0 <= cut && cut < pack.hours.1) {
                        let part = rest.min(pack.left);
                        pack.left -= part;
                        rest -= part;
                    }
                    rest
                };
                uncovered = take(uncovered);
                let net: i128 =
                    self.uses.iter().filter(|each| (cut..end).contains(&each.hour)).map(|each| each.micros).sum();
                used += net;
                if net >= 0 {
                    let of_base = net.min(base);
                    base -= of_base;
                    uncovered += take(net - of_base);
                } else {
                    let cancelled = uncovered.min(-net);
                    uncovered -= cancelled;
                    base += -net - cancelled;
                }
            }
            if from == start_now {
                let holds = |pack: &&Pack| pack.hours.0 <= hour_now && hour_now < pack.hours.1;
                let left: i128 = packs.iter().filter(holds).map(|pack| pack.left).sum();
                return used - uncovered + base + left;
            }
            assert!(to < last, "the walk missed its period");
            from = to;
        }
    }

    fn used(&self, (from, to): (i64, i64), of: impl Fn(&Use) -> bool) -> i128 {
        self.uses.iter().filter(|each| (from..to).contains(&each.hour) && of(each)).map(|each| each.micros).sum()
    }

    /// What the org is told.
    pub fn org(&self) -> Answer {
        let period = self.period(BudgetPeriod::Month, self.now.div_euclid(HOUR));
        let used = self.used(period, |_| true);
        let answer = |action, reason, allowance, extra, level| Answer {
            action,
            reason,
            used,
            allowance,
            extra,
            level,
            period_start: period.0 * HOUR,
            period_end: period.1 * HOUR,
        };
        let Some(policy) = in_force(self.policies(), self.now) else {
            return answer(Action::Allow, DecisionReason::NoPolicy, None, None, 0);
        };
        if policy.unlimited {
            return answer(Action::Allow, DecisionReason::Unlimited, None, None, 0);
        }
        let allowance = self.allowance();
        let extra = match policy.limit_mode {
            LimitMode::Hard => 0,
            LimitMode::Soft => i128::from(policy.soft_extra.micros()),
        };
        let (action, reason) = match policy.limit_mode {
            _ if policy.status == OrgStatus::Suspended => (Action::Block, DecisionReason::Suspended),
            _ if used < allowance => (Action::Allow, DecisionReason::WithinAllowance),
            LimitMode::Hard => (Action::Block, DecisionReason::AllowanceSpent),
            LimitMode::Soft if used >= allowance + extra => (Action::Block, DecisionReason::OverageSpent),
            LimitMode::Soft => (Action::Allow, DecisionReason::InOverage),
        };
        answer(action, reason, Some(allowance), Some(extra), reached(&policy.thresholds, used, allowance))
    }

    /// What a budget in force says of a use of so much.
    fn under(&self, budget: &Budget, dimension: Option<Dimension>, value: Option<&str>) -> Answer {
        let period = self.period(budget.period, self.now.div_euclid(HOUR));
        let used = match (dimension, value) {
            (None, _) => self.used(period, |_| true),
            (Some(_), None) => 0,
            (Some(dimension), value) => self.used(period, |each| each.value(dimension) == value),
        };
        let limit = i128::from(budget.limit.micros());
        let blocks = budget.action == BudgetAction::Block;
        Answer {
            action: if used >= limit && blocks { Action::Block } else { Action::Allow },
            reason: if used >= limit { DecisionReason::BudgetSpent } else { DecisionReason::WithinBudget },
            used,
            allowance: Some(limit),
            extra: blocks.then_some(0),
            level: reached(&budget.thresholds, used, limit),
            period_start: period.0 * HOUR,
            period_end: period.1 * HOUR,
        }
    }

    fn is_overridden(&self, dimension: Option<Dimension>, value: &str) -> bool {
        self.budgets().iter().any(|other| other.dimension == dimension && other.value.as_deref() == Some(value))
    }

    /// What a budget's scope is told; `None` when it does not bind.
    pub fn budget(&self, scope: &BudgetScope) -> Option<Answer> {
        let budget = self.budgets().into_iter().find(|budget| budget.budget_id == scope.budget_id)?;
        let binds = match (budget.value.as_deref(), scope.value.as_deref()) {
            (Some("*"), Some(value)) => !self.is_overridden(scope.dimension, value),
            (Some("*"), None) => true,
            (own, value) => own == value,
        };
        (binds && budget.dimension == scope.dimension)
            .then(|| self.under(budget, scope.dimension, scope.value.as_deref()))
    }

    /// Whether a value was not used in this period nor in the one before.
    pub fn is_idle(&self, scope: &BudgetScope) -> bool {
        let Some(budget) = self.budgets().into_iter().find(|budget| budget.budget_id == scope.budget_id) else {
            return true;
        };
        let (start, end) = self.period(budget.period, self.now.div_euclid(HOUR));
        let before = self.period(budget.period, start - 1).0;
        let (Some(dimension), Some(value)) = (scope.dimension, scope.value.as_deref()) else { return false };
        let mut uses = self.uses.iter().filter(|each| each.value(dimension) == Some(value));
        !uses.any(|each| (before..end).contains(&each.hour))
    }

    /// Whether a request with this user and model is blocked by any scope that matches it.
    pub fn blocks(&self, user: Option<&str>, model: Option<&str>) -> bool {
        let is_spent = |budget: &Budget| {
            let value = match budget.dimension {
                None => return self.under(budget, None, None).action == Action::Block,
                Some(Dimension::User) => user,
                Some(_) => model,
            };
            let Some(value) = value else { return false };
            let binds = match budget.value.as_deref() {
                Some("*") => !self.is_overridden(budget.dimension, value),
                own => own == Some(value),
            };
            binds && self.under(budget, budget.dimension, Some(value)).action == Action::Block
        };
        self.org().action == Action::Block || self.budgets().into_iter().any(is_spent)
    }
}

impl Use {
    fn value(&self, dimension: Dimension) -> Option<&str> {
        match dimension {
            Dimension::User => self.user.as_deref(),
            Dimension::Model => self.model.as_deref(),
            other => panic!("no test here limits {other:?}"),
        }
    }
}
