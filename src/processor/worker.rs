//! The loop of a worker: one thread, one consumer, one transactional producer, and the tasks it owns.
//!
//! It is the only place where Laws 3, 4 and 5 meet: it folds, publishes, and only then lets tasks persist. Whatever
//! goes wrong between two ports, there is one way back: throw the tasks' memory away and recover them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::codec::{Decoder, Encoder};
use crate::store::{Shelf, Store, StoreError};
use crate::telemetry::{Health, Telemetry};

use super::ports::{Polled, PortError, RecordBatch, Sink, Source, Start};
use super::settings::{UNAVAILABLE_WAIT, WorkerSettings};
use super::task::{Task, TaskError};

mod assignment;
mod faults;
mod lag;
mod publish;
mod report;
mod stores;

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log or the producer will not work without a person.
    #[error("{0}")]
    Fatal(String),
    /// A worker or one of its flushes panicked.
    #[error(
        "worker {worker} panicked: {message}. This is a fault of tallyman: report it with the log. Start it again; \
         nothing that was committed is lost"
    )]
    Panicked {
        /// Its number, from 0.
        worker: usize,
        /// What the panic said.
        message: String,
    },
}

impl From<PortError> for WorkerError {
    fn from(error: PortError) -> Self {
        Self::Fatal(error.to_string())
    }
}

enum Slot {
    Running(Box<Task>),
    /// It was assigned and is not read; its store is closed. It waits for a person, or starts again by itself at `again_at`.
    Halted {
        again_at: Option<Instant>,
        reason: &'static str,
    },
}

/// What a worker shares with the rest of the process.
#[derive(Clone)]
pub struct Shared {
    /// Open stores, for queries.
    pub shelf: Shelf,
    /// Metrics and log lines.
    pub telemetry: Telemetry,
    /// Readiness.
    pub health: Health,
    /// Set when the worker is to drain and end.
    pub stop: Arc<AtomicBool>,
}

/// One worker.
pub struct Worker<S, K> {
    number: usize,
    source: S,
    sink: K,
    decoder: Decoder,
    encoder: Encoder,
    settings: WorkerSettings,
    shared: Shared,
    open: Box<dyn Fn(i32) -> Result<Store, StoreError> + Send>,
    slots: BTreeMap<i32, Slot>,
    /// Partitions that wait, with the instant at which they are read on.
    waiting: BTreeMap<i32, Instant>,
    /// Partitions of whose policies records came that were not taken: until the source is set back, what comes next
    /// or where the log ends says nothing of them.
    terms_held: BTreeSet<i32>,
    /// Where each owned partition stands.
    standing: BTreeMap<i32, lag::Standing>,
    /// Set by a failed transaction: all tasks must be recovered before anything else.
    broken: bool,
    /// Transactions that failed since the last one that did not.
    failures: u32,
    /// An output's schema cannot be registered: nothing is read until it can, or what waits would grow (Law 6).
    unencodable: bool,
    /// When the last transaction ended, and how long it took.
    transacted: Option<(Instant, Duration)>,
    /// Partitions that it has committed: a person's word on what O* contradicts was about what came before.
    committed: BTreeSet<i32>,
    /// When the group last assigned something to this worker, perhaps nothing; `None` while it is no member.
    assigned_at: Option<Instant>,
    /// Records that came since it was last decided.
    gathered: usize,
    heartbeat_at: Option<Instant>,
    reported_at: Option<Instant>,
    orgs_reported_at: Option<Instant>,
    progress_told_at: Instant,
    stores_flushed_at: Instant,
}

impl<S: Source, K: Sink<Membership = S::Membership>> Worker<S, K> {
    /// A worker; `open` opens the store of a partition.
    pub fn new(
        number: usize,
        (source, sink): (S, K),
        (decoder, encoder): (Decoder, Encoder),
        settings: WorkerSettings,
        shared: Shared,
        open: Box<dyn Fn(i32) -> Result<Store, StoreError> + Send>,
    ) -> Self {
        Self {
            number,
            source,
            sink,
            decoder,
            encoder,
            settings,
            shared,
            open,
            slots: BTreeMap::new(),
            waiting: BTreeMap::new(),
            terms_held: BTreeSet::new(),
            standing: BTreeMap::new(),
            broken: false,
            failures: 0,
            unencodable: false,
            transacted: None,
            committed: BTreeSet::new(),
            assigned_at: None,
            gathered: 0,
            heartbeat_at: None,
            reported_at: None,
            orgs_reported_at: None,
            progress_told_at: Instant::now(),
            stores_flushed_at: Instant::now(),
        }
    }

