//! What every librdkafka client of this room shares: where its log lines go, and for consumers the rebalances that
//! wait for an answer, the offsets that statistics tell, and a way to sleep until something arrives. Decides
//! nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::processor::ports::{LogRange, Rebalance};
use crate::telemetry::{CLIENTS, Line, Severity};

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
    pub(super) fn ringing(wake: &Arc<Wake>, topic: &str) -> Self {
        Self { wake: Arc::clone(wake), topic: topic.into(), ..Self::default() }
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

/// Facilities of librdkafka's log that tell of a failed transaction or a fatal error, which the worker logs with what it does
/// about it.
const HANDLED: [&str; 3] = ["ADDOFFSETS", "FATAL", "TXNERR"];
/// Errors of a client as a whole that librdkafka's log holds too, beside what it did and for which broker.
const LOGGED_ANYWAY: [RDKafkaErrorCode; 8] = [
    RDKafkaErrorCode::AllBrokersDown,
    RDKafkaErrorCode::Authentication,
    RDKafkaErrorCode::BrokerTransportFailure,
    RDKafkaErrorCode::Fatal,
    RDKafkaErrorCode::Fenced,
    RDKafkaErrorCode::OperationTimedOut,
    RDKafkaErrorCode::Resolve,
    RDKafkaErrorCode::SSL,
];

/// An error of a client as a whole: it mends itself. While brokers are away each client has hundreds a second.
pub(super) fn client_error(error: &KafkaError, reason: &str) {
    let code = error.rdkafka_error_code();
    // The end of a partition is no error: a follower that polls has come to it.
    if code == Some(RDKafkaErrorCode::PartitionEOF) || code.is_some_and(|code| LOGGED_ANYWAY.contains(&code)) {
        tracing::debug!(%error, reason, "a Kafka client reports an error");
        return;
    }
    let what = format!("a Kafka client reports {error}; it goes on by itself");
    let line = Line { severity: Severity::Warn, what: what.clone().into(), detail: reason.to_owned(), count: 1 };
    CLIENTS.happened(what, line);
}

/// A line of librdkafka's own log, as a line of ours: what many clients report at once, and again and again, is one line
/// every ten seconds.
pub(super) fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    let severity = match level {
        // A [kafka.client] setting for consumers also reaches the producer, and the other way round: as intended.
        RDKafkaLogLevel::Warning if facility == "CONFWARN" => {
            return tracing::debug!(facility, "librdkafka: {message}");
        }
        _ if HANDLED.contains(&facility) => return tracing::debug!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            return tracing::info!(facility, "librdkafka: {message}");
        }
        RDKafkaLogLevel::Debug => return tracing::debug!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Warning => Severity::Warn,
        // A connection that failed is made again.
        _ if facility == "FAIL" => Severity::Warn,
        _ => Severity::Error,
    };
    let cause = cause_of(facility, message);
    let line =
        Line { severity, what: format!("librdkafka: {cause}").into(), detail: message.to_owned(), count: 1 };
    CLIENTS.happened(cause, line);
}

/// What two lines of librdkafka's log have in common that tell of one cause: the facility, and of a connection that
/// failed the reason, without broker and time.
fn cause_of(facility: &str, message: &str) -> String {
    if facility != "FAIL" {
        return facility.to_owned();
    }
    let reason = message.split(" (after ").next().unwrap_or(message);
    let reason = reason.rsplit(": ").next().unwrap_or(reason);
    format!("{facility} {reason}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_about_one_outage_have_one_cause_whatever_client_broker_and_time_they_name() {
        let refused = "FAIL Connection refused";
        for message in [
            "[thrd:127.0.0.1:9092/1]: 127.0.0.1:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused \
             (after 0ms in state CONNECT)",
            "[thrd:GroupCoordinator]: GroupCoordinator: 127.0.0.1:9092: Connect to ipv4#127.0.0.1:9092 failed: \
             Connection refused (after 1ms in state CONNECT, 1 identical error(s) suppressed)",
        ] {
            assert_eq!(cause_of("FAIL", message), refused);
        }
        let other = "[thrd:b:9092/bootstrap]: b:9092/bootstrap: Failed to resolve 'b:9092': Name or service not known \
                     (after 2ms in state CONNECT)";
        assert_eq!(cause_of("FAIL", other), "FAIL Name or service not known");
        assert_eq!(cause_of("REQTMOUT", "[thrd:b:9092/1]: b:9092/1: Timed out 1 in-flight requests"), "REQTMOUT");
    }

    #[test]
    fn what_rang_before_the_wait_is_not_missed_and_rings_once() {
        let wake = Wake::default();
        wake.ring();
        assert!(wake.wait_until(Instant::now() + Duration::from_secs(5)));
        assert!(!wake.wait_until(Instant::now() + Duration::from_millis(5)));
    }
}
