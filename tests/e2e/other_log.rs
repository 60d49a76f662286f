//! Offsets, a usage topic or a decisions topic other than the last commit saw: the halt's own remedy is taken on a real broker.

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tallyman::kafka::KafkaSettings;

use crate::remedies::{folded, folded_by, halt_of, is_well};
use crate::support::{PATIENCE, Site, kafka, wait_until};

/// A member of the group that owns nothing.
fn outsider(kafka: &KafkaSettings) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .set("group.id", &kafka.group_id)
        .create()
        .unwrap()
}

/// What the group has committed.
fn committed(kafka: &KafkaSettings) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(&kafka.topics.usage, 0, kafka.partitions - 1);
    outsider(kafka).committed_offsets(list, PATIENCE).unwrap()
}

/// Commits offset 0 for every partition without metadata, as an operator's tool does.
fn reset_offsets(kafka: &KafkaSettings) {
    let mut list = TopicPartitionList::new();
    for partition in 0..kafka.partitions {
        list.add_partition_offset(&kafka.topics.usage, partition, Offset::Offset(0)).unwrap();
    }
    outsider(kafka).commit(&list, CommitMode::Sync).unwrap();
}

/// Deletes a topic and makes it anew.
pub fn recreate(site: &Site, topic: &str) {
    kafka().delete_topic(topic);
    // The broker deletes it in its own time, and refuses to make it until then.
    wait_until("the topic to be made anew", PATIENCE, || {
        let (code, told, _) = site.ask(&["topics", "create"]);
        code == 0 && told.lines().any(|line| line.contains(topic) && line.ends_with(": created"))
    });
}

/// With `--adopt-from` the instance is well; and so it is the next time, without it.
pub fn adopts(site: &Site, from: &str) {
    let instance = site.run_with(&["--adopt-from", from]);
    is_well(site, &instance);
    instance.stop();
    let instance = site.run();
    is_well(site, &instance);
    instance.stop();
}

#[test]
fn offsets_that_a_tool_reset_are_adopted_from_the_store_or_the_end() {
    for from in ["store", "end"] {
        let kafka = kafka().with_topics("reset", 2);
        let site = folded(&kafka);
        reset_offsets(&kafka);
        let instance = site.run();
        let told = halt_of(&instance, "offset_reset");
        assert!(told.contains("a tool reset the group's offsets") && told.contains("--adopt-from end"), "{told}");
        instance.stop();
        adopts(&site, from);
    }
}

#[test]
fn a_usage_topic_that_was_recreated_is_rebuilt_and_adopted() {
    let kafka = kafka().with_topics("recreated", 2);
    let site = folded(&kafka);
    recreate(&site, &kafka.topics.usage);
    site.tell(&["produce", "--seed", "96", "--count", "100", "--orgs", "20"]);
    let instance = site.run();
    let told = halt_of(&instance, "log_changed");
    assert!(told.contains("tallyman rebuild --partition"), "{told}");
    instance.stop();
    site.tell(&["rebuild", "--yes"]);
    // With a topic its committed offsets go too.
    let instance = site.run();
    let told = halt_of(&instance, "offset_missing");
    assert!(told.contains("--adopt-from end"), "{told}");
    instance.stop();
    adopts(&site, "store");
}

#[test]
fn a_decisions_topic_that_was_recreated_is_adopted_and_every_decision_published_anew() {
    let kafka = kafka().with_topics("emptied", 2);
    let site = folded(&kafka);
    let before = decided_orgs(&kafka);
    assert!(before.len() > 10, "{before:?}");
    recreate(&site, &kafka.topics.decisions);
    let instance = site.run();
    halt_of(&instance, "control_emptied");
    instance.stop();
    adopts(&site, "end");
    assert_eq!(decided_orgs(&kafka), before);
}

fn decided_orgs(kafka: &KafkaSettings) -> std::collections::BTreeSet<String> {
    crate::audit::decisions(kafka).into_iter().map(|decision| decision.scope.org_id).collect()
}

#[test]
fn a_log_that_shrank_halts_an_instance_without_a_store_and_adopting_accepts_the_loss() {
    let kafka = kafka().with_topics("no-store", 1);
    let site = folded(&kafka);
    site.tell(&["rebuild", "--yes"]);
    crate::support::kafka().delete_records(&kafka.topics.usage, 0, 100);
    let instance = site.run();
    let told = halt_of(&instance, "log_truncated");
    assert!(told.contains("begins at offset 100 where 0 was folded first"), "{told}");
    instance.stop();
    adopts(&site, "end");
}

#[test]
fn a_store_that_is_ahead_of_the_committed_offsets_is_rebuilt_beside_the_running_instance() {
    let kafka = kafka().with_topics("ahead", 2);
    let site = folded(&kafka);
    let before = committed(&kafka);
    folded_by(&site, "99");
    outsider(&kafka).commit(&before, CommitMode::Sync).unwrap();
    let instance = site.run();
    let told = halt_of(&instance, "store_ahead");
    assert!(
        told.contains("past the committed offset") && told.contains("`tallyman rebuild --partition"),
        "{told}"
    );
    instance.stop();
    site.tell(&["rebuild", "--yes"]);
    let instance = site.run();
    is_well(&site, &instance);
    instance.stop();
}
