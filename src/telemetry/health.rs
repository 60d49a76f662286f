//! Whether this instance is ready, and if not, why: `/readyz` in plain words. The worker writes it, HTTP reads it;
//! nothing in it decides what is folded or published.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a worker last said of its partitions holds so long: one that stands still says nothing, also not that it does.
const TURN_MAX: Duration = Duration::from_secs(30);

/// How far one partition's task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Assigned; fencing, reading control and terms.
    Restoring,
    /// Folding again, muted, what was published before.
    Replaying {
        /// Next offset to fold.
        position: i64,
        /// Published-through.
        until: i64,
        /// Next offset of the terms to load.
        terms: i64,
        /// Where they end.
        terms_until: i64,
    },
    /// Its next record waits for something that is not its fault.
    Waiting {
        /// For what, and what to do.
        cause: String,
    },
    /// Live, and records wait.
    Behind {
        /// How many.
        lag: i64,
    },
    /// Live, at the log's end.
    CaughtUp,
    /// Stopped until a person acts; the other tasks go on.
    Halted {
        /// The short name, as in the metric's label.
        reason: &'static str,
        /// What happened and what to do.
        message: String,
    },
}

impl TaskState {
    /// Every state's label in metrics.
    pub(super) const LABELS: [&str; 6] = ["restoring", "replaying", "waiting", "behind", "caught_up", "halted"];

    /// This state's label in metrics.
    pub(super) const fn label(&self) -> &'static str {
        let [restoring, replaying, waiting, behind, caught_up, halted] = Self::LABELS;
        match self {
            Self::Restoring => restoring,
            Self::Replaying { .. } => replaying,
            Self::Waiting { .. } => waiting,
            Self::Behind { .. } => behind,
            Self::CaughtUp => caught_up,
            Self::Halted { .. } => halted,
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restoring => f.write_str("is being restored"),
            Self::Replaying { position, until, terms, terms_until } => write!(
                f,
                "is being restored: usage at offset {position} of {until}, terms at offset {terms} of {terms_until}"
            ),
            Self::Waiting { cause } => write!(f, "waits: {cause}"),
            Self::Behind { lag: 1 } => f.write_str("is 1 record behind"),
            Self::Behind { lag } => write!(f, "is {lag} records behind"),
            Self::CaughtUp => f.write_str("has caught up"),
            Self::Halted { reason, message } => write!(f, "is halted ({reason}): {message}"),
        }
    }
}

/// Kafka does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaTrouble {
    /// When it last did.
    pub since: Instant,
    /// Whether it answers at all.
    pub connected: bool,
    /// Where it is, what it was asked, and what is wrong.
    pub message: String,
}

#[derive(Debug, Default)]
struct State {
    workers: usize,
    joined: BTreeSet<usize>,
    turned: BTreeMap<usize, Instant>,
    /// What a worker's recovery waits for.
    waits: BTreeMap<usize, String>,
    kafka: Option<KafkaTrouble>,
    failed: Vec<String>,
    stopping: bool,
    tasks: BTreeMap<i32, TaskState>,
}

/// The health of this process; clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

impl Health {
    /// Of a process with so many workers, none of which has an assignment yet.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(Arc::new(Mutex::new(State { workers, ..State::default() })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A poisoned lock holds a state as good as any: every write is one assignment.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Worker `worker` (0-based) got its first assignment, perhaps of no partition.
    pub fn joined(&self, worker: usize) {
        self.with(|state| state.joined.insert(worker));
    }

    /// Worker `worker` lost what it owned: it is no member before its next assignment.
    pub fn left(&self, worker: usize) {
        self.with(|state| state.joined.remove(&worker));
    }

    /// Worker `worker` has gone through its loop once more.
    pub fn turned(&self, worker: usize) {
        self.with(|state| {
            state.turned.insert(worker, Instant::now());
            state.waits.remove(&worker);
        });
    }

    /// Worker `worker` stands still in its loop, because of `message`, until it turns again.
    pub fn waits(&self, worker: usize, message: &str) {
        self.with(|state| state.waits.insert(worker, message.to_owned()));
    }

    /// Kafka does what it is asked. What was wrong until now, if anything was.
    #[must_use]
    pub fn kafka_is_well(&self) -> Option<KafkaTrouble> {
        self.with(|state| state.kafka.take())
    }

    /// Kafka does not do what it is asked. Whether that is news.
    #[must_use]
    pub fn kafka_is_not_well(&self, trouble: KafkaTrouble) -> bool {
        self.with(|state| state.kafka.replace(trouble).is_none())
    }

