//! How partitions come and go: recovery on assignment, the barrier on revocation, and the one way back after a failed
//! transaction (Laws 3 and 5).

use std::time::{Duration, Instant};

use crate::processor::ports::{Accepted, PortError, Rebalance, Sink, Source, Start};
use crate::processor::recovery::{self, CONTROL_UNREADABLE, Halt};
use crate::processor::task::Task;
use crate::store::Store;
use crate::telemetry::{Moved, TaskState};

use super::stores::{OPEN_PATIENCE, store_halt};
use super::{Slot, Worker, WorkerError};

/// How long recovery asks again before the worker gives up.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(120);
/// How long it asks again for one partition alone: then that one is halted, and started later.
const PARTITION_PATIENCE: Duration = Duration::from_secs(10);
/// The reason of a partition that nothing can be learned of now.
const UNREACHABLE: &str = "unreachable";
/// The wait before a partition is tried again of which a try takes long.
const COSTLY_PAUSE: Duration = Duration::from_secs(60);
/// The wait before a task is started again that halted for a cause that may pass.
const HALTED_PAUSE: Duration = Duration::from_secs(5);
/// The wait between two tries.
const RECOVERY_PAUSE: Duration = Duration::from_millis(200);
/// The longest wait before a worker that fails again and again recovers.
const RECOVERY_PAUSE_MAX: Duration = Duration::from_secs(5);

impl<S: Source, K: Sink<Membership = S::Membership>> Worker<S, K> {
    pub(super) fn rebalance(&mut self, rebalance: Rebalance) -> Result<(), WorkerError> {
        let telemetry = self.shared.telemetry.clone();
        match rebalance {
            Rebalance::Assigned(partitions) => {
                if !partitions.is_empty() {
                    telemetry.rebalanced(Moved::Assigned, &partitions);
                    self.publish_gathered();
                }
                let stores = self.open_stores(&partitions, OPEN_PATIENCE);
                let accepted = self.recover(stores, true)?;
                self.source.accept(&with_halted(&partitions, &accepted));
                self.assigned_at = Some(Instant::now());
            }
            Rebalance::Revoked(partitions) => {
                telemetry.rebalanced(Moved::Revoked, &partitions);
                self.hand_over(&partitions);
                self.source.release(&partitions);
            }
            Rebalance::Lost(partitions) => {
                telemetry.rebalanced(Moved::Lost, &partitions);
                self.shared.health.left(self.number);
                self.assigned_at = None;
                partitions.iter().for_each(|&partition| self.drop_task(partition));
                self.source.release(&partitions);
            }
        }
        Ok(())
    }

    /// The revocation barrier: what is folded is published and persisted before another member may speak. What
    /// cannot be published is not persisted either: the successor replays it.
    pub(super) fn hand_over(&mut self, partitions: &[i32]) {
        let started = Instant::now();
        let mut is_published = false;
        if !self.broken {
            // What is folded may still gather: its decisions go out with its position (Law 3).
            self.decide();
            is_published = self.publish(|_| true, false);
            if is_published {
                self.persist(|_| true, Task::persist);
            }
        }
        let tasks = self.tasks().filter(|task| partitions.contains(&task.partition()));
        let positions: Vec<_> = tasks.map(|task| (task.partition(), task.committed_position())).collect();
        self.shared.telemetry.handed_over(&positions, is_published, started.elapsed());
        for partition in partitions {
            self.drop_task(*partition);
        }
    }

    fn drop_task(&mut self, partition: i32) {
        if let Some(Slot::Running(task)) = self.slots.remove(&partition) {
            self.close(partition, *task);
        }
        self.waiting.remove(&partition);
        self.terms_held.remove(&partition);
        self.standing.remove(&partition);
        self.shared.health.gone(partition);
    }

    fn close(&self, partition: i32, task: Task) {
        self.shared.shelf.remove(partition);
        if let Err(error) = task.into_store(&self.shared.telemetry).and_then(Store::close) {
            self.shared.telemetry.close_failed(partition, &error.to_string());
        }
    }

