//! One org's budgets as a task meets them, without a store or a log: events, terms and time go in, what would be
//! published comes out and is taken as published.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Range;

use tallyman::domain::credits::{CreditSum, Credits, parse_decimal};
use tallyman::domain::cube::fold::{ContentKey, Contents, Fold};
use tallyman::domain::limits::alert::{Alert, AlertKind};
use tallyman::domain::limits::decision::{Action, Cause, LimitDecision};
use tallyman::domain::limits::rate::RateRing;
use tallyman::domain::terms::book::TermsBook;
use tallyman::domain::terms::records::{Budget, BudgetAction, BudgetPeriod, DefaultTerms, TermsRecord};
use tallyman::domain::time::{Hour, Timestamp};
use tallyman::domain::usage::content::Content;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::usage::event::{Dims, Event, UsageAdjusted};
use tallyman::processor::orgs::{Law, OrgHours, Orgs};

use crate::support::{at, credits};

/// The org.
pub const ORG: &str = "acme";
/// Scopes decided in one turn.
const TURN: usize = 3;

/// Usage or a correction: when, credits in micros, user and model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    pub at: Timestamp,
    pub micros: i64,
    pub user: Option<&'static str>,
    pub model: Option<&'static str>,
}

impl Spent {
    /// Its value of a dimension.
    pub fn value(&self, dimension: Dimension) -> Option<&'static str> {
        match dimension {
            Dimension::User => self.user,
            Dimension::Model => self.model,
            _ => None,
        }
    }
}

/// A budget of `limit` credits for `value` of users (or `None`: of the whole org), each day, in force since 2020.
pub fn budget(id: &str, value: Option<&str>, limit: &str) -> Budget {
    Budget {
        org_id: ORG.into(),
        budget_id: id.into(),
        name: format!("the {id}"),
        dimension: value.map(|_| Dimension::User),
        value: value.map(str::to_owned),
        limit: credits(limit),
        period: BudgetPeriod::Day,
        action: BudgetAction::Block,
        thresholds: vec![75, 90, 100],
        effective_at: at("2020-01-01T00:00:00Z"),
        expires_at: None,
        updated_by: "test".into(),
    }
}

/// All that was spent, as a store that holds all of it tells it.
#[derive(Default)]
struct Hours {
    spent: Vec<Spent>,
}

impl OrgHours for Hours {
    type Error = Infallible;

    fn rate(&self, _: &str) -> Result<RateRing, Infallible> {
        Ok(RateRing::default())
    }

    fn hours(&self, _: &str, from: Hour, each: &mut dyn FnMut(Hour, CreditSum)) -> Result<(), Infallible> {
        let spent = self.spent.iter().filter(|spent| spent.at.hour() >= from);
        spent.for_each(|spent| each(spent.at.hour(), CreditSum(spent.micros.into())));
        Ok(())
    }

    fn values(
        &self,
        _: &str,
        dimension: Dimension,
        range: Range<Hour>,
        fine: Hour,
        each: &mut dyn FnMut(Hour, &str, CreditSum),
    ) -> Result<(), Infallible> {
        for spent in self.spent.iter().filter(|spent| range.contains(&spent.at.hour())) {
            let day = spent.at.hour().day().first_hour();
            let is_whole = day >= range.start && day.0 + 24 <= fine.0;
            if let Some(value) = spent.value(dimension) {
                each(if is_whole { day } else { spent.at.hour() }, value, CreditSum(spent.micros.into()));
            }
        }
        Ok(())
    }
}

struct Empty;

impl Contents for Empty {
    type Error = Infallible;

    fn content(&self, _: &ContentKey<'_>) -> Result<Option<Content>, Infallible> {
        Ok(None)
    }
}

/// The org with its budgets.
pub struct World {
    fold: Fold,
    hours: Hours,
    pub terms: TermsBook,
    pub offset: i64,
    orgs: Orgs,
    pub now: Timestamp,
    /// The record of each key that the control topic holds.
    pub control: BTreeMap<String, LimitDecision>,
    /// All that was published, in order: of each decision and tombstone the alert that went with it.
    pub said: Vec<Option<Alert>>,
    /// The most that was published in one turn.
    pub largest_turn: usize,
    /// Credits beyond the limit of each block that usage caused and that has ended.
    pub overshoots: Vec<CreditSum>,
    /// Scopes and UTC days of forecast alerts.
    foretold: BTreeSet<(String, i32)>,
}

impl World {
    /// An org without anything, at `now`.
    pub fn new(now: &str) -> Self {
        let mut world = Self {
            fold: Fold::default(),
            hours: Hours::default(),
            terms: TermsBook::default(),
            offset: 0,
            orgs: Orgs::default(),
            now: at(now),
            control: BTreeMap::new(),
            said: Vec::new(),
            largest_turn: 0,
            overshoots: Vec::new(),
            foretold: BTreeSet::new(),
        };
        world.restart();
        world
    }

    /// All that was spent so far.
    pub fn spent(&self) -> &[Spent] {
        &self.hours.spent
    }

