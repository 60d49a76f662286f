//! A store filled with known events, and questions to it.

use std::sync::Arc;

use crate::facts::seal;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tallyman::clock::ManualClock;
use tallyman::codec::terms_document::{DocumentDefaults, parse};
use tallyman::domain::credits::Credits;
use tallyman::domain::cube::histogram;
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::limits::decision::{Action, Cause, DecisionReason, Figures, Level, LimitDecision};
use tallyman::domain::limits::scope::Scope;
use tallyman::domain::terms::records::{DefaultTerms, LimitMode, OrgPolicy, OrgStatus, TermsRecord};
use tallyman::domain::time::{Hour, Timestamp};
use tallyman::domain::usage::dimension::Dimension;
use tallyman::query::params::UsageParams;
use tallyman::query::{Query, QueryError, UsageAnswer};
use tallyman::store::{FoldSettings, PoliciesRead, Shelf, Store, StoreMemory, TaskMeta, UsageCounts};

pub const ORG: &str = "acme";

/// An event as far as rows know it.
#[derive(Clone, Debug)]
pub struct Event {
    pub hour: Hour,
    pub values: [Option<&'static str>; Dimension::COUNT],
    pub micros: i64,
    pub ok: bool,
    pub latency_ms: u64,
}

impl Event {
    pub fn value(&self, dimension: Dimension) -> Option<&'static str> {
        self.values[dimension.index()]
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::new();
        tally.add(Field::CREDITS, i128::from(self.micros));
        tally.add(Field::EVENTS, 1);
        tally.add(if self.ok { Field::OK } else { Field::ERROR }, 1);
        tally.add(Field::latency_bucket(histogram::bucket_of(self.latency_ms)), 1);
        tally
    }
}

