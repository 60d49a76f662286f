//! How a worker publishes what its tasks have to say, and then lets them persist (Laws 3 and 4). It never lets a task
//! write a position that no known commit carries. Next to read: `task/publish.rs`, `task/flush.rs`.

use std::time::{Duration, Instant};

use crate::clock::Clock as _;
use crate::processor::ports::{Sink, Source, TransactError};
use crate::processor::settings::{DECISIONS_PER_TURN_MAX, HEARTBEAT_INTERVAL};
use crate::processor::task::Task;
use crate::store::StoreError;
use crate::telemetry::{Telemetry, TransactionFailure};

use super::{Slot, Worker};

/// A flush takes at most this share of a task's time, so that under load more of it falls together...
const FLUSH_SHARE: u32 = 20;
/// ... unless it would come later than after so many times the shortest interval.
const FLUSH_LATEST: u32 = 25;
/// Records since the last decisions from which on nothing gathers any longer: a transaction is bounded by what they and one
/// more batch cause (Law 6).
const GATHERED_MAX: usize = 5_000;

impl<S: Source, K: Sink<Membership = S::Membership>> Worker<S, K> {
    /// How long what waits gathers before it is published, zero when it is due. A transaction begins no sooner after the
    /// last one than that took: until then the broker still writes its markers and would refuse to begin another, and fewer
    /// and larger ones leave it time for the log.
    pub(super) fn gathers_for(&self) -> Duration {
        let Some((ended, took)) = self.transacted else { return Duration::ZERO };
        if self.gathered >= GATHERED_MAX {
            return Duration::ZERO;
        }
        let gather = &self.settings.gather;
        took.clamp(*gather.start(), *gather.end()).saturating_sub(ended.elapsed())
    }

    /// Publishes at once what gathers: what comes next may take long.
    pub(super) fn publish_gathered(&mut self) {
        if !self.broken {
            self.decide();
            self.publish(|_| false, false);
        }
    }

    /// Decides what batches changed, and some of what time and terms did.
    pub(super) fn decide(&mut self) {
        self.gathered = 0;
        for task in self.speaking() {
            task.decide(DECISIONS_PER_TURN_MAX);
        }
    }

    pub(super) fn publish_and_persist(&mut self) {
        self.look_at_flushes();
        if !self.gathers_for().is_zero() {
            return;
        }
        self.decide();
        let due = self.flush_due();
        let heartbeat = self.heartbeat_at.is_none_or(|at| at.elapsed() >= HEARTBEAT_INTERVAL);
        let is_due = |partition| due == Some(partition);
        if self.publish(is_due, heartbeat) {
            self.persist(is_due, Task::begin_flush);
        }
    }

    fn look_at_flushes(&mut self) {
        let mut failures = Vec::new();
        for (&partition, slot) in &mut self.slots {
            let Slot::Running(task) = slot else { continue };
            failures.extend(task.look_at_flush(&self.shared.telemetry).err().map(|error| (partition, error)));
        }
        for (partition, error) in failures {
            self.failed(partition, error.into());
        }
    }

    /// The task whose flush is due, if any: one a turn, for a flush keeps the decisions of all others waiting. The one that
    /// waited longest goes first, so that none that wants one turn after turn keeps the others from theirs.
    fn flush_due(&self) -> Option<i32> {
        let shortest = self.settings.flush_interval;
        let interval = |task: &Task| (task.flush_took() * FLUSH_SHARE).clamp(shortest, shortest * FLUSH_LATEST);
        let rows: usize = self.tasks().map(Task::dirty_len).sum();
        let due = if rows >= self.settings.flush_rows_max {
            self.tasks().filter(|task| task.is_ahead_of_store()).max_by_key(|task| task.dirty_len())
        } else {
            let is_late = |task: &Task| {
                task.is_ahead_of_store() && !task.is_flushing() && task.unflushed_for() >= interval(task)
            };
            // A timer can make orgs wait for a flush when nothing was folded since the last one.
            let due = self.tasks().filter(|task| task.wants_flush() || is_late(task));
            due.max_by_key(|task| task.unflushed_for())
        };
        due.map(Task::partition)
    }

