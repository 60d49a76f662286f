//! The whole of the promise at once: many events with duplicates, processors killed on the way, and sums, blocks and alerts that are
//! exact all the same, also after the stores are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tallyman::cli::generator::{Generator, Load};
use tallyman::codec::Decoder;
use tallyman::domain::credits::format_decimal;
use tallyman::domain::time::Timestamp;
use tallyman::kafka::KafkaSettings;

use crate::audit::{self, Audit};
use crate::support::{Instance, PATIENCE, Progress, Site, kafka, wait_until};

const ORGS: u32 = 1_000;
const KILLS: u64 = 6;
/// How long it is produced for: so long that there is still something to come at the last kill.
const SECONDS: u64 = 40;

/// How many records are produced.
fn count() -> u64 {
    std::env::var("TALLYMAN_E2E_EVENTS")
        .map_or(200_000, |text| text.parse().expect("TALLYMAN_E2E_EVENTS is a number"))
}

/// What the generator will draw for each org, known beforehand so that limits can stand exactly at it.
pub fn drawn(loads: &[(u64, u64)], orgs: u32) -> BTreeMap<String, i128> {
    let mut sums = BTreeMap::new();
    for &(seed, count) in loads {
        // A duplicate is no event of its own; without any, the others would be other ones.
        let (mut generator, mut before) = (Generator::new(Load::new(seed, orgs)), 0);
        for _ in 0..count {
            let event = generator.next(Timestamp::from_micros(0));
            let (org, micros) = (event.org_id.to_string(), i128::from(event.credits.micros()));
            let duplicates = generator.totals().duplicates;
            if std::mem::replace(&mut before, duplicates) == duplicates {
                *sums.entry(org).or_default() += micros;
            }
        }
    }
    sums
}

/// The limit of each org: a third crosses it, half of these by their very last micro-credit; of the others, half stay below by one.
pub fn limits(sums: &BTreeMap<String, i128>) -> BTreeMap<String, i128> {
    let limit = |(place, (org, sum)): (usize, (&String, &i128))| {
        let limit = match place % 6 {
            0 => *sum,
            3 => sum * 6 / 10 + 1,
            1 | 4 => sum + 1,
            _ => sum * 3 + 1,
        };
        (org.clone(), limit)
    };
    sums.iter().enumerate().map(limit).collect()
}

/// HARD policies of these limits, as documents.
pub fn policies(limits: &BTreeMap<String, i128>) -> String {
    limits.iter().fold(String::new(), |mut text, (org, limit)| {
        let base = format_decimal(*limit, 6);
        writeln!(text, "---\ntype: OrgPolicy\norg_id: {org}\nplan: team\nbase_allocation: \"{base}\"").unwrap();
        text
    })
}

/// Orgs whose sum reaches their limit.
pub fn crossing(audit: &Audit, limits: &BTreeMap<String, i128>) -> BTreeSet<String> {
    let reaches = |(org, limit): (&String, &i128)| {
        let used = audit.by_org.get(org).map_or(0, |sum| sum.0);
        (used >= *limit).then(|| org.clone())
    };
    limits.iter().filter_map(reaches).collect()
}

/// What the instance that holds an org tells of it is what the auditor added up.
pub fn check_answers(instances: &[&Instance], audit: &Audit) {
    for (org, (micros, events)) in &audit.by_org {
        let expected = format_decimal(*micros, 6);
        let here = |instance: &&&Instance| instance.get(&format!("/v1/orgs/{org}")).0 == 200;
        let instance = instances.iter().find(here).unwrap_or_else(|| panic!("nobody has {org}"));
        let answer = instance.json(&format!("/v1/orgs/{org}"));
        assert_eq!(answer["used"].as_str(), Some(&*expected), "{org}");
        let answer = instance.json(&format!("/v1/orgs/{org}/usage?bucket=none&group_by=product"));
        assert_eq!(answer["total"]["credits"].as_str(), Some(&*expected), "{org}");
        assert_eq!(answer["total"]["events"].as_i64().map(i128::from), Some(*events), "{org}");
    }
}

/// Waits until the stores of all partitions hold what is published: questions read stores.
pub fn wait_for_stores(kafka: &KafkaSettings, instances: &[&Instance]) {
    let progress = Progress::new(kafka);
    wait_until("the stores to hold what is published", PATIENCE, || {
        let ends = progress.offsets().unwrap_or_default();
        let orgs: Vec<_> = instances.iter().flat_map(|instance| first_orgs(instance)).collect();
        (0..kafka.partitions).zip(ends).all(|(partition, (committed, _))| {
            committed == 0 || orgs.iter().any(|org| *org == (i64::from(partition), committed))
        })
    });
}

