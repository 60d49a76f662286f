//! The auditor: reads the topics from their start and adds up in the plainest way there is. It knows nothing of cubes
//! or stores; what it finds is what the rest must say.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

use serde_json::Value;
use tallyman::app::fold_settings;
use tallyman::codec::Decoder;
use tallyman::domain::cube::field_set::FieldSet;
use tallyman::domain::cube::scan::Question;
use tallyman::domain::cube::tally::Field;
use tallyman::domain::limits::decision::{Action, LimitDecision};
use tallyman::domain::time::Hour;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::usage::event::Event;
use tallyman::kafka::{KafkaSettings, read_topic};
use tallyman::store::{self, Store, StoreMemory};

use crate::support::Site;

/// org, UTC day, product, model, user.
pub type Cell = (String, i64, Option<String>, Option<String>, Option<String>);

/// Micro-credits and events.
pub type Sum = (i128, i128);

/// What the usage log adds up to.
#[derive(Default)]
pub struct Audit {
    /// All records.
    pub records: u64,
    /// Those that repeat an earlier id.
    pub duplicates: u64,
    /// By org.
    pub by_org: BTreeMap<String, Sum>,
    /// By cell.
    pub by_cell: BTreeMap<Cell, Sum>,
}

impl Audit {
    /// Of all usage events and corrections that the log holds. Every record must be good and in its place.
    pub fn of(kafka: &KafkaSettings, mut decoder: Decoder) -> Self {
        let (mut audit, mut seen) = (Self::default(), HashSet::new());
        read_topic(kafka, &kafka.topics.usage, |record, _| {
            let event = decoder.usage(record.value.unwrap()).unwrap();
            audit.records += 1;
            if !seen.insert(format!(
                "{} {} {} {:?}",
                event.org_id(),
                event.source(),
                event.id(),
                event.event_type()
            )) {
                audit.duplicates += 1;
                return;
            }
            audit.add(&event);
        })
        .unwrap();
        audit
    }

    fn add(&mut self, event: &Event<'_>) {
        let (dims, credits, events) = match event {
            Event::Usage(usage) => (&usage.dims, usage.credits, 1),
            Event::Adjusted(adjusted) => (&adjusted.dims, adjusted.credits, i128::from(adjusted.events)),
            Event::Outcome(_) => return,
        };
        let value = |dimension| dims.get(dimension).map(str::to_owned);
        let day = event.occurred_at().micros().div_euclid(86_400_000_000);
        let (product, model) = (value(Dimension::Product), value(Dimension::Model));
        let cell = (event.org_id().to_owned(), day, product, model, value(Dimension::User));
        for sum in
            [self.by_org.entry(event.org_id().to_owned()).or_default(), self.by_cell.entry(cell).or_default()]
        {
            sum.0 += i128::from(credits.micros());
            sum.1 += events;
        }
    }
}

/// The stores of a stopped instance, opened one after the other.
fn stores(site: &Site) -> impl Iterator<Item = Store> {
    let settings = site.settings();
    let (fold, memory) = (fold_settings(&settings), StoreMemory::new(64 << 20));
    let dir = settings.store.dir;
    let partitions = store::partitions(&dir).unwrap();
    partitions.into_iter().map(move |partition| Store::create_or_open(&dir, partition, &fold, &memory).unwrap())
}

/// The sum of every cell that a stopped instance holds.
pub fn stored_cells(sites: &[&Site]) -> BTreeMap<Cell, Sum> {
    let mut cells = BTreeMap::new();
    for store in sites.iter().flat_map(|site| stores(site)) {
        let reader = store.reader();
        let snapshot = reader.snapshot();
        let question = Question {
            group: vec![Dimension::Product, Dimension::Model, Dimension::User],
            fields: FieldSet::of(&[Field::CREDITS, Field::EVENTS]),
            ..Question::default()
        };
        for org in snapshot.orgs(None, usize::MAX).unwrap() {
            let mut each = |hour: Hour, values: &[Option<&str>], tally: &tallyman::domain::cube::tally::Tally| {
                let value = |place: usize| values[place].map(str::to_owned);
                let sum = (tally.credits().micros(), tally.sum(Field::EVENTS));
                let cell = (org.clone(), i64::from(hour.day().0), value(0), value(1), value(2));
                assert!(cells.insert(cell, sum).is_none(), "a sum is there twice");
                ControlFlow::Continue(())
            };
            let day = |hour: Hour| hour.day().first_hour();
            snapshot.sums(&org, &question, Hour(0)..Hour(i32::MAX), day, &mut each).unwrap();
        }
    }
    cells
}

