//! Policies, decisions, a partition count or a cluster other than a store or O* saw: the halt's own remedy is taken on a real broker.

use tallyman::kafka::{KafkaSettings, Producer, Sent, read_topic};

use crate::other_log::{adopts, recreate};
use crate::remedies::{folded, folded_by, halt_of, is_well};
use crate::support::{PATIENCE, Site, kafka, start_kafka, wait_for, wait_until};

fn policies(orgs: &[&str]) -> String {
    let one = |org: &&str| format!("type: OrgPolicy\norg_id: {org}\nplan: team\nbase_allocation: 10\n");
    orgs.iter().map(one).collect::<Vec<_>>().join("---\n")
}

/// How many records a topic holds.
fn count(kafka: &KafkaSettings, topic: &str) -> usize {
    let mut count = 0;
    read_topic(kafka, topic, |_, _| count += 1).unwrap();
    count
}

#[test]
fn policies_that_retention_took_are_rebuilt_with_what_is_left_and_the_loss_adopted() {
    let kafka = kafka().with_topics("policies-truncated", 1);
    let site = Site::new(&kafka, &[]);
    site.apply(&policies(&["one", "two"]));
    folded_by(&site, "95");
    site.apply(&policies(&["three", "four", "five"]));
    crate::support::kafka().delete_records(&kafka.topics.policies, 0, 4);
    let instance = site.run();
    let told = halt_of(&instance, "policies_truncated");
    assert!(told.contains("terms between were never read") && told.contains("run `tallyman rebuild"), "{told}");
    instance.stop();
    site.tell(&["rebuild", "--yes"]);
    let instance = site.run();
    let told = halt_of(&instance, "policies_truncated");
    assert!(told.contains("terms are gone") && told.contains("--adopt-from end"), "{told}");
    instance.stop();
    adopts(&site, "end");
    let instance = site.run();
    instance.wait_until_ready(PATIENCE);
    let found = ["one", "four", "five"].map(|org| instance.get(&format!("/v1/orgs/{org}/policy")).0);
    assert_eq!(found, [404, 404, 200], "what is left holds");
    instance.stop();
}

#[test]
fn a_policies_topic_that_was_recreated_is_rebuilt_and_adopted() {
    let kafka = kafka().with_topics("policies-recreated", 1);
    let site = Site::new(&kafka, &[]);
    site.apply(&policies(&["one", "two"]));
    folded_by(&site, "95");
    recreate(&site, &kafka.topics.policies);
    let instance = site.run();
    let told = halt_of(&instance, "policies_changed");
    assert!(told.contains("If it is the right one, stop this instance, run `tallyman rebuild"), "{told}");
    instance.stop();
    site.tell(&["rebuild", "--yes"]);
    let instance = site.run();
    let told = halt_of(&instance, "policies_changed");
    assert!(told.contains("--adopt-from end"), "{told}");
    instance.stop();
    adopts(&site, "end");
}