    /// Stops one task; the others go on (Laws 7 and 8). It waits for a person, or for its cause to pass.
    pub(super) fn halt(&mut self, partition: i32, halt: &Halt) {
        self.shared.shelf.remove(partition);
        self.source.stop(partition);
        self.waiting.remove(&partition);
        self.terms_held.remove(&partition);
        // A question that is not answered costs its whole patience, and a control partition is read whole: the others wait.
        let is_costly = matches!(halt.reason, UNREACHABLE | CONTROL_UNREADABLE);
        let pause = if is_costly { COSTLY_PAUSE } else { HALTED_PAUSE };
        let again_at = halt.passes.then(|| Instant::now() + pause);
        let before = self.slots.insert(partition, Slot::Halted { again_at, reason: halt.reason });
        self.stands(partition, before.as_ref());
        // One that was started again in vain is not reported again; `/readyz` has its newest message.
        let is_known = matches!(&before, Some(Slot::Halted { reason, .. }) if *reason == halt.reason);
        if let Some(Slot::Running(task)) = before {
            self.close(partition, *task);
        }
        if !is_known {
            self.shared.telemetry.halted(partition, halt.reason, &halt.message);
        }
        let state = TaskState::Halted { reason: halt.reason, message: halt.message.clone() };
        self.shared.health.set(partition, state);
    }

    /// Fences, surveys and starts tasks on `stores`; gives the partitions that run and from where to read them.
    /// Without patience what cannot be asked at once halts its partitions, to be tried again.
    pub(super) fn recover(
        &mut self,
        stores: Vec<(i32, Store)>,
        is_patient: bool,
    ) -> Result<Vec<Accepted>, WorkerError> {
        if stores.is_empty() {
            return Ok(Vec::new());
        }
        let known: Vec<_> = stores.iter().map(|(partition, store)| (*partition, store.meta().cloned())).collect();
        let surveys = self.survey(&known, is_patient)?;
        let mut accepted = Vec::new();
        let partitions = self.source.partitions();
        for ((partition, store), survey) in stores.into_iter().zip(surveys) {
            let survey = survey.map_err(|error| {
                let message = format!("partition {partition} cannot be restored yet: {error}; it is tried again");
                Halt::passing(UNREACHABLE, message)
            });
            let adopt = self.settings.adopt_from.filter(|_| !self.committed.contains(&partition));
            let started = survey.and_then(|survey| recovery::start_of(survey, adopt));
            let started = started.and_then(|recovered| {
                let start = Start { usage: recovered.meta.position, policies: recovered.meta.policies_position };
                let task = Task::new(partition, partitions, store, recovered, self.settings.task.clone());
                task.map(|task| (task, start)).map_err(|error| store_halt(partition, &error))
            });
            match started {
                Ok((task, start)) => {
                    self.slots.insert(partition, Slot::Running(Box::new(task)));
                    self.shared.telemetry.unhalted(partition);
                    accepted.push(Accepted { partition, start: Some(start) });
                }
                Err(halt) => {
                    self.halt(partition, &halt);
                }
            }
        }
        self.heartbeat_at = None;
        Ok(accepted)
    }

    /// What is known of the partitions, each by itself: one that cannot be surveyed in time keeps no other waiting (Law 5).
    fn survey(
        &mut self,
        known: &[(i32, Option<crate::store::TaskMeta>)],
        is_patient: bool,
    ) -> Result<Vec<Result<recovery::Survey, PortError>>, WorkerError> {
        let started = Instant::now();
        loop {
            let group = &self.settings.group_id;
            let surveyed = recovery::survey(&mut self.source, &mut self.sink, group, known, &mut self.decoder);
            let message = match surveyed {
                Ok(surveys) => match surveys.iter().find_map(|survey| survey.as_ref().err()) {
                    Some(error) if is_patient && started.elapsed() < PARTITION_PATIENCE => error.to_string(),
                    _ => return Ok(surveys),
                },
                Err(PortError::Retriable(message)) if !is_patient => {
                    let unknown = |_: &_| Err(PortError::Retriable(message.clone()));
                    return Ok(known.iter().map(unknown).collect());
                }
                Err(PortError::Retriable(message)) if started.elapsed() < RECOVERY_PATIENCE => message,
                Err(error) => return Err(error.into()),
            };
            self.shared.telemetry.recovery_waits(&message);
            self.shared.health.waits(self.number, &message);
            std::thread::sleep(RECOVERY_PAUSE);
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
                self.shared.telemetry.renew_failed(&message);
                self.shared.health.waits(self.number, &message);
                std::thread::sleep(RECOVERY_PAUSE);
                return Ok(());
            }
            Err(fatal) => return Err(fatal.into()),
        }
        let stores = self.take_stores();
        self.waiting.clear();
        self.terms_held.clear();
        for Accepted { partition, start } in self.recover(stores, true)? {
            let Some(start) = start else { continue };
            let sought = self.source.seek(partition, start).and_then(|()| self.source.pause(partition, false));
            if let Err(error) = sought {
                // Still broken: all of it again in the next turn.
                self.shared.telemetry.seek_failed(partition, &error.to_string());
                return Ok(());
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
