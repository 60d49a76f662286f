//! Reads whole topics from their start to their present end: auditors, tests, and the raw drain that benches measure the processor
//! against; or goes on with what comes, for `tallyman dev`. Next to read: `reader`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;

use super::Error;
use super::batch::Batch;
use super::reader::Reader;
use super::settings::{Isolation, KafkaSettings};
use crate::processor::ports::{Header, Record, RecordBatch as _};

/// How long the cluster may give nothing before the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads `topic` to its present end, committed records only, and gives each with its headers: a partition's in
/// offset order, partitions interleaved.
///
/// # Errors
/// When the topic does not exist or its end is not reached.
pub fn read_topic(
    settings: &KafkaSettings,
    topic: &str,
    mut each: impl FnMut(&Record<'_>, &[Header]),
) -> Result<(), Error> {
    let mut reader = Reader::new(settings, "tallyman-log-reader", Isolation::Committed)?;
    let from = whole(settings, &reader, topic)?;
    reader.read_to(topic, &from, PATIENCE, &mut |batch: &Batch| {
        for index in 0..batch.len() {
            each(&batch.get(index), &batch.headers(index));
        }
    })
}

/// Reads partitions of `topic` to their present end, as [`read_topic`] does; `each` is told the end of the record's
/// partition beside it.
///
/// # Errors
/// As [`read_topic`].
pub fn read_partitions(
    settings: &KafkaSettings,
    topic: &str,
    wanted: &[i32],
    mut each: impl FnMut(&Record<'_>, &[Header], i64),
) -> Result<(), Error> {
    let mut reader = Reader::new(settings, "tallyman-log-reader", Isolation::Committed)?;
    let mut from = whole(settings, &reader, topic)?;
    from.retain(|(partition, ..)| wanted.contains(partition));
    let ends: HashMap<i32, i64> = from.iter().map(|&(partition, _, end)| (partition, end)).collect();
    reader.read_to(topic, &from, PATIENCE, &mut |batch: &Batch| {
        for index in 0..batch.len() {
            let record = batch.get(index);
            each(&record, &batch.headers(index), ends.get(&record.partition).copied().unwrap_or_default());
        }
    })
}

/// Reads `topic` from its start and goes on with what comes, committed records only, until `stop` is set.
///
/// # Errors
/// When the topic does not exist or a partition cannot be read.
pub fn follow(
    settings: &KafkaSettings,
    topic: &str,
    stop: &AtomicBool,
    mut each: impl FnMut(&Record<'_>),
) -> Result<(), Error> {
    let mut reader = Reader::new(settings, "tallyman-follow", Isolation::Committed)?;
    let from: Vec<_> =
        partitions(settings, &reader, topic)?.into_iter().map(|number| (number, Offset::Beginning)).collect();
    reader.start(topic, &from)?;
    while !stop.load(Ordering::Relaxed) {
        let step = reader.step(Instant::now() + Duration::from_millis(200));
        for index in 0..step.batch.len() {
            each(&step.batch.get(index));
        }
        if let Some(fault) = step.fault {
            return Err(reader.fault(topic, fault));
        }
    }
    reader.stop();
    Ok(())
}

/// What a drain took.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Records read.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Time from the first fetch to the end.
    pub elapsed: Duration,
}

/// Reads `topic` to its present end and does nothing with it: what librdkafka can give, in batches.
///
/// # Errors
/// As [`read_topic`].
pub fn drain(settings: &KafkaSettings, topic: &str) -> Result<Drained, Error> {
    let mut reader = Reader::new(settings, "tallyman-drain", Isolation::Committed)?;
    let from = whole(settings, &reader, topic)?;
    let (mut records, mut bytes) = (0, 0);
    let started = Instant::now();
    reader.read_to(topic, &from, PATIENCE, &mut |batch: &Batch| {
        records += batch.len() as u64;
        for index in 0..batch.len() {
            let record = batch.get(index);
            bytes += (record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)) as u64;
        }
    })?;
    Ok(Drained { records, bytes, elapsed: started.elapsed() })
}

/// The partitions of `topic` that hold anything, each with its first offset and its end.
fn whole(settings: &KafkaSettings, reader: &Reader, topic: &str) -> Result<Vec<(i32, Offset, i64)>, Error> {
    let mut from = Vec::new();
    for partition in partitions(settings, reader, topic)? {
        let (low, end) = reader.watermarks(topic, partition, PATIENCE)?;
        if low < end {
            from.push((partition, Offset::Offset(low), end));
        }
    }
    Ok(from)
}

/// The partitions of `topic`.
fn partitions(settings: &KafkaSettings, reader: &Reader, topic: &str) -> Result<Vec<i32>, Error> {
    let metadata = reader
        .consumer()
        .fetch_metadata(Some(topic), PATIENCE)
        .map_err(|error| settings.cluster_error(format!("topic {topic} cannot be looked up"), &error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic && !found.partitions().is_empty());
    let found = found.ok_or_else(|| Error::NoTopic(topic.into()))?;
    Ok(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
}