/// Every fact of a stopped instance, merged, byte by byte, as text.
pub fn dump(site: &Site) -> Vec<String> {
    let text = |store: Store| {
        let mut text = format!("partition {}\n", store.partition()).into_bytes();
        store.dump(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    stores(site).map(text).collect()
}

/// Every decision that was published, an org's in order; heartbeats apart.
pub fn decisions(kafka: &KafkaSettings) -> Vec<LimitDecision> {
    decoded_decisions(kafka, Decoder::new(None))
}

/// As [`decisions`], decoded by a decoder of one's own.
pub fn decoded_decisions(kafka: &KafkaSettings, mut decoder: Decoder) -> Vec<LimitDecision> {
    let mut found = Vec::new();
    read_topic(kafka, &kafka.topics.decisions, |record, _| {
        if !record.key.unwrap().starts_with(b"!heartbeat|") {
            found.push((record.partition, decoder.decision(record.value.unwrap()).unwrap()));
        }
    })
    .unwrap();
    by_partition(found)
}

/// Two readings of a topic interleave its partitions differently; within one, the order is the log's.
fn by_partition<T>(mut found: Vec<(i32, T)>) -> Vec<T> {
    found.sort_by_key(|(partition, _)| *partition);
    found.into_iter().map(|(_, record)| record).collect()
}

/// Every alert that was published, as its JSON.
pub fn alerts(kafka: &KafkaSettings) -> Vec<Value> {
    let mut found = Vec::new();
    read_topic(kafka, &kafka.topics.alerts, |record, _| {
        found.push((record.partition, serde_json::from_slice(record.value.unwrap()).unwrap()));
    })
    .unwrap();
    by_partition(found)
}

/// A dead letter: key, value, `tallyman-` headers and others by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The original key.
    pub key: Option<Vec<u8>>,
    /// The original bytes.
    pub value: Option<Vec<u8>>,
    /// Its headers as texts.
    pub headers: BTreeMap<String, String>,
    /// The partition it stands in.
    pub partition: i32,
}

/// Every record of a topic that keeps headers: dead letters, or forwards in the usage topic.
pub fn letters(kafka: &KafkaSettings, topic: &str) -> Vec<Letter> {
    let mut found = Vec::new();
    read_topic(kafka, topic, |record, headers| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        found.push(Letter {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            partition: record.partition,
        });
    })
    .unwrap();
    found
}

/// Holds for the decisions of orgs whose terms and period stay: versions grow, each says something new, and who is in `crossing` is
/// blocked once and for good, nobody else ever.
pub fn check_decisions(decisions: &[LimitDecision], crossing: &BTreeSet<String>) {
    let mut by_org: BTreeMap<&str, Vec<&LimitDecision>> = BTreeMap::new();
    for decision in decisions {
        by_org.entry(&decision.scope.org_id).or_default().push(decision);
    }
    for (org, decisions) in &by_org {
        for pair in decisions.windows(2) {
            assert!(pair[0].version < pair[1].version, "{org}: versions do not grow: {pair:?}");
            assert_ne!(pair[0].level, pair[1].level, "{org}: said twice");
        }
        let blocks = decisions.iter().filter(|decision| decision.level.action == Action::Block).count();
        assert_eq!(blocks, usize::from(crossing.contains(*org)), "{org}: {decisions:?}");
        if blocks == 1 {
            let last = decisions.last().unwrap();
            assert_eq!(last.level.action, Action::Block, "{org} was unblocked: {last:?}");
        }
    }
    let missing: Vec<_> = crossing.iter().filter(|org| !by_org.contains_key(org.as_str())).collect();
    assert!(missing.is_empty(), "without a decision: {missing:?}");
}

/// Holds for the alerts of orgs whose terms and period stay: no kind and level twice, one BLOCKED for each org in `crossing`.
pub fn check_alerts(alerts: &[Value], crossing: &BTreeSet<String>) {
    let (mut ids, mut told, mut blocked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut foretold = BTreeSet::new();
    for alert in alerts {
        let text = |field: &str| alert[field].as_str().unwrap_or_else(|| panic!("{field} in {alert}")).to_owned();
        assert!(ids.insert(text("alert_id")), "twice: {alert}");
        assert!(told.insert((text("org_id"), text("kind"), alert["level"].to_string())), "twice: {alert}");
        match text("kind").as_str() {
            "BLOCKED" => assert!(blocked.insert(text("org_id")), "twice: {alert}"),
            "DEPLETION_FORECAST" => assert!(foretold.insert(text("org_id")), "twice a day: {alert}"),
            kind => assert_eq!(kind, "THRESHOLD", "{alert}"),
        }
    }
    assert_eq!(&blocked, crossing);
}