    /// Publishes all proposals in one transaction with the positions they follow from (Law 3); also those of
    /// partitions to `flush` that have nothing to say. True when nothing is left unpublished.
    pub(super) fn publish(&mut self, flush: impl Fn(i32) -> bool, heartbeat: bool) -> bool {
        if self.settings.task.clock.fault().is_some() {
            self.broken = true;
            return false;
        }
        let mut outputs = Vec::new();
        let mut offsets = Vec::new();
        let id = self.sink.transactional_id().to_owned();
        let now = self.settings.task.clock.now();
        let Self { slots, encoder, .. } = self;
        for slot in slots.values() {
            let Slot::Running(task) = slot else { continue };
            if !task.is_speaking() {
                continue;
            }
            let mut speaks = task.has_outputs() || (flush(task.partition()) && task.is_ahead_of_commit());
            let proposed = task.propose(encoder, &mut outputs).and_then(|()| {
                // The first commit leaves a record in the control partition: one that is empty later was emptied.
                if heartbeat || (speaks && !task.has_commit()) {
                    outputs.push(task.heartbeat(encoder, now)?);
                    speaks = true;
                }
                Ok(())
            });
            if let Err(error) = proposed {
                self.shared.telemetry.registry_error(&error.to_string());
                self.hold_back();
                return false;
            }
            if speaks {
                offsets.push(task.offset(&id));
            }
        }
        self.unencodable = false;
        if offsets.is_empty() {
            return true;
        }
        let started = Instant::now();
        let sent = match self.source.membership() {
            Ok(membership) => self.sink.transact(&outputs, &offsets, &membership),
            Err(error) => Err(TransactError::Aborted(error.to_string())),
        };
        if let Err(error) = sent {
            let how = match error {
                TransactError::Aborted(_) => TransactionFailure::Aborted,
                TransactError::Unknown(_) => TransactionFailure::Unknown,
                TransactError::Fenced(_) => TransactionFailure::Fenced,
            };
            self.shared.telemetry.transaction_failed(how, &error.to_string());
            self.broken = true;
            self.failures = self.failures.saturating_add(1);
            return false;
        }
        let took = started.elapsed();
        self.shared.telemetry.transaction_committed(took);
        self.transacted = Some((Instant::now(), took));
        self.failures = 0;
        if heartbeat {
            self.heartbeat_at = Some(Instant::now());
        }
        let at = self.settings.task.clock.now();
        for offset in &offsets {
            self.committed.insert(offset.partition);
            if let Some(Slot::Running(task)) = self.slots.get_mut(&offset.partition) {
                task.committed(at, &self.shared.telemetry);
            }
        }
        true
    }

    /// Reads nothing more until what is to be said can be said.
    fn hold_back(&mut self) {
        self.unencodable = true;
        let running: Vec<i32> = self.tasks().map(Task::partition).collect();
        for partition in running {
            if !self.waiting.contains_key(&partition) {
                self.wait(partition);
            }
        }
    }

    /// Writes what is published of the partitions to `flush` to their stores, as `write` does it.
    pub(super) fn persist(
        &mut self,
        flush: impl Fn(i32) -> bool,
        write: impl Fn(&mut Task, &Telemetry) -> Result<(), StoreError>,
    ) {
        let mut failures = Vec::new();
        for (&partition, slot) in self.slots.iter_mut().filter(|(partition, _)| flush(**partition)) {
            let Slot::Running(task) = slot else { continue };
            // A task that was not in the transaction (nothing to say, not ahead) stands at its last commit.
            if task.may_persist()
                && (task.is_ahead_of_store() || task.wants_flush())
                && task.position() <= task.committed_position()
                && let Err(error) = write(task, &self.shared.telemetry)
            {
                failures.push((partition, error));
            }
        }
        for (partition, error) in failures {
            self.failed(partition, error.into());
        }
    }
}