pub fn at(text: &str) -> Timestamp {
    Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

/// Events of October and November 2026, the same for the same seed.
pub fn events(count: usize, seed: u64) -> Vec<Event> {
    let mut random = SmallRng::seed_from_u64(seed);
    let first = at("2026-10-01T00:00:00Z").hour().0;
    let mut event = || {
        let mut values = [None; Dimension::COUNT];
        values[Dimension::User.index()] = [Some("u1"), Some("u2"), Some("u3"), None][random.random_range(0..4)];
        values[Dimension::Product.index()] = [Some("chat"), Some("agents")][random.random_range(0..2)];
        values[Dimension::Model.index()] = [Some("m:1"), Some("m2"), None][random.random_range(0..3)];
        values[Dimension::Operation.index()] = [Some("ask"), Some("draw")][random.random_range(0..2)];
        Event {
            hour: Hour(first + random.random_range(0..61 * 24)),
            values,
            micros: random.random_range(-1_000..50_000_000),
            ok: random.random_range(0..10) > 0,
            latency_ms: random.random_range(0..20_000),
        }
    };
    (0..count).map(|_| event()).collect()
}

pub fn policy(offset: i64, plan: &str, effective_at: &str) -> (i64, OrgPolicy) {
    let policy = OrgPolicy {
        org_id: ORG.to_owned(),
        plan: plan.to_owned(),
        status: OrgStatus::Active,
        unlimited: false,
        base_allocation: Credits::from_micros(1_000_000_000_000).unwrap(),
        limit_mode: LimitMode::Hard,
        soft_extra: Credits::ZERO,
        unlimited_overage: false,
        thresholds: vec![75, 90, 100],
        anchor_day: 12,
        time_zone: "Europe/Berlin".to_owned(),
        auto_purchase: None,
        products: vec![],
        credit_price: None,
        overage_price: None,
        currency: None,
        effective_at: at(effective_at),
        updated_by: "test".to_owned(),
    };
    (offset, policy)
}

/// A budget and its change, a grant that has ended, and a label.
fn other_terms() -> Vec<(i64, TermsRecord)> {
    let text = "\
type: Budget
org_id: acme
budget_id: b1
name: Everyone
limit: 5
period: day
action: WARN
effective_at: 2026-01-01T00:00:00Z
---
type: Budget
org_id: acme
budget_id: b1
name: Everyone
limit: 9
period: day
action: WARN
effective_at: 2026-03-01T00:00:00Z
---
type: CreditGrant
org_id: acme
grant_id: old
credits: 25
kind: promo
effective_at: 2026-01-01T00:00:00Z
expires_at: 2026-02-01T10:30:00Z
---
type: Label
org_id: acme
dimension: user
value: u1
display_name: Ann
";
    let defaults = DocumentDefaults { effective_at: at("2026-01-01T00:00:00Z"), updated_by: "ann".to_owned() };
    let documents = parse(text, &defaults).unwrap();
    (6..).zip(documents.into_iter().map(|document| document.record)).collect()
}

pub fn decision() -> LimitDecision {
    LimitDecision {
        scope: Scope::org(ORG),
        level: Level {
            action: Action::Block,
            reason: DecisionReason::AllowanceSpent,
            level: 100,
            allowance: Some(Credits::from_micros(5_000_000).unwrap().into()),
            extra: None,
            budget: None,
            period_start: at("2026-11-11T23:00:00Z"),
            period_end: at("2026-12-11T23:00:00Z"),
            valid_until: at("2026-12-11T23:00:00Z"),
            forecast_alerted_on: None,
            purchases_requested: 0,
        },
        figures: Figures::default(),
        version: 7,
        decided_at: at("2026-11-20T10:00:00Z"),
        cause: Cause {
            record: Some((0, 41)),
            event_id: Some("e41".to_owned()),
            trace_id: None,
            policy_offset: Some(3),
        },
    }
}

/// An open store with its shelf. `partitions` is 1, so that every org stands in partition 0.
pub struct Fixture {
    pub shelf: Shelf,
    pub clock: ManualClock,
    store: Store,
    position: i64,
    _dir: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fold = FoldSettings { dedupe_window: 0, max_future: 0, max_age: 0, codec_version: 1, rates: false };
        let store = Store::create_or_open(dir.path(), 0, &fold, &StoreMemory::new(64 << 20)).unwrap();
        let shelf = Shelf::default();
        shelf.put(&store);
        Self { shelf, clock: ManualClock::new(at("2026-11-20T12:30:00Z")), store, position: 0, _dir: dir }
    }

    /// Seals the events' facts and commits them, for acme with its terms and a decision.
    pub fn commit(&mut self, org: &str, events: &[Event]) {
        let policies = [policy(3, "pro", "2026-01-01T00:00:00Z"), policy(5, "max", "2027-01-01T00:00:00Z")];
        let policies = policies.map(|(offset, policy)| (offset, TermsRecord::OrgPolicy(policy)));
        let terms: Vec<_> = policies.into_iter().chain(other_terms()).collect();
        let (terms, decision) = if org == ORG { (terms, Some(decision())) } else { (vec![], None) };
        self.commit_with(org, events, &terms, decision.as_ref());
    }

    /// The same with these terms and this decision.
    pub fn commit_with(
        &mut self,
        org: &str,
        events: &[Event],
        terms: &[(i64, TermsRecord)],
        decision: Option<&LimitDecision>,
    ) {
        let additions: Vec<_> =
            events.iter().map(|event| (org, event.hour, event.values, event.tally())).collect();
        let mut batch = self.store.batch();
        // Several flushes' worth, so that a question meets more than one block of a day.
        additions
            .chunks(additions.len().div_ceil(3).max(1))
            .for_each(|part| seal(part, |sealed| batch.add(sealed)));
        for (offset, record) in terms {
            batch.put_terms(*offset, record);
        }
        if let Some(decision) = decision {
            batch.put_level(decision);
        }
        self.position += i64::try_from(events.len()).unwrap();
        let meta = self.meta();
        self.store.commit(batch, &meta).unwrap();
    }

    /// Commits terms alone.
    pub fn put_terms(&mut self, terms: &[(i64, TermsRecord)]) {
        let mut batch = self.store.batch();
        terms.iter().for_each(|(offset, record)| batch.put_terms(*offset, record));
        let meta = self.meta();
        self.store.commit(batch, &meta).unwrap();
    }

    fn meta(&self) -> TaskMeta {
        TaskMeta {
            position: self.position,
            policies_position: 10,
            origin: 0,
            since: None,
            log_time: at("2026-11-20T12:00:00Z"),
            last_record: None,
            counts: UsageCounts::default(),
            policies: PoliciesRead::default(),
            cluster_id: "test".to_owned(),
            partitions: 1,
        }
    }

    pub fn query(&self, partitions: i32) -> Query {
        Query::new(self.shelf.clone(), partitions, DefaultTerms::Allow, Arc::new(self.clock.clone()), |_| true)
    }
}

pub fn params(raw: &[(&str, &str)]) -> UsageParams {
    let raw: Vec<_> = raw.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    UsageParams::parse(&raw).unwrap()
}

/// The answer, from rows.
pub fn ask(query: &Query, raw: &[(&str, &str)]) -> Result<UsageAnswer, QueryError> {
    query.usage(ORG, params(raw), |_| false).map(|(_, answer)| answer.unwrap())
}
