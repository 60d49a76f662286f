//! What every librdkafka client of this room shares: where its log lines go, and for consumers the rebalances that
//! wait for an answer, the offsets that statistics tell, and a way to sleep until something arrives. Decides
//! nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::processor::ports::{LogRange, Rebalance};

/// The lock's value, also when a thread panicked while it held it: every value here is whole between two
/// statements.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes a worker that waits for records of several queues.
#[derive(Debug, Default)]
pub(super) struct Wake {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Wake {
    /// Something has arrived. Called by librdkafka's threads.
    pub(super) fn ring(&self) {
        *locked(&self.rung) = true;
        self.bell.notify_one();
    }

    /// Sleeps until rung or `deadline`; whether it was rung. What rang before the call counts.
    pub(super) fn wait_until(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let (mut rung, _) = self
            .bell
            .wait_timeout_while(locked(&self.rung), left, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rung)
    }
}

/// A partition's offsets that a fetch has seen, or -1001 (librdkafka's "invalid") before the first.
fn range_of(low: i64, stable: i64, high: i64) -> Option<LogRange> {
    (low >= 0 && high >= 0 && stable >= 0).then_some(LogRange { low, stable, high })
}

/// The context of a consumer.
#[derive(Debug, Default)]
pub(super) struct ConsumerState {
    /// Rung when records or events arrive.
    pub(super) wake: Arc<Wake>,
    /// The topic whose offsets are kept.
    pub(super) topic: String,
    /// Rebalances that nobody has taken yet.
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Partitions that librdkafka fetches.
    pub(super) fetched: Mutex<BTreeSet<i32>>,
    ranges: Mutex<HashMap<i32, LogRange>>,
    closing: AtomicBool,
    fatal: Mutex<Option<String>>,
}

impl ConsumerState {
    pub(super) fn new(topic: &str) -> Self {
        Self { topic: topic.into(), ..Self::default() }
    }

    /// Of a consumer whose records ring another's bell.
    pub(super) fn ringing(wake: &Arc<Wake>) -> Self {
        Self { wake: Arc::clone(wake), ..Self::default() }
    }

    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        locked(&self.rebalances).pop_front()
    }

    pub(super) fn range(&self, partition: i32) -> Option<LogRange> {
        locked(&self.ranges).get(&partition).copied()
    }

    pub(super) fn take_fatal(&self) -> Option<String> {
        locked(&self.fatal).take()
    }

    /// From here on rebalances are answered at once: nobody takes them any more, and closing waits for the answer.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Those of `partitions` that librdkafka fetches: only they can be unassigned.
    pub(super) fn fetched_of(&self, topic: &str, partitions: impl Iterator<Item = i32>) -> TopicPartitionList {
        let mut fetched = locked(&self.fetched);
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            if fetched.remove(&partition) {
                list.add_partition(topic, partition);
            }
        }
        list
    }
}

impl ClientContext for ConsumerState {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let mut ranges = locked(&self.ranges);
        for partition in topic.partitions.values() {
            if let Some(range) = range_of(partition.lo_offset, partition.ls_offset, partition.hi_offset) {
                ranges.insert(partition.partition, range);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_error(&error, reason);
    }
}

impl ConsumerContext for ConsumerState {
    /// Law 5: a rebalance is answered by the worker when it has recovered or let go, not in the callback.
    /// librdkafka waits with everything paused, keeps the membership alive, and so does the group.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let mut partitions: Vec<i32> =
            list.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect();
        partitions.sort_unstable();
        let assigned = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::SeqCst) {
            let answer = if assigned {
                consumer.incremental_assign(&TopicPartitionList::new())
            } else {
                consumer.incremental_unassign(&self.fetched_of(&self.topic, partitions.into_iter()))
            };
            if let Err(error) = answer {
                tracing::warn!(%error, "a rebalance could not be answered while closing");
            }
            return;
        }
        let rebalance = if assigned {
            Rebalance::Assigned(partitions)
        } else if consumer.assignment_lost() {
            Rebalance::Lost(partitions)
        } else {
            Rebalance::Revoked(partitions)
        };
        locked(&self.rebalances).push_back(rebalance);
    }
}

impl ConsumerState {
    /// An error of the consumer as a whole. Those that librdkafka mends by itself are only logged.
    pub(super) fn consumer_error(&self, error: &KafkaError) {
        if let KafkaError::MessageConsumptionFatal(_) = error {
            *locked(&self.fatal) = Some(super::settings::told(error));
        }
        tracing::debug!(%error, "the consumer reports an error");
    }
}

/// How long an error that was told is not told again.
const TOLD_AGAIN: Duration = Duration::from_secs(10);
/// When each error of a whole client was last told, by any of this process's clients.
static TOLD: Mutex<BTreeMap<i32, Instant>> = Mutex::new(BTreeMap::new());

/// An error of a client as a whole: it mends itself. While brokers are away each client has hundreds a second, so each
/// kind is told once in a while.
pub(super) fn client_error(error: &KafkaError, reason: &str) {
    let code = error.rdkafka_error_code();
    if code == Some(RDKafkaErrorCode::PartitionEOF) {
        // No error: a follower that polls has come to an end.
        return;
    }
    let kind = code.map_or(0, |code| code as i32);
    let mut told = locked(&TOLD);
    if told.get(&kind).is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
        told.insert(kind, Instant::now());
        tracing::warn!(%error, reason, "a Kafka client reports an error and goes on by itself");
    }
}

/// A line of librdkafka's own log, as a line of ours.
pub(super) fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // A [kafka.client] setting for consumers also reaches the producer, and the other way round: as intended.
        RDKafkaLogLevel::Warning if facility == "CONFWARN" => tracing::debug!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(facility, "librdkafka: {message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rang_before_the_wait_is_not_missed_and_rings_once() {
        let wake = Wake::default();
        wake.ring();
        assert!(wake.wait_until(Instant::now() + Duration::from_secs(5)));
        assert!(!wake.wait_until(Instant::now() + Duration::from_millis(5)));
    }
}