    fn law(&self) -> Law<'_> {
        Law { terms: &self.terms, default: &DefaultTerms::Allow, now: self.now }
    }

    /// A new process that knows rows, terms and the control topic.
    pub fn restart(&mut self) {
        let mut orgs = Orgs::default();
        let law = self.law();
        let Ok(place) = orgs.find(ORG, &self.hours, law);
        orgs.enqueue(place);
        for decision in self.control.values() {
            orgs.restore(place, decision);
        }
        let Ok(()) = orgs.recall(&self.hours, law);
        self.orgs = orgs;
        self.settle();
    }

    /// Lets time pass.
    pub fn wait(&mut self, until: Timestamp) {
        self.now = self.now.max(until);
        self.settle();
    }

    /// Takes a terms record.
    pub fn put(&mut self, record: TermsRecord) {
        self.offset += 1;
        self.terms.insert(self.offset, record);
        let law = Law { terms: &self.terms, default: &DefaultTerms::Allow, now: self.now };
        let Ok(place) = self.orgs.find(ORG, &self.hours, law);
        self.orgs.terms_changed(place);
        self.settle();
    }

    /// Folds a batch.
    pub fn spend(&mut self, batch: &[Spent]) {
        let law = Law { terms: &self.terms, default: &DefaultTerms::Allow, now: self.now };
        for spent in batch {
            let mut dims = Dims::default();
            dims.0[Dimension::User.index()] = spent.user.map(Into::into);
            dims.0[Dimension::Model.index()] = spent.model.map(Into::into);
            let event = Event::Adjusted(UsageAdjusted {
                adjustment_id: "a".into(),
                source: "s".into(),
                occurred_at: spent.at,
                org_id: ORG.into(),
                dims,
                credits: Credits::from_micros(spent.micros).unwrap(),
                events: 1,
                reason: "r".into(),
                event_id: None,
            });
            let Ok(_) = self.fold.add(&event, &Empty);
        }
        let Ok(place) = self.orgs.find(ORG, &self.hours, law);
        self.fold.org_deltas().for_each(|delta| self.orgs.add(place, &delta));
        if self.orgs.has_budgets(place) {
            (0..).zip(self.fold.spends()).for_each(|(number, spend)| self.orgs.spend(place, &spend, number));
        }
        if self.orgs.changes(place, law) {
            self.orgs.enqueue(place);
        }
        for touched in self.orgs.take_touched() {
            let cause = Cause { record: Some((0, i64::from(touched.record))), ..Cause::default() };
            self.orgs.caused(touched, cause);
        }
        self.fold.end_batch();
        self.hours.spent.extend_from_slice(batch);
        self.settle();
    }

    /// `user` spends `amount` credits now.
    pub fn user_spends(&mut self, user: &'static str, amount: &str) {
        let micros = i64::try_from(parse_decimal(amount, 6).unwrap()).unwrap();
        self.spend(&[Spent { at: self.now, micros, user: Some(user), model: None }]);
    }

    /// A forecast is told at most once a day of a scope, with a decision that says so, and of nothing spent.
    fn check_forecast(&mut self, alert: Option<&Alert>, decision: &LimitDecision) {
        let Some(alert) = alert.filter(|alert| alert.kind == AlertKind::DepletionForecast) else { return };
        let (key, day) = (decision.scope.key(), alert.at.hour().day().0);
        assert_eq!(
            (decision.level.action, decision.level.forecast_alerted_on),
            (Action::Allow, Some(day)),
            "{key}"
        );
        assert!(decision.figures.remaining > Some(CreditSum::ZERO), "{key}: {alert:?}");
        assert!(self.foretold.insert((key, day)), "twice a day: {alert:?}");
    }

    /// Publishes and flushes until there is nothing more to say.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let law = Law { terms: &self.terms, default: &DefaultTerms::Allow, now: self.now };
            self.orgs.ring(law.now);
            let mut changes = self.orgs.decide(TURN, law);
            let mut endings = Vec::new();
            self.orgs.decide_budgets(TURN, law, &mut changes, &mut endings);
            self.largest_turn = self.largest_turn.max(changes.len() + endings.len());
            for change in changes {
                let key = change.decision.scope.key();
                self.overshoots.extend(change.overshoot);
                let before = self.control.insert(key.clone(), change.decision.clone());
                if let Some(before) = before {
                    assert_ne!(before.level, change.decision.level, "{key}: a level was published twice");
                    assert!(before.version < change.decision.version, "{key}: versions do not increase");
                }
                let scope = self.orgs.published(change.place, &change.decision);
                if change.again {
                    self.orgs.decide_again(change.place, scope);
                }
                self.check_forecast(change.alert.as_ref(), &change.decision);
                self.said.push(change.alert);
            }
            for ending in endings {
                self.orgs.buried(&ending);
                self.control.remove(&ending.scope.key()).expect("what has a tombstone was there");
                self.said.push(None);
            }
            let flushes = self.orgs.wants_flush();
            if flushes {
                let law = Law { terms: &self.terms, default: &DefaultTerms::Allow, now: self.now };
                let Ok(()) = self.orgs.reload(&self.hours, law);
            }
            if !flushes && !self.orgs.has_queue() && self.orgs.next_timer().is_none_or(|due| due > self.now) {
                return;
            }
        }
        panic!("it decides for ever");
    }

    /// The decision of a key.
    pub fn decision(&self, key: &str) -> Option<&LimitDecision> {
        self.control.get(key)
    }

    /// What was said since the last time.
    pub fn news(&mut self) -> Vec<Option<Alert>> {
        std::mem::take(&mut self.said)
    }
}