    /// Runs until it is told to stop; then drains: publishes, persists and lets go.
    ///
    /// # Errors
    /// When it cannot go on; all that was persisted is consistent.
    pub fn run(&mut self) -> Result<(), WorkerError> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.turn()?;
        }
        self.hand_over(&self.slots.keys().copied().collect::<Vec<_>>());
        Ok(())
    }

    /// One turn of the loop.
    ///
    /// # Errors
    /// As `run`.
    pub fn turn(&mut self) -> Result<(), WorkerError> {
        if let Some(fault) = self.settings.task.clock.fault() {
            return self.distrust_clock(&fault);
        }
        if self.broken {
            // What is no longer ours cannot be recovered, and the group waits for our answer. Records are read again.
            match self.source.poll(Duration::ZERO) {
                Ok(Polled::Rebalance(rebalance)) => return self.rebalance(rebalance),
                Err(PortError::Partition { partition, message }) => self.refused(partition, &message),
                Err(fatal @ PortError::Fatal(_)) => return Err(fatal.into()),
                Ok(Polled::Records(_)) | Err(PortError::Retriable(_)) => {}
            }
            self.recover_all()?;
            if self.broken {
                // What failed may be published already: nothing is said before that is known.
                return Ok(());
            }
        }
        let wait = match self.gathers_for() {
            Duration::ZERO => self.settings.poll_wait,
            left => left.min(self.settings.poll_wait),
        };
        match self.source.poll(wait) {
            Ok(Polled::Records(batch)) => {
                self.hold_clock_against_kafka();
                if let Some(fault) = self.settings.task.clock.fault() {
                    return self.distrust_clock(&fault);
                }
                self.take(&batch);
            }
            Ok(Polled::Rebalance(rebalance)) => return self.rebalance(rebalance),
            Err(PortError::Retriable(message)) => self.shared.telemetry.poll_failed(&message),
            Err(PortError::Partition { partition, message }) => self.refused(partition, &message),
            Err(fatal @ PortError::Fatal(_)) => return Err(fatal.into()),
        }
        let policies = self.source.poll_policies();
        self.take_policies(&policies);
        self.resume_waiting();
        self.restart_halted()?;
        self.begin_to_speak();
        self.publish_and_persist();
        self.report();
        Ok(())
    }

    fn take(&mut self, batch: &S::Batch) {
        if !batch.is_empty() {
            self.shared.telemetry.batch(batch.len());
            self.gathered += batch.len();
        }
        let mut held = Vec::new();
        for run in runs(batch) {
            let partition = batch.get(run.start).partition;
            if self.waiting.contains_key(&partition) || !self.fold(partition, batch, run) {
                held.push(partition);
            }
        }
        for &(partition, end) in batch.ends() {
            // A partition that waits let records go by; it reads them again.
            let held = held.contains(&partition) || self.waiting.contains_key(&partition);
            if let (Some(Slot::Running(task)), false) = (self.slots.get_mut(&partition), held) {
                task.reached(end);
            }
        }
    }

    /// Folds one partition's records of a batch; false when the task could not take them all.
    fn fold(&mut self, partition: i32, batch: &S::Batch, run: Range<usize>) -> bool {
        let Some(Slot::Running(task)) = self.slots.get_mut(&partition) else { return false };
        let live = task
            .mute_ends_at()
            .map_or(run.start, |end| run.clone().find(|&place| batch.get(place).offset >= end).unwrap_or(run.end));
        for (part, is_live) in [(run.start..live, false), (live..run.end, true)] {
            if part.is_empty() {
                continue;
            }
            if is_live {
                if let Some(Slot::Running(task)) = self.slots.get_mut(&partition) {
                    task.replayed_before(batch.get(part.start).offset);
                }
                if !self.speak(partition) {
                    self.wait(partition);
                    return false;
                }
            }
            let Some(Slot::Running(task)) = self.slots.get_mut(&partition) else { return false };
            if let Err(error) = task.fold(batch, part, &mut self.decoder, &self.shared.telemetry) {
                self.failed(partition, error);
                return false;
            }
        }
        true
    }

    fn take_policies(&mut self, batch: &S::Batch) {
        for run in runs(batch) {
            let partition = batch.get(run.start).partition;
            let Some(Slot::Running(task)) = self.slots.get_mut(&partition) else { continue };
            if self.waiting.contains_key(&partition) && task.is_speaking() {
                self.terms_held.insert(partition);
            }
            if self.terms_held.contains(&partition) {
                continue;
            }
            if let Err(error) = task.take_policies(batch, run, &mut self.decoder, &self.shared.telemetry) {
                self.terms_held.insert(partition);
                self.failed(partition, error);
            }
        }
        for &(partition, end) in batch.ends() {
            let held = self.terms_held.contains(&partition);
            if let (Some(Slot::Running(task)), false) = (self.slots.get_mut(&partition), held) {
                task.reached_policies(end);
            }
        }
    }

    /// Law 7: what is not the record's fault is retried (the registry) or halts (the store); it is never skipped.
    fn failed(&mut self, partition: i32, error: TaskError) {
        match error {
            TaskError::Unavailable(message) => {
                self.shared.telemetry.registry_error(&message);
                self.wait(partition);
            }
            TaskError::OtherLog(halt) => self.halt(partition, &halt),
            TaskError::Store(error) => self.halt(partition, &stores::store_halt(partition, &error)),
        }
    }

    /// Stops reading a partition for a moment; it is read again from its task's position.
    fn wait(&mut self, partition: i32) {
        self.waiting.insert(partition, Instant::now() + UNAVAILABLE_WAIT);
        if let Some(Slot::Running(task)) = self.slots.get_mut(&partition) {
            task.fell_behind();
        }
        if let Err(error) = self.source.pause(partition, true) {
            self.shared.telemetry.pause_failed(partition, &error.to_string());
        }
    }

    fn resume_waiting(&mut self) {
        if self.unencodable {
            return;
        }
        let due: Vec<i32> = self
            .waiting
            .iter()
            .filter(|(_, due)| **due <= Instant::now())
            .map(|(&partition, _)| partition)
            .collect();
        for partition in due {
            self.waiting.remove(&partition);
            let Some(Slot::Running(task)) = self.slots.get(&partition) else { continue };
            let start = Start { usage: task.position(), policies: task.policies_position() };
            let resumed = self.source.seek(partition, start).and_then(|()| self.source.pause(partition, false));
            if let Err(error) = resumed {
                self.shared.telemetry.resume_failed(partition, &error.to_string());
                self.waiting.insert(partition, Instant::now() + UNAVAILABLE_WAIT);
            } else {
                self.terms_held.remove(&partition);
            }
        }
    }

    fn begin_to_speak(&mut self) {
        let ready = |slot: &Slot| matches!(slot, Slot::Running(task) if task.is_ready_to_speak());
        let ready: Vec<i32> =
            self.slots.iter().filter(|(_, slot)| ready(slot)).map(|(&partition, _)| partition).collect();
        for partition in ready {
            self.speak(partition);
        }
    }

    /// Lets a task begin to speak if it does not yet and may; false when it still has to wait.
    fn speak(&mut self, partition: i32) -> bool {
        let Some(Slot::Running(task)) = self.slots.get_mut(&partition) else { return false };
        if task.is_speaking() {
            return true;
        }
        if !task.is_ready_to_speak() {
            return false;
        }
        let telemetry = &self.shared.telemetry;
        // The first store batch follows the first known commit: at a first start nothing was replayed.
        let replayed = task.position() > task.recovered_from();
        let spoken = task.check_replay().map_err(TaskError::OtherLog).and_then(|()| {
            if replayed {
                task.persist(telemetry)?;
            }
            task.speak()
        });
        match spoken {
            Ok(()) => {
                telemetry.restored(partition, task.age(), task.recovered_from(), task.position());
                // Its gateways hear at once that it is spoken for, and its position is committed.
                self.heartbeat_at = None;
                // A partition that waited for its terms is read on at once.
                if let Some(due) = self.waiting.get_mut(&partition) {
                    *due = Instant::now();
                }
                true
            }
            Err(error) => {
                self.failed(partition, error);
                false
            }
        }
    }

    fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.slots.values().filter_map(|slot| match slot {
            Slot::Running(task) => Some(&**task),
            Slot::Halted { .. } => None,
        })
    }

    fn speaking(&mut self) -> impl Iterator<Item = &mut Box<Task>> {
        self.slots.values_mut().filter_map(|slot| match slot {
            Slot::Running(task) if task.is_speaking() => Some(task),
            _ => None,
        })
    }
}

/// The runs of a batch: neighbouring records of one partition.
fn runs<B: RecordBatch>(batch: &B) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut last = None;
    for place in 0..batch.len() {
        let partition = batch.get(place).partition;
        match runs.last_mut() {
            Some(run) if last == Some(partition) => run.end = place + 1,
            _ => runs.push(place..place + 1),
        }
        last = Some(partition);
    }
    runs
}
