//! The worker's ports on a real Apache Kafka: what librdkafka and the broker do where the laws count on it.

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use support::kafka::Kafka;
use support::registry::Registry;
use tallyman::kafka::{
    KafkaSettings, KafkaSink, KafkaSource, OffsetKeeper, Producer, Sent, check_topics, create_topics, drain,
    read_topic,
};
use tallyman::processor::ports::{
    Accepted, CommitOffset, Committed, Output, OutputTopic, Polled, PortError, Rebalance, RecordBatch as _,
    Sink as _, Source as _, Start, TransactError, mark_of,
};

#[test]
fn the_servers_start_and_can_be_killed_and_started_again() {
    let mut registry = Registry::start();
    registry.kill();
    registry.restart();
    let mut kafka = Kafka::start();
    let settings = kafka.with_topics("again", 2);
    produce(&settings, 2, 100);
    kafka.kill();
    kafka.restart();
    assert_eq!(drain(&settings, &settings.topics.usage).unwrap().records, 100);
    assert_eq!(check_topics(&settings).unwrap(), []);
}

/// `count` usage records, record n in partition n mod `partitions` with value n.
fn produce(settings: &KafkaSettings, partitions: i32, count: u64) {
    let producer = Producer::new(settings, "load").unwrap();
    for n in 0..count {
        let partition = i32::try_from(n % u64::try_from(partitions).unwrap()).unwrap();
        let value = n.to_be_bytes();
        let sent = Sent { key: Some(b"org"), value: Some(&value), partition: Some(partition), ..Sent::default() };
        producer.send(&settings.topics.usage, &sent).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}
