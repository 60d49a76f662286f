//! How a worker comes by the stores of its partitions. One that cannot be used (a full disk, missing rights, damage) halts
//! its partition, and is opened again and again: when the disk has room or a person has done what the message names, the
//! partition goes on by itself. Nothing is folded without a store.

use std::time::{Duration, Instant};

use crate::processor::ports::{Sink, Source};
use crate::processor::recovery::{Halt, MIGRATE};
use crate::processor::task::Task;
use crate::store::{Store, StoreError};
use crate::telemetry::TaskState;

use super::{Slot, Worker};

/// How long stores that are still in use are asked for again before their partitions halt, all of an assignment together.
pub(super) const OPEN_PATIENCE: Duration = Duration::from_secs(20);
/// The wait between two tries of a store in use.
const OPEN_PAUSE: Duration = Duration::from_millis(200);

impl<S: Source, K: Sink<Membership = S::Membership>> Worker<S, K> {
    /// Opens the stores of partitions within `patience`; those that cannot be opened halt.
    pub(super) fn open_stores(&mut self, partitions: &[i32], patience: Duration) -> Vec<(i32, Store)> {
        let deadline = Instant::now() + patience;
        let mut stores = Vec::new();
        for &partition in partitions {
            // One that is halted remains so until it has started again.
            if !self.slots.contains_key(&partition) {
                self.shared.health.set(partition, TaskState::Restoring);
            }
            if partition >= self.source.partitions() {
                let message = format!(
                    "partition {partition}: the usage topic had {} partitions when this instance started; more \
                     partitions move orgs to others. {MIGRATE}",
                    self.source.partitions()
                );
                self.halt(partition, &Halt::new("partitions_changed", message));
                continue;
            }
            stores.extend(self.open_by(partition, deadline).map(|store| (partition, store)));
        }
        stores
    }

    /// Opens a store, or halts its partition. One may still be held by the worker of this process that owned it until now,
    /// or by a question's reader: it is asked for again until `deadline`.
    fn open_by(&mut self, partition: i32, deadline: Instant) -> Option<Store> {
        loop {
            match (self.open)(partition) {
                Ok(store) => {
                    self.shared.shelf.put(&store);
                    return Some(store);
                }
                Err(StoreError::InUse { .. } | StoreError::StillRead { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(OPEN_PAUSE);
                }
                Err(error) => {
                    self.halt(partition, &store_halt(partition, &error));
                    return None;
                }
            }
        }
    }

    /// Takes the running tasks' stores back, throwing away what the tasks hold in memory. Where a last flush failed, what
    /// the disk holds of it is known only once the store is opened again.
    pub(super) fn take_stores(&mut self) -> Vec<(i32, Store)> {
        let is_running = |(&partition, slot): (&i32, &Slot)| matches!(slot, Slot::Running(_)).then_some(partition);
        let running: Vec<i32> = self.slots.iter().filter_map(is_running).collect();
        let mut stores = Vec::new();
        for partition in running {
            let Some(Slot::Running(task)) = self.slots.remove(&partition) else { continue };
            self.shared.health.set(partition, TaskState::Restoring);
            let store = Task::into_store(*task, &self.shared.telemetry).or_else(|error| {
                tracing::warn!(partition, %error, "a last flush failed; its records are folded again");
                self.open_by(partition, Instant::now() + OPEN_PATIENCE).ok_or(())
            });
            stores.extend(store.ok().map(|store| (partition, store)));
        }
        stores
    }
}

/// The halt of a partition whose store cannot be used. Its cause may pass: a disk gets room, a person mends what is named.
pub(super) fn store_halt(partition: i32, error: &StoreError) -> Halt {
    let message = format!(
        "partition {partition}: {error}. The store is opened again every few seconds, and then it goes on by itself; after a \
         change of settings, restart this instance"
    );
    Halt::passing("store", message)
}