#[test]
fn a_record_in_the_decisions_topic_that_is_no_decision_is_taken_out_beside_the_running_instance() {
    let kafka = kafka().with_topics("unreadable", 1);
    let site = folded(&kafka);
    let producer = Producer::new(&kafka, "stray").unwrap();
    let write = |value: Option<&[u8]>| {
        producer.send(&kafka.topics.decisions, &Sent { key: Some(b"stray"), value, ..Sent::default() }).unwrap();
        producer.flush(PATIENCE).unwrap();
    };
    write(Some(b"no decision"));
    let instance = site.run();
    let told = halt_of(&instance, "control_unreadable");
    assert!(!told.contains("stray") && told.contains("(a tombstone)"), "{told}");
    let log = std::fs::read_to_string(site.path("run.log")).unwrap();
    assert!(log.contains(r#"no decision at key "stray""#), "{log}");
    write(None);
    is_well(&site, &instance);
    instance.stop();
}

/// Copies a topic's records with keys, timestamps and headers, as the runbook for more partitions asks.
fn copy(from: (&KafkaSettings, &str), to: (&KafkaSettings, &str)) {
    let producer = Producer::new(to.0, "copy").unwrap();
    read_topic(from.0, from.1, |record, headers| {
        let timestamp = Some(record.timestamp);
        let sent = Sent { key: record.key, value: record.value, timestamp, headers, partition: None };
        producer.send(to.1, &sent).unwrap();
    })
    .unwrap();
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn a_usage_topic_with_more_partitions_halts_all_and_new_topics_take_its_records() {
    let broker = kafka();
    let kafka = broker.with_topics("more-partitions", 2);
    let site = Site::new(&kafka, &[]);
    site.apply(&policies(&["one", "two"]));
    folded_by(&site, "95");
    let topics = &kafka.topics;
    let inputs = [&topics.usage, &topics.policies];
    for topic in
        inputs.into_iter().chain([&topics.decisions, &topics.alerts, &topics.purchases, &topics.dead_letters])
    {
        broker.add_partitions(topic, 3);
    }
    let instance = site.run();
    for partition in 0..2 {
        let reason = format!("partition {partition} is halted (partitions_changed)");
        wait_until(&reason, PATIENCE, || instance.get("/readyz").1.contains(&reason));
    }
    assert!(instance.get("/readyz").1.contains("migrate to new topics"));
    instance.stop();

    let new = broker.with_topics("new-partitions", 3);
    broker.set_topic(&new.topics.usage, &[("message.timestamp.type", "CreateTime"), ("retention.ms", "-1")]);
    copy((&kafka, &kafka.topics.usage), (&new, &new.topics.usage));
    copy((&kafka, &kafka.topics.policies), (&new, &new.topics.policies));
    broker.set_topic(&new.topics.usage, &[("message.timestamp.type", "LogAppendTime"), ("retention.ms", "-1")]);
    let migrated = Site::new(&new, &[]);
    let instance = migrated.run();
    is_well(&migrated, &instance);
    assert_eq!(count(&new, &new.topics.dead_letters), 0, "nothing is too old");
    instance.stop();
}

#[test]
fn another_cluster_is_rebuilt_and_a_log_that_was_compacted_differs_and_is_adopted() {
    let here = folded(&kafka().with_topics("other-cluster", 1));
    let broker = start_kafka();
    let other = broker.with_topics("other-cluster", 1);
    let data = format!("{:?}", here.path("data").display().to_string());
    let site = Site::new(&other, &[("store.dir", &data)]);
    let instance = site.run();
    let told = halt_of(&instance, "other_cluster");
    assert!(told.contains("the store was built from cluster"), "{told}");
    instance.stop();
    site.tell(&["rebuild", "--yes"]);
    let instance = site.run();
    site.tell(&["produce", "--seed", "97", "--count", "3000", "--orgs", "20"]);
    is_well(&site, &instance);
    instance.stop();

    // Compaction keeps the last record of each key, and with it the last record that was folded.
    let before = count(&other, &other.topics.usage);
    let compact = [("cleanup.policy", "compact"), ("segment.ms", "1"), ("min.cleanable.dirty.ratio", "0.01")];
    broker.set_topic(&other.topics.usage, &compact);
    site.tell(&["produce", "--seed", "98", "--count", "1", "--orgs", "1"]);
    let left = wait_for("the log to be compacted", PATIENCE, || {
        Some(count(&other, &other.topics.usage)).filter(|left| *left < before)
    });
    assert!(left > 0);
    let (code, _, told) = site.ask(&["run"]);
    assert!(code == 1 && told.contains("cleanup.policy"), "such a topic is refused: {told}");
    let restored =
        [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("message.timestamp.type", "LogAppendTime")];
    broker.set_topic(&other.topics.usage, &restored);
    site.tell(&["rebuild", "--yes"]);
    let instance = site.run();
    let told = halt_of(&instance, "log_differs");
    assert!(told.contains("The log or the policies were changed") && told.contains("--adopt-from end"), "{told}");
    instance.stop();
    adopts(&site, "end");
}
