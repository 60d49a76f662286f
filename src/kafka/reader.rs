//! A consumer that belongs to no group and reads given partitions from given offsets to their end: the control
//! partition, single records, whole topics. It never commits and never waits without a bound.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;

use super::Error;
use super::batch::{Batch, BatchQueue, Fault, StatefulConsumer, events_waiting};
use super::client::ConsumerState;
use super::settings::{Isolation, KafkaSettings};
use crate::processor::ports::{RecordBatch as _, RecordMark, mark_of};

/// Records of one call.
const BATCH_RECORDS: usize = 10_000;
/// The most events that are served at once.
const SERVED_MAX: usize = 1_000;

pub(super) struct Reader {
    queue: BatchQueue,
    consumer: Arc<StatefulConsumer>,
    settings: KafkaSettings,
}

/// What one step of reading gave.
pub(super) struct Step {
    /// Records; perhaps none.
    pub(super) batch: Batch,
    /// Partitions whose end was met, and that end.
    pub(super) ends: Vec<(i32, i64)>,
    /// What went wrong.
    pub(super) fault: Option<Fault>,
}

impl Reader {
    pub(super) fn new(settings: &KafkaSettings, client_id: &str, isolation: Isolation) -> Result<Self, Error> {
        let mut config = settings.consumer(client_id, isolation);
        // An end is told by a fetch that finds nothing: a short wait there is all that a read of a partition costs.
        config.set("fetch.wait.max.ms", "2");
        let consumer: StatefulConsumer = config
            .create_with_context(ConsumerState::default())
            .map_err(|error| Error::Settings(super::settings::told(&error)))?;
        let consumer = Arc::new(consumer);
        Ok(Self { queue: BatchQueue::new(&consumer, BATCH_RECORDS), consumer, settings: settings.clone() })
    }

    /// Starts reading these partitions of `topic`, and nothing else, from these offsets. To be stopped before the
    /// next start.
    pub(super) fn start(&mut self, topic: &str, from: &[(i32, Offset)]) -> Result<(), Error> {
        let mut list = TopicPartitionList::new();
        for &(partition, offset) in from {
            self.queue.forward(topic, partition);
            list.add_partition_offset(topic, partition, offset).map_err(|error| self.error(topic, &error))?;
        }
        self.consumer.assign(&list).map_err(|error| self.error(topic, &error))?;
        for &(partition, _) in from {
            self.queue.forward(topic, partition);
        }
        Ok(())
    }

    /// Stops reading; what was fetched is dropped.
    pub(super) fn stop(&mut self) {
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(%error, "a reader could not let go of its partitions");
        }
        drop(self.queue.take(|_| false, |_| {}));
    }

    /// Serves log lines and errors that came while nothing was read.
    pub(super) fn serve(&self) {
        for _ in 0..events_waiting(&self.consumer).min(SERVED_MAX) {
            if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                self.consumer.context().consumer_error(&error);
            }
        }
    }

    /// What arrives, at the latest by `deadline`; nothing when nothing does.
    pub(super) fn step(&mut self, deadline: Instant) -> Step {
        loop {
            // Serves log lines and errors that librdkafka mends by itself.
            if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                self.consumer.context().consumer_error(&error);
            }
            let mut fault = None;
            let batch = self.queue.take(|_| true, |found| fault = Some(found));
            let ends = batch.ends().to_vec();
            let something = !batch.is_empty() || !ends.is_empty() || fault.is_some();
            if something || !self.consumer.context().wake.wait_until(deadline) {
                return Step { batch, ends, fault };
            }
        }
    }

    /// Reads `from` until each partition's position has reached the end told beside it; gives up when nothing
    /// comes for `patience`.
    pub(super) fn read_to(
        &mut self,
        topic: &str,
        from: &[(i32, Offset, i64)],
        patience: Duration,
        each: &mut dyn FnMut(&Batch),
    ) -> Result<(), Error> {
        let mut ends: HashMap<i32, i64> = from.iter().map(|&(partition, _, end)| (partition, end)).collect();
        let starts: Vec<_> = from.iter().map(|&(partition, offset, _)| (partition, offset)).collect();
        self.start(topic, &starts)?;
        let mut deadline = Instant::now() + patience;
        while !ends.is_empty() {
            let step = self.step(deadline);
            if let Some(fault) = step.fault {
                self.stop();
                return Err(self.fault(topic, fault));
            }
            if !step.batch.is_empty() {
                each(&step.batch);
                deadline = Instant::now() + patience;
            } else if step.ends.is_empty() && Instant::now() >= deadline {
                self.stop();
                return Err(self.stuck(topic, &ends));
            }
            for index in 0..step.batch.len() {
                let record = step.batch.get(index);
                if ends.get(&record.partition).is_some_and(|end| record.offset + 1 >= *end) {
                    ends.remove(&record.partition);
                }
            }
            for (partition, offset) in step.ends {
                ends.retain(|&open, end| open != partition || offset < *end);
            }
        }
        self.stop();
        Ok(())
    }

    /// The mark of the record at exactly `offset`; `None` when the log holds none there.
    pub(super) fn mark(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        patience: Duration,
    ) -> Result<Option<RecordMark>, Error> {
        self.start(topic, &[(partition, Offset::Offset(offset))])?;
        let step = self.step(Instant::now() + patience);
        self.stop();
        if !step.batch.is_empty() {
            let record = step.batch.get(0);
            return Ok((record.offset == offset).then(|| mark_of(&record)));
        }
        match step.fault {
            Some(Fault {
                code: RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange, ..
            }) => Ok(None),
            Some(fault) => Err(self.fault(topic, fault)),
            None if !step.ends.is_empty() => Ok(None),
            None => Err(self.stuck(topic, &HashMap::from([(partition, offset)]))),
        }
    }

    /// First offset and end of a partition, as this reader's isolation sees them.
    pub(super) fn watermarks(&self, topic: &str, partition: i32, wait: Duration) -> Result<(i64, i64), Error> {
        self.consumer.fetch_watermarks(topic, partition, wait).map_err(|error| {
            self.settings.cluster_error(format!("the offsets of {topic}/{partition} cannot be read"), &error)
        })
    }

    pub(super) fn consumer(&self) -> &StatefulConsumer {
        &self.consumer
    }

    fn error(&self, topic: &str, error: &rdkafka::error::KafkaError) -> Error {
        self.settings.cluster_error(format!("topic {topic} cannot be read"), error)
    }

    pub(super) fn fault(&self, topic: &str, fault: Fault) -> Error {
        Error::Cluster {
            servers: self.settings.bootstrap_servers.clone(),
            what: format!("{topic}/{} cannot be read at offset {}", fault.partition, fault.offset),
            reason: fault.code.to_string(),
        }
    }

    fn stuck(&self, topic: &str, ends: &HashMap<i32, i64>) -> Error {
        let mut open: Vec<_> = ends.iter().map(|(partition, end)| format!("{partition} to {end}")).collect();
        open.sort();
        Error::Cluster {
            servers: self.settings.bootstrap_servers.clone(),
            what: format!("{topic} cannot be read to its end (partition {})", open.join(", ")),
            reason: "nothing more came; an open transaction may hold readers back until it times out".into(),
        }
    }
}
