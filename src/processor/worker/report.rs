//! What a worker tells of itself between happenings: readiness, lag and the gauges of its orgs and stores.

use std::time::{Duration, Instant};

use crate::clock::Clock as _;
use crate::processor::ports::{Sink, Source};
use crate::telemetry::TaskState;

use super::{Slot, Worker};

/// Time between two readings of readiness and lag.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two readings of the gauges of orgs, which cost a look at each.
const ORGS_INTERVAL: Duration = Duration::from_secs(2);
/// Time between two lines that tell how far a restore is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// A task whose log time lies so far back while records wait has not caught up any more.
const BEHIND_SECONDS_MAX: f64 = 30.0;
/// Time after which what was persisted is also brought to the disk, so that little is replayed after a crash.
const DISK_INTERVAL: Duration = Duration::from_secs(60);
/// How long an assignment of nothing may be the first half of a move: a partition comes only after its owner, which hears of
/// the move within a heartbeat of 500 ms, has let it go.
const MOVE_MAX: Duration = Duration::from_secs(2);

impl<S: Source, K: Sink<Membership = S::Membership>> Worker<S, K> {
    pub(super) fn report(&mut self) {
        if self.reported_at.is_some_and(|at| at.elapsed() < REPORT_INTERVAL) {
            return;
        }
        self.reported_at = Some(Instant::now());
        self.shared.health.turned(self.number);
        if self.assigned_at.is_some_and(|at| !self.slots.is_empty() || at.elapsed() >= MOVE_MAX) {
            self.shared.health.joined(self.number);
        }
        let now = self.settings.task.clock.now();
        let orgs = self.orgs_reported_at.is_none_or(|at| at.elapsed() >= ORGS_INTERVAL);
        if orgs {
            self.orgs_reported_at = Some(Instant::now());
        }
        let tell = self.progress_told_at.elapsed() >= PROGRESS_INTERVAL;
        if tell {
            self.progress_told_at = Instant::now();
        }
        self.source.serve();
        self.sink.serve();
        self.ask_where_logs_end();
        let mut failures = Vec::new();
        for partition in self.slots.keys().copied().collect::<Vec<_>>() {
            let lag = self.lag_of(partition, now);
            self.shared.telemetry.lag(partition, lag);
            let Some(Slot::Running(task)) = self.slots.get_mut(&partition) else { continue };
            if lag.is_some_and(|lag| lag.seconds > BEHIND_SECONDS_MAX) {
                task.fell_behind();
            }
            if !task.is_speaking() && tell {
                let state = task.restoring();
                let pace = pace(&state, task.recovered_from(), task.age());
                tracing::info!(partition, "partition {state}{pace}");
            }
            let state = if let Some(cause) = task.waits_for() {
                TaskState::Waiting { cause: cause.to_owned() }
            } else if !task.is_speaking() {
                task.restoring()
            } else if task.has_caught_up() {
                TaskState::CaughtUp
            } else {
                TaskState::Behind { lag: lag.map_or(0, |lag| lag.records) }
            };
            self.shared.health.set(partition, state);
            if orgs {
                task.report(&self.shared.telemetry);
            }
            failures.extend(task.store().check().err().map(|error| (partition, error)));
            match task.store().stats() {
                Ok(stats) => self.shared.telemetry.store(
                    partition,
                    stats.disk_bytes + stats.write_buffer_bytes,
                    u64::try_from(stats.stall_time.as_micros()).unwrap_or(u64::MAX),
                ),
                Err(error) => self.shared.telemetry.store_size_unknown(partition, &error.to_string()),
            }
        }
        for (partition, error) in failures {
            self.failed(partition, error.into());
        }
        self.flush_stores();
    }

    fn flush_stores(&mut self) {
        if self.stores_flushed_at.elapsed() < DISK_INTERVAL {
            return;
        }
        self.stores_flushed_at = Instant::now();
        let mut failures = Vec::new();
        for (&partition, slot) in &mut self.slots {
            let Slot::Running(task) = slot else { continue };
            failures.extend(task.flush_store().err().map(|error| (partition, error)));
        }
        for (partition, error) in failures {
            self.failed(partition, error.into());
        }
    }
}

/// How fast a replay goes that began at `from` so long ago, and how long it still takes at that; nothing before its first record.
fn pace(state: &TaskState, from: i64, age: Duration) -> String {
    let TaskState::Replaying { position, until, .. } = state else { return String::new() };
    let (done, left) = (position.saturating_sub(from), until.saturating_sub(*position));
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX).max(1);
    if done <= 0 || left <= 0 {
        return String::new();
    }
    let seconds_left = i128::from(left) * i128::from(micros) / i128::from(done) / 1_000_000;
    let per_second = i128::from(done) * 1_000_000 / i128::from(micros);
    format!(", {per_second} records/s, about {seconds_left} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_tells_its_rate_and_the_time_left() {
        let state = |position| TaskState::Replaying { position, until: 1_000_000, terms: 0, terms_until: 0 };
        let after = Duration::from_secs(2);
        assert_eq!(pace(&state(400_000), 200_000, after), ", 100000 records/s, about 6 s left");
        assert_eq!(pace(&state(200_000), 200_000, after), "");
        assert_eq!(pace(&state(1_000_000), 200_000, after), "");
        assert_eq!(pace(&TaskState::CaughtUp, 0, after), "");
    }
}
