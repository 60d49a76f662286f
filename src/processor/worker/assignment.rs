//! How partitions come and go: recovery on assignment, the barrier on revocation, and the one way back after a failed
//! transaction (Laws 3 and 5).

use std::time::{Duration, Instant};

use crate::processor::ports::{Accepted, PortError, Rebalance, Sink, Source, Start};
use crate::processor::recovery::{self, Halt};
use crate::processor::task::Task;
use crate::store::{Store, StoreError};
use crate::telemetry::{Moved, TaskState};

use super::{Slot, Worker, WorkerError};

/// How long recovery asks again before the worker gives up.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(120);
/// How long a store that is still in use is asked for again.
const OPEN_PATIENCE: Duration = Duration::from_secs(20);
/// The wait between two tries.
const RECOVERY_PAUSE: Duration = Duration::from_millis(200);
/// The longest wait before a worker that fails again and again recovers.
const RECOVERY_PAUSE_MAX: Duration = Duration::from_secs(5);

impl<S: Source, K: Sink<Membership = S::Membership>> Worker<S, K> {
    pub(super) fn rebalance(&mut self, rebalance: Rebalance) -> Result<(), WorkerError> {
        let telemetry = self.shared.telemetry.clone();
        match rebalance {
            Rebalance::Assigned(partitions) => {
                telemetry.rebalanced(Moved::Assigned, &partitions);
                self.publish_gathered();
                let stores = self.open_stores(&partitions);
                let accepted = self.recover(stores)?;
                match self.source.accept(&with_halted(&partitions, &accepted)) {
                    Ok(()) => self.shared.health.joined(self.number),
                    Err(PortError::Retriable(message)) => {
                        // The group moved on meanwhile: its next event says what is ours.
                        telemetry.transaction_failed("accept", &message);
                        partitions.iter().for_each(|&partition| self.drop_task(partition));
                    }
                    Err(fatal) => return Err(fatal.into()),
                }
            }
            Rebalance::Revoked(partitions) => {
                telemetry.rebalanced(Moved::Revoked, &partitions);
                self.hand_over(&partitions);
                self.release(&partitions)?;
            }
            Rebalance::Lost(partitions) => {
                telemetry.rebalanced(Moved::Lost, &partitions);
                for partition in &partitions {
                    self.drop_task(*partition);
                }
                self.release(&partitions)?;
            }
        }
        Ok(())
    }