/// (partition, position) of each store that answers.
fn first_orgs(instance: &Instance) -> Vec<(i64, i64)> {
    let orgs = instance.json("/v1/orgs?page_size=100");
    let orgs = orgs["orgs"].as_array().unwrap().iter();
    let by_partition: BTreeMap<i64, &str> =
        orgs.map(|org| (org["partition"].as_i64().unwrap(), org["org_id"].as_str().unwrap())).collect();
    let position = |(partition, org)| {
        let (_, body) = instance.get(&format!("/v1/orgs/{org}"));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        (partition, body["position"]["usage"].as_i64().unwrap_or(-1))
    };
    by_partition.into_iter().map(position).collect()
}

#[test]
fn sums_blocks_and_alerts_are_exact_through_kills_and_a_rebuild() {
    let (count, started) = (count(), Instant::now());
    let loads = [(11, count / 2), (12, count - count / 2)];
    let limits = limits(&drawn(&loads, ORGS));
    let kafka = kafka().with_topics("exact", 4);
    let site = Site::new(&kafka, &[]);
    site.apply(&policies(&limits));

    let produce = |(seed, count): (u64, u64), encoding: &str| {
        let (seed, rate, count) = (seed.to_string(), (count / SECONDS).to_string(), count.to_string());
        site.start(&["produce", "--seed", &seed, "--count", &count, "--rate", &rate, "--encoding", encoding])
    };
    let producers = [produce(loads[0], "json"), produce(loads[1], "single_object")];
    let progress = Progress::new(&kafka);
    for kill in 1..=KILLS {
        let instance = site.run();
        let share = i64::try_from(count * kill / (KILLS + 2)).unwrap();
        let mut committed = 0;
        wait_until(&format!("instance {kill} to publish what {share} records cause"), PATIENCE, || {
            committed = progress.committed();
            committed >= share
        });
        instance.kill();
        println!("kill {kill} after {:?}, {committed} published-through", started.elapsed());
    }
    for producer in producers {
        assert_eq!(producer.wait(PATIENCE), 0);
    }
    let instance = site.run();
    site.wait_for_the_end(Duration::from_secs(120));
    instance.wait_until_ready(PATIENCE);
    println!("at the log's end after {:?}", started.elapsed());

    let audit = Audit::of(&kafka, Decoder::new(None));
    assert_eq!(audit.records, count);
    assert!(audit.duplicates > count / 400, "{} duplicates of {count}", audit.duplicates);
    let crossing = crossing(&audit, &limits);
    let third = limits.len() / 3;
    assert!(crossing.len().abs_diff(third) <= 1, "{} of {} cross", crossing.len(), limits.len());
    wait_for_stores(&kafka, &[&instance]);
    check_answers(&[&instance], &audit);
    println!("drained in {:?}", instance.stop());
    assert!(audit::stored_cells(&[&site]) == audit.by_cell, "cells differ from the auditor's");
    println!("{} orgs and {} cells agree after {:?}", audit.by_org.len(), audit.by_cell.len(), started.elapsed());

    let (decisions, alerts) = (audit::decisions(&kafka), audit::alerts(&kafka));
    audit::check_decisions(&decisions, &crossing);
    audit::check_alerts(&alerts, &crossing);
    assert_eq!(audit::letters(&kafka, &kafka.topics.dead_letters), []);
    println!("{} decisions, {} alerts, {} blocks", decisions.len(), alerts.len(), crossing.len());

    let before = audit::dump(&site);
    std::fs::remove_dir_all(site.path("data")).unwrap();
    let rebuilding = Instant::now();
    let instance = site.run();
    instance.wait_until_ready(Duration::from_secs(120));
    println!("rebuilt in {:?}", rebuilding.elapsed());
    instance.stop();
    let after = audit::dump(&site);
    assert!(before == after, "the rebuilt rows differ");
    println!("{} bytes of rows are the same", before.iter().map(String::len).sum::<usize>() / 2);
    let again = audit::decisions(&kafka);
    assert!(again == decisions, "the rebuild decided again: {:#?}", &again[decisions.len().min(again.len())..]);
    assert!(audit::alerts(&kafka) == alerts, "the rebuild alerted again");
    assert_eq!(audit::letters(&kafka, &kafka.topics.dead_letters), []);
}
