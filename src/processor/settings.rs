//! What a worker and its tasks are told at their start.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::terms::records::DefaultTerms;
use crate::domain::usage::dedupe::Window;
use crate::store::FoldSettings;

use super::intake::Rules;
use super::trusted_clock::TrustedClock;

/// What a task is told.
pub struct TaskSettings {
    /// The fold's own settings, as the store records them.
    pub fold: FoldSettings,
    /// How far ahead an org's limit is guarded; only with a fold that keeps rates.
    pub guard: Option<Duration>,
    /// What an org without a policy gets.
    pub default_terms: DefaultTerms,
    /// Name of the usage topic, for dead letters.
    pub usage_topic: String,
    /// Name of the policies topic, for dead letters.
    pub policies_topic: String,
    /// Wall-clock time, for decisions only.
    pub clock: Arc<TrustedClock>,
    /// The most bytes of rows that a task keeps in memory between flushes.
    pub working_set_bytes_max: usize,
    /// How many orgs the gauges show.
    pub top_orgs: usize,
}

impl TaskSettings {
    /// The rules of intake, for a topic of so many partitions.
    #[must_use]
    pub const fn rules(&self, partitions: i32) -> Rules {
        Rules {
            partitions,
            window: Window::new(self.fold.dedupe_window),
            future_micros_max: self.fold.max_future,
            age_micros_max: self.fold.max_age,
        }
    }
}

impl fmt::Debug for TaskSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSettings").field("fold", &self.fold).finish_non_exhaustive()
    }
}

/// From where to go on when O* is missing beside a store with a position or decisions: `run --adopt-from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdoptFrom {
    /// What the store holds was published; what follows is published now.
    Store,
    /// All that the log holds now was published.
    End,
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// What its tasks are told.
    pub task: Arc<TaskSettings>,
    /// The consumer group.
    pub group_id: String,
    /// From where to go on when O* is missing.
    pub adopt_from: Option<AdoptFrom>,
    /// The longest wait for records in one turn of the loop.
    pub poll_wait: Duration,
    /// How long what waits gathers after a transaction before the next one begins: as long as that one took, within this.
    pub gather: RangeInclusive<Duration>,
    /// The shortest time between two flushes.
    pub flush_interval: Duration,
    /// Rows at which a flush is due at once.
    pub flush_rows_max: usize,
}

/// Time between two heartbeats (CONTRACT.md, LimitDecision).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// Orgs and scopes that time or terms may have changed decided in one turn of the loop: it bounds their transactions (Law 6).
/// What batches changed is decided with them, always all of it, so that it goes out with its position (Law 3).
pub const DECISIONS_PER_TURN_MAX: usize = 20_000;
/// The wait before a task asks again for what was unavailable.
pub const UNAVAILABLE_WAIT: Duration = Duration::from_millis(500);