    /// The partitions are no longer ours, whether or not the client says so without an error.
    fn release(&mut self, partitions: &[i32]) -> Result<(), WorkerError> {
        match self.source.release(partitions) {
            Err(PortError::Retriable(message)) => {
                self.shared.telemetry.transaction_failed("release", &message);
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// The revocation barrier: what is folded is published and persisted before another member may speak. What
    /// cannot be published is not persisted either: the successor replays it.
    pub(super) fn hand_over(&mut self, partitions: &[i32]) {
        if !self.broken {
            // What is folded may still gather: its decisions go out with its position (Law 3).
            self.decide();
            if self.publish(|_| true, false) {
                self.persist(|_| true, Task::persist);
            }
        }
        for partition in partitions {
            self.drop_task(*partition);
        }
    }

    fn drop_task(&mut self, partition: i32) {
        if let Some(Slot::Running(task)) = self.slots.remove(&partition) {
            self.close(partition, task.into_store(&self.shared.telemetry));
        }
        self.waiting.remove(&partition);
        self.terms_held.remove(&partition);
        self.shared.health.gone(partition);
    }

    fn close(&self, partition: i32, store: Store) {
        self.shared.shelf.remove(partition);
        if let Err(error) = store.close() {
            self.shared.telemetry.transaction_failed("close", &error.to_string());
        }
    }

    /// Stops one task until a person acts; the others go on (Laws 7 and 8).
    pub(super) fn halt(&mut self, partition: i32, halt: &Halt) {
        if let Some(Slot::Running(task)) = self.slots.insert(partition, Slot::Halted) {
            self.close(partition, task.into_store(&self.shared.telemetry));
            if let Err(error) = self.source.pause(partition, true) {
                self.shared.telemetry.transaction_failed("pause", &error.to_string());
            }
        }
        self.waiting.remove(&partition);
        self.terms_held.remove(&partition);
        self.shared.telemetry.halted(partition, halt.reason, &halt.message);
        let state = TaskState::Halted { reason: halt.reason, message: halt.message.clone() };
        self.shared.health.set(partition, state);
    }

    fn open_stores(&mut self, partitions: &[i32]) -> Vec<(i32, Store)> {
        let mut stores = Vec::new();
        for &partition in partitions {
            self.shared.health.set(partition, TaskState::Restoring);
            if partition >= self.source.partitions() {
                let message = format!(
                    "partition {partition}: the usage topic had {} partitions when this instance started; more \
                     partitions would move orgs to others. Restore the topic, or migrate to a new one",
                    self.source.partitions()
                );
                self.halt(partition, &Halt::new("partitions_changed", message));
                continue;
            }
            match self.open_with_patience(partition) {
                Ok(store) => {
                    self.shared.shelf.put(&store);
                    stores.push((partition, store));
                }
                Err(error) => self.halt(partition, &Halt::new("store", error.to_string())),
            }
        }
        stores
    }

    /// A store may still be held by the worker of this process that owned it until now, or by a question's reader.
    fn open_with_patience(&self, partition: i32) -> Result<Store, StoreError> {
        let started = Instant::now();
        loop {
            match (self.open)(partition) {
                Err(StoreError::InUse { .. } | StoreError::StillRead { .. })
                    if started.elapsed() < OPEN_PATIENCE =>
                {
                    std::thread::sleep(RECOVERY_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Fences, surveys and starts tasks on `stores`; gives the partitions that run and from where to read them.
    fn recover(&mut self, stores: Vec<(i32, Store)>) -> Result<Vec<Accepted>, WorkerError> {
        let known: Vec<_> = stores.iter().map(|(partition, store)| (*partition, store.meta().cloned())).collect();
        let surveys = self.survey_with_patience(&known)?;
        let mut accepted = Vec::new();
        for ((partition, store), survey) in stores.into_iter().zip(surveys) {
            let partitions = survey.partitions;
            let started = recovery::start_of(survey, self.settings.adopt_from).and_then(|recovered| {
                let start = Start { usage: recovered.meta.position, policies: recovered.meta.policies_position };
                let task = Task::new(partition, partitions, store, recovered, self.settings.task.clone());
                task.map(|task| (task, start)).map_err(|error| Halt::new("store", error.to_string()))
            });
            match started {
                Ok((task, start)) => {
                    self.slots.insert(partition, Slot::Running(Box::new(task)));
                    self.shared.telemetry.unhalted(partition);
                    accepted.push(Accepted { partition, start: Some(start) });
                }
                Err(halt) => {
                    self.shared.shelf.remove(partition);
                    self.halt(partition, &halt);
                }
            }
        }
        self.heartbeat_at = None;
        Ok(accepted)
    }

    fn survey_with_patience(
        &mut self,
        known: &[(i32, Option<crate::store::TaskMeta>)],
    ) -> Result<Vec<recovery::Survey>, WorkerError> {
        let started = Instant::now();
        loop {
            let group = &self.settings.group_id;
            let surveyed = recovery::survey(&mut self.source, &mut self.sink, group, known, &mut self.decoder);
            match surveyed {
                Ok(surveys) => return Ok(surveys),
                Err(PortError::Retriable(message)) if started.elapsed() < RECOVERY_PATIENCE => {
                    self.shared.telemetry.transaction_failed("recovery", &message);
                    std::thread::sleep(RECOVERY_PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The way back after a failed transaction: a new producer resolves what the old one had open, and every task is
    /// recovered from its store. Dead letters and forwards are made again by the replay.
    pub(super) fn recover_all(&mut self) -> Result<(), WorkerError> {
        // A transaction that fails again and again is tried ever more slowly.
        let pause = RECOVERY_PAUSE.saturating_mul(self.failures.saturating_sub(1)).min(RECOVERY_PAUSE_MAX);
        std::thread::sleep(pause);
        match self.sink.renew() {
            Ok(()) => {}
            Err(PortError::Retriable(message)) => {
                self.shared.telemetry.transaction_failed("renew", &message);
                std::thread::sleep(RECOVERY_PAUSE);
                return Ok(());
            }
            Err(fatal) => return Err(fatal.into()),
        }
        let partitions: Vec<i32> = self.slots.keys().copied().collect();
        let mut stores = Vec::new();
        for partition in partitions {
            if let Some(Slot::Running(_)) = self.slots.get(&partition)
                && let Some(Slot::Running(task)) = self.slots.remove(&partition)
            {
                self.shared.health.set(partition, TaskState::Restoring);
                stores.push((partition, task.into_store(&self.shared.telemetry)));
            }
        }
        self.waiting.clear();
        self.terms_held.clear();
        for Accepted { partition, start } in self.recover(stores)? {
            let Some(start) = start else { continue };
            let sought = self.source.seek(partition, start).and_then(|()| self.source.pause(partition, false));
            match sought {
                Ok(()) => {}
                Err(PortError::Retriable(message)) => {
                    // Still broken: all of it again in the next turn.
                    self.shared.telemetry.transaction_failed("seek", &message);
                    return Ok(());
                }
                Err(fatal) => return Err(fatal.into()),
            }
        }
        self.broken = false;
        Ok(())
    }
}

/// Every assigned partition must be accepted; one that did not start is halted.
fn with_halted(partitions: &[i32], running: &[Accepted]) -> Vec<Accepted> {
    let start_of = |partition| running.iter().find(|accepted| accepted.partition == partition)?.start;
    partitions.iter().map(|&partition| Accepted { partition, start: start_of(partition) }).collect()
}