    /// Whether Kafka answered when it was last asked.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.with(|state| state.kafka.as_ref().is_none_or(|trouble| trouble.connected))
    }

    /// Whether this instance is in the group: else who owns a partition is not known here.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.with(|state| state.kafka.is_none() && state.joined.len() >= state.workers)
    }

    /// A worker ended with an error; the process is not ready again.
    pub fn failed(&self, message: impl Into<String>) {
        self.with(|state| state.failed.push(message.into()));
    }

    /// The process drains and ends.
    pub fn stopping(&self) {
        self.with(|state| state.stopping = true);
    }

    /// An owned partition's state now.
    pub fn set(&self, partition: i32, task: TaskState) {
        self.with(|state| state.tasks.insert(partition, task));
    }

    /// A partition is no longer ours.
    pub fn gone(&self, partition: i32) {
        self.with(|state| state.tasks.remove(&partition));
    }

    /// Whether an owned partition stands at its log's end.
    #[must_use]
    pub fn has_caught_up(&self, partition: i32) -> bool {
        self.with(|state| state.tasks.get(&partition) == Some(&TaskState::CaughtUp))
    }

    /// Every owned partition's state, by number.
    #[must_use]
    pub fn tasks(&self) -> Vec<(i32, TaskState)> {
        self.with(|state| state.tasks.iter().map(|(&partition, task)| (partition, task.clone())).collect())
    }

    /// Ready when Kafka answers, every worker has its assignment and goes through its loop, and every owned partition has
    /// caught up; no owned partition at all is fine.
    ///
    /// # Errors
    /// Each reason why not, in plain words.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        self.ready_at(Instant::now())
    }

    fn ready_at(&self, now: Instant) -> Result<(), Vec<String>> {
        self.with(|state| {
            let mut reasons = state.failed.clone();
            if state.stopping {
                reasons.push("the process is stopping".to_owned());
            }
            if let Some(KafkaTrouble { since, message, .. }) = &state.kafka {
                let seconds = now.saturating_duration_since(*since).as_secs();
                reasons.push(format!("{message}; the last good answer came {seconds} s ago"));
            }
            reasons
                .extend(state.waits.iter().map(|(worker, message)| format!("worker {worker} waits: {message}")));
            let waiting = state.workers.saturating_sub(state.joined.len());
            if waiting > 0 {
                reasons.push(format!("{waiting} of {} workers wait for their assignment", state.workers));
            }
            for (worker, turned) in &state.turned {
                let still = now.saturating_duration_since(*turned);
                if still > TURN_MAX {
                    let seconds = still.as_secs();
                    reasons.push(format!("worker {worker} stands still for {seconds} s: is Kafka within reach?"));
                }
            }
            let late = state.tasks.iter().filter(|(_, task)| **task != TaskState::CaughtUp);
            reasons.extend(late.map(|(partition, task)| format!("partition {partition} {task}")));
            if reasons.is_empty() { Ok(()) } else { Err(reasons) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_without_a_partition_is_ready_after_its_first_assignment() {
        let health = Health::new(2);
        assert_eq!(health.ready(), Err(vec!["2 of 2 workers wait for their assignment".to_owned()]));
        health.joined(0);
        health.joined(0);
        assert!(health.ready().is_err());
        health.joined(1);
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn without_kafka_nobody_is_ready_and_who_owns_what_is_not_known() {
        let health = Health::new(1);
        health.joined(0);
        health.set(0, TaskState::CaughtUp);
        assert!(health.is_member());
        let now = Instant::now();
        let message = "Kafka at b:9092 does not answer: refused".to_owned();
        let trouble = KafkaTrouble { since: now, connected: false, message };
        assert!(health.kafka_is_not_well(trouble.clone()), "news");
        assert!(!health.kafka_is_not_well(trouble.clone()), "no news");
        let reason = "Kafka at b:9092 does not answer: refused; the last good answer came 7 s ago";
        assert_eq!(health.ready_at(now + Duration::from_secs(7)), Err(vec![reason.to_owned()]));
        assert!(!health.is_member() && !health.is_connected());
        // The session ends: nothing is owned any more, which is no reason to be ready.
        health.gone(0);
        health.left(0);
        assert_eq!(health.kafka_is_well(), Some(trouble));
        assert_eq!(health.ready(), Err(vec!["1 of 1 workers wait for their assignment".to_owned()]));
        assert!(health.is_connected() && !health.is_member());
        health.joined(0);
        assert_eq!((health.ready(), health.kafka_is_well()), (Ok(()), None));
    }

    #[test]
    fn what_a_worker_waits_for_is_a_reason_until_it_turns_again() {
        let health = Health::new(1);
        health.joined(0);
        health.waits(0, "the topic does not exist");
        assert_eq!(health.ready(), Err(vec!["worker 0 waits: the topic does not exist".to_owned()]));
        health.turned(0);
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn a_worker_that_stands_still_is_not_ready_whatever_it_said_last() {
        let health = Health::new(1);
        health.joined(0);
        health.turned(0);
        health.set(0, TaskState::CaughtUp);
        assert_eq!(health.ready(), Ok(()));
        let later = Instant::now() + TURN_MAX + Duration::from_secs(1);
        let reason = "worker 0 stands still for 31 s: is Kafka within reach?";
        assert_eq!(health.ready_at(later), Err(vec![reason.to_owned()]));
        health.turned(0);
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn every_owned_partition_must_have_caught_up_and_a_halted_one_never_has() {
        let health = Health::new(0);
        health.set(3, TaskState::Replaying { position: 5, until: 9, terms: 2, terms_until: 3 });
        health.set(4, TaskState::CaughtUp);
        assert_eq!(
            health.ready(),
            Err(vec!["partition 3 is being restored: usage at offset 5 of 9, terms at offset 2 of 3".to_owned()])
        );
        health.set(3, TaskState::Behind { lag: 1 });
        assert_eq!(health.ready(), Err(vec!["partition 3 is 1 record behind".to_owned()]));
        health.set(3, TaskState::Behind { lag: 2 });
        assert_eq!(health.ready(), Err(vec!["partition 3 is 2 records behind".to_owned()]));
        health.set(3, TaskState::Halted { reason: "log_shrunk", message: "run rebuild".into() });
        assert_eq!(health.ready(), Err(vec!["partition 3 is halted (log_shrunk): run rebuild".to_owned()]));
        health.gone(3);
        assert_eq!(health.ready(), Ok(()));
        health.stopping();
        assert_eq!(health.ready(), Err(vec!["the process is stopping".to_owned()]));
    }
}
