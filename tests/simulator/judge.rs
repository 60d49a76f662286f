//! What a run leaves behind, and what must hold of it whatever went wrong on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::in_memory::InMemoryRecord;
use serde_json::Value;
use tallyman::codec::Decoder;
use tallyman::domain::credits::CreditSum;
use tallyman::domain::limits::budget::is_over;
use tallyman::domain::limits::decision::{Level, LimitDecision};
use tallyman::processor::ports::OutputTopic;

use crate::support::{PARTITIONS, World};

/// A dead letter or forward: where the record stood and, of a dead letter, why it is dead.
pub type Letter = (String, String, String, String);

/// All that a run leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Every store's rows.
    pub rows: Vec<String>,
    /// Used credits and level of each scope's last decision.
    pub last: BTreeMap<String, (CreditSum, Level)>,
    /// Purchases asked for: id and credits.
    pub purchases: BTreeMap<String, String>,
    /// Dead letters.
    pub dead: BTreeSet<Letter>,
    /// Forwards.
    pub forwards: BTreeSet<Letter>,
}

/// Decisions of a partition in log order, heartbeats and tombstones left out.
pub fn decisions(world: &World, partition: i32) -> Vec<(String, LimitDecision)> {
    said(world, partition).into_iter().filter_map(|(key, decision)| Some((key, decision?))).collect()
}

/// Decisions and tombstones of a partition in log order, heartbeats left out.
pub fn said(world: &World, partition: i32) -> Vec<(String, Option<LimitDecision>)> {
    let mut decoder = Decoder::new(world.options.registry.clone());
    let records = world.log.records(OutputTopic::Decisions, partition).into_iter();
    let keyed = records.map(|record| (String::from_utf8(record.key.unwrap()).unwrap(), record.value));
    let levels = keyed.filter(|(key, _)| !key.starts_with('!'));
    levels.map(|(key, value)| (key, value.map(|value| decoder.decision(&value).unwrap()))).collect()
}

/// Heartbeats of a partition in log order.
pub fn heartbeats(world: &World, partition: i32) -> Vec<InMemoryRecord> {
    let key = format!("!heartbeat|{partition}").into_bytes();
    let records = world.log.records(OutputTopic::Decisions, partition).into_iter();
    records.filter(|record| record.key.as_ref() == Some(&key)).collect()
}

/// Alerts of a partition in log order.
pub fn alerts(world: &World, partition: i32) -> Vec<Value> {
    let records = world.log.records(OutputTopic::Alerts, partition).into_iter();
    records.map(|record| serde_json::from_slice(&record.value.unwrap()).unwrap()).collect()
}

/// The UTC day of a forecast alert; `None` of another alert.
pub fn foretold_on(alert: &Value) -> Option<String> {
    (alert["kind"] == "DEPLETION_FORECAST").then(|| alert["at"].as_str().unwrap()[..10].to_owned())
}

/// Judges what was published and gives all that was left behind; the stores below `dir` are closed.
pub fn outcome(world: &World, dir: &Path) -> Outcome {
    let mut found = Outcome {
        rows: Vec::new(),
        last: BTreeMap::new(),
        purchases: BTreeMap::new(),
        dead: BTreeSet::new(),
        forwards: BTreeSet::new(),
    };
    for partition in 0..PARTITIONS {
        check_levels(world, partition);
        found.rows.push(world.dump(dir, partition));
        for (key, decision) in said(world, partition) {
            let Some(decision) = decision else {
                found.last.remove(&key);
                continue;
            };
            // A forecast looks at a rate at an instant: whether one was told on the way depends on when it was looked at.
            let lasting = Level { forecast_alerted_on: None, ..decision.level };
            found.last.insert(key, (decision.figures.used, lasting));
        }
        for record in world.log.records(OutputTopic::Purchases, partition) {
            let purchase: Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
            let [id, credits] = ["purchase_id", "credits"].map(|name| purchase[name].as_str().unwrap().to_owned());
            assert_eq!(found.purchases.insert(id, credits), None, "{purchase} was asked for twice");
        }
        take_letters(world, OutputTopic::DeadLetters, partition, &mut found.dead);
        take_letters(world, OutputTopic::Usage, partition, &mut found.forwards);
        take_letters(world, OutputTopic::Policies, partition, &mut found.forwards);
    }
    found
}

/// Law 4: a decision differs from the one before it, its version is greater, and each alert goes out once and with
/// the decision that records it.
pub fn check_levels(world: &World, partition: i32) {
    let mut before: BTreeMap<String, LimitDecision> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (key, decision) in said(world, partition) {
        let Some(decision) = decision else {
            let before = before.remove(&key);
            assert!(
                before.is_some_and(|before| is_over(&before.level)),
                "{key}: a tombstone for what was not over"
            );
            continue;
        };
        ids.insert((key.clone(), decision.version));
        if let Some(before) = before.insert(key.clone(), decision.clone()) {
            assert_ne!(before.level, decision.level, "{key}: a level was published twice");
            assert!(before.version < decision.version, "{key}: versions do not increase");
        }
    }
    let mut told = BTreeSet::new();
    for alert in alerts(world, partition) {
        let id = alert["alert_id"].as_str().unwrap();
        let [version, _, key]: [&str; 3] = id.rsplitn(3, '|').collect::<Vec<_>>().try_into().unwrap();
        assert!(ids.contains(&(key.to_owned(), version.parse().unwrap())), "{id} has no decision");
        let fields = ["kind", "level", "period_start", "allowance"].map(|name| alert[name].to_string());
        // A forecast may be told again on another day.
        let day = foretold_on(&alert);
        assert!(told.insert((key.to_owned(), fields, day)), "{id} tells what was told");
    }
}

fn take_letters(world: &World, topic: OutputTopic, partition: i32, letters: &mut BTreeSet<Letter>) {
    for record in world.log.records(topic, partition) {
        let header = |name: &str| {
            let found = record.headers.iter().rfind(|(header, _)| header == name);
            found.map(|(_, value)| String::from_utf8(value.clone()).unwrap())
        };
        let Some(from) = header("tallyman-topic") else { continue };
        let [at, offset] = ["tallyman-partition", "tallyman-offset"].map(|name| header(name).unwrap());
        let letter = (from, at, offset, header("tallyman-reason").unwrap_or_default());
        assert!(letters.insert(letter.clone()), "{letter:?} was sent twice");
    }
}
