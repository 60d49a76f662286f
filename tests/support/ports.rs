//! A worker's ports in the hands of a test: members that join, take everything from the start, and read what
//! comes.

use std::time::{Duration, Instant};

use tallyman::kafka::{Batch, KafkaSettings, KafkaSink, KafkaSource, OffsetKeeper, Producer, Sent};
use tallyman::processor::ports::{
    Accepted, CommitOffset, Output, OutputTopic, Polled, Rebalance, RecordBatch as _, Source as _, Start,
};

/// How long one poll waits.
pub const TICK: Duration = Duration::from_millis(20);

/// `count` usage records, record n in partition n mod `partitions` with value n.
pub fn produce(settings: &KafkaSettings, partitions: i32, count: u64) {
    let producer = Producer::new(settings, "load").unwrap();
    let mut value = [b'x'; 134];
    for n in 0..count {
        let partition = i32::try_from(n % u64::try_from(partitions).unwrap()).unwrap();
        value[..8].copy_from_slice(&n.to_be_bytes());
        let sent = Sent { key: Some(b"org"), value: Some(&value), partition: Some(partition), ..Sent::default() };
        producer.send(&settings.topics.usage, &sent).unwrap();
    }
    producer.flush(Duration::from_mins(1)).unwrap();
}

/// What [`produce`] wrote into a record.
pub fn number(value: Option<&[u8]>) -> u64 {
    u64::from_be_bytes(value.unwrap()[..8].try_into().unwrap())
}

/// A member of the group.
pub fn source(settings: &KafkaSettings, client_id: &str) -> KafkaSource {
    KafkaSource::new(settings, client_id, 10_000, OffsetKeeper::Broker).unwrap()
}

/// A sink that has taken `id` over.
pub fn sink(settings: &KafkaSettings, id: &str) -> KafkaSink {
    KafkaSink::new(settings, "127.0.0.1:1/n/0", id, OffsetKeeper::Broker).unwrap()
}

/// What one poll gives. An assignment of nothing, which a member gets while others move, is answered.
pub fn poll(source: &mut KafkaSource) -> Polled<Batch> {
    loop {
        match source.poll(TICK).unwrap() {
            Polled::Rebalance(Rebalance::Assigned(none)) if none.is_empty() => accept(source, &[]),
            polled => return polled,
        }
    }
}

/// The rebalance that comes next, and the records before it.
pub fn rebalance(source: &mut KafkaSource) -> Rebalance {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Polled::Rebalance(rebalance) = poll(source) {
            return rebalance;
        }
    }
    panic!("no rebalance came");
}

/// Reads these from the start.
pub fn accept(source: &mut KafkaSource, partitions: &[i32]) {
    let start = Some(Start { usage: 0, policies: 0 });
    let accepted: Vec<_> = partitions.iter().map(|&partition| Accepted { partition, start }).collect();
    source.accept(&accepted);
}

/// A source that owns all of the topic and reads it from the start.
pub fn owner(settings: &KafkaSettings) -> KafkaSource {
    let mut source = source(settings, "127.0.0.1:1/n/0");
    let Rebalance::Assigned(mut partitions) = rebalance(&mut source) else { panic!("not assigned") };
    partitions.sort_unstable();
    assert_eq!(partitions, (0..settings.partitions).collect::<Vec<_>>());
    accept(&mut source, &partitions);
    source
}

/// What one poll gives, where no rebalance is expected.
pub fn records(source: &mut KafkaSource) -> Batch {
    match poll(source) {
        Polled::Records(batch) => batch,
        Polled::Rebalance(rebalance) => panic!("{rebalance:?}"),
    }
}

/// (partition, offset) of the next `count` records.
pub fn offsets(source: &mut KafkaSource, count: usize) -> Vec<(i32, i64)> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut found = Vec::new();
    while found.len() < count && Instant::now() < deadline {
        let batch = records(source);
        found.extend((0..batch.len()).map(|index| (batch.get(index).partition, batch.get(index).offset)));
    }
    found
}

/// A record for partition 0 of `topic`.
pub fn output(topic: OutputTopic, key: &str, value: Option<&[u8]>) -> Output {
    Output {
        topic,
        partition: 0,
        key: Some(key.into()),
        value: value.map(Into::into),
        headers: vec![("tallyman-reason".into(), b"bad_field".to_vec())],
    }
}

/// An offset of partition 0 to commit.
pub fn commit(offset: i64, metadata: &str) -> CommitOffset {
    CommitOffset { partition: 0, offset, metadata: metadata.into() }
}

/// The decisions of partition 0, as the source reads them.
pub fn control(source: &mut KafkaSource) -> Vec<(String, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    source
        .read_control(0, &mut |key, value| {
            found.push((String::from_utf8_lossy(key).into_owned(), value.map(<[u8]>::to_vec)));
        })
        .unwrap();
    found
}
