//! What a worker meets between its two ports: how its transactions end, and each way in which a port does not do what
//! it was asked. All of these are tried again, so each has at most one line in ten seconds.

use std::time::Duration;

use super::{Severity, Telemetry};
use crate::domain::time::Timestamp;

/// How a transaction ended that did not commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionFailure {
    /// Nothing of it is ever seen.
    Aborted,
    /// Whether it committed is not known before the producer is renewed.
    Unknown,
    /// Another producer has taken the transactional id over.
    Fenced,
}

/// The label of a transaction that committed.
const COMMITTED: &str = "committed";

impl TransactionFailure {
    const ALL: [Self; 3] = [Self::Aborted, Self::Unknown, Self::Fenced];

    const fn label(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
            Self::Fenced => "fenced",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Aborted => "a transaction was aborted; what it held is published again",
            Self::Unknown => "nobody knows yet whether a transaction committed; its tasks are recovered",
            Self::Fenced => "another producer took this worker's transactional id over; its tasks are recovered",
        }
    }
}

/// Every outcome of a transaction, so that each has its series from the start.
pub(super) fn transaction_outcomes() -> impl Iterator<Item = &'static str> {
    std::iter::once(COMMITTED).chain(TransactionFailure::ALL.map(TransactionFailure::label))
}

impl Telemetry {
    /// A transaction committed; it took so long from its first step to the known commit.
    pub fn transaction_committed(&self, took: Duration) {
        self.metrics().transactions.with_label_values(&[COMMITTED]).inc();
        self.metrics().transaction.observe(took.as_secs_f64());
    }

    /// A transaction did not commit.
    pub fn transaction_failed(&self, how: TransactionFailure, message: &str) {
        self.metrics().transactions.with_label_values(&[how.label()]).inc();
        self.repeated(how.label(), Severity::Warn, how.what(), message);
    }

    /// A partition's offsets were committed at `at`.
    pub fn committed(&self, partition: i32, at: Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float by its format")]
        let seconds = at.micros() as f64 / 1e6;
        self.metrics().last_commit.with_label_values(&[partition.to_string().as_str()]).set(seconds);
    }

    /// Running partitions were let go, each with its last committed position. Unless `is_published`, what was folded beyond
    /// that is folded again by the next owner.
    pub fn handed_over(&self, positions: &[(i32, i64)], is_published: bool, took: Duration) {
        if positions.is_empty() {
            return;
        }
        let (count, seconds) = (positions.len(), took.as_secs_f64());
        let listed: Vec<String> = positions.iter().map(|(partition, at)| format!("{partition} at {at}")).collect();
        let listed = listed.join(", ");
        if is_published {
            tracing::info!(count, seconds, "drained: published and stored; partition and position: {listed}");
        } else {
            tracing::warn!(
                count,
                seconds,
                "not drained: what was folded after the last commit could not be published and is folded again; partition \
                 and committed position: {listed}"
            );
        }
    }

    /// The log gave neither records nor a rebalance.
    pub fn poll_failed(&self, message: &str) {
        self.repeated("poll", Severity::Warn, "the log cannot be read now; it is tried again", message);
    }

    /// A partition that is not to be read goes on being fetched; what comes of it is dropped.
    pub fn pause_failed(&self, partition: i32, message: &str) {
        let detail = format!("partition {partition}: {message}");
        self.repeated("pause", Severity::Warn, "a partition that must wait cannot be paused", &detail);
    }

    /// A partition that waited cannot be read on yet.
    pub fn resume_failed(&self, partition: i32, message: &str) {
        let detail = format!("partition {partition}: {message}");
        let what = "a partition that waited cannot be read on now; it is tried again";
        self.repeated("resume", Severity::Warn, what, &detail);
    }

    /// After a failed transaction a partition cannot be read again from its task's position yet.
    pub fn seek_failed(&self, partition: i32, message: &str) {
        let detail = format!("partition {partition}: {message}");
        let what = "a partition cannot be set back to its position now; its worker recovers again";
        self.repeated("seek", Severity::Warn, what, &detail);
    }

    /// A partition's store could not be closed in order; what it lost is folded again.
    pub fn close_failed(&self, partition: i32, message: &str) {
        let detail = format!("partition {partition}: {message}");
        let what = "a store could not be closed; what it had not written is folded again";
        self.repeated("close", Severity::Warn, what, &detail);
    }

    /// The wall clock is not believed, and the worker stands still.
    pub fn clock_not_believed(&self, fault: &str) {
        self.repeated("clock", Severity::Error, "the clock is not believed; nothing is published", fault);
    }

    /// What recovery asks the cluster for does not come yet.
    pub fn recovery_waits(&self, message: &str) {
        let what = "partitions cannot be recovered now; it is tried again";
        self.repeated("recovery", Severity::Warn, what, message);
    }

    /// After a failed transaction the producer could not be replaced yet.
    pub fn renew_failed(&self, message: &str) {
        let what = "the producer cannot be replaced now; it is tried again, and nothing is published meanwhile";
        self.repeated("renew", Severity::Warn, what, message);
    }

    /// A store does not give its size.
    pub fn store_size_unknown(&self, partition: i32, message: &str) {
        let detail = format!("partition {partition}: {message}");
        self.repeated("store_size", Severity::Warn, "the size of a store cannot be read", &detail);
    }
}
