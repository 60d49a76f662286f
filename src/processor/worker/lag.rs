//! How far each owned partition is behind its logs. Of a partition that is read the client's statistics tell where the logs
//! end. For one that is not, because it is halted or waits, they stand still: there the cluster is asked, seldom, one
//! partition at a time, and never while it is known to be away.

use std::time::{Duration, Instant};

use crate::domain::time::Timestamp;
use crate::processor::ports::{LogRange, Sink, Source};
use crate::processor::task::Task;
use crate::telemetry::LagReading;

use super::{Slot, Worker};

/// Time between two questions where the logs of a partition end that is not read.
const ASK_INTERVAL: Duration = Duration::from_secs(5);

/// The same after a question that was not answered: each costs its whole patience, which the other partitions wait for.
const UNANSWERED_INTERVAL: Duration = Duration::from_secs(60);

/// Where the logs of a partition end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    usage: LogRange,
    policies: i64,
}

/// Where a partition stands, and what was asked about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Next usage offset to fold; `None` when no task got so far as to know it.
    position: Option<i64>,
    /// Next policies offset to take.
    policies: Option<i64>,
    log_time: Option<Timestamp>,
    since: Instant,
    /// When it last stood at the log's end.
    at_end: Option<Instant>,
    asked: Option<(Instant, Option<Ends>)>,
}

impl Standing {
    fn new(now: Instant) -> Self {
        Self { position: None, policies: None, log_time: None, since: now, at_end: None, asked: None }
    }

    pub(super) fn stands(&mut self, task: &Task) {
        self.position = Some(task.position());
        self.policies = Some(task.policies_position());
        self.log_time = Some(task.log_time()).filter(|&time| time != Timestamp::MIN);
    }

    /// How far it is behind `ends`, at `now` by the wall clock and `instant` by the other.
    fn reading(&mut self, ends: Ends, now: Timestamp, instant: Instant) -> LagReading {
        let LogRange { low, stable, high } = ends.usage;
        // Of a log that ends before the position nothing was folded: it is another one.
        let position = self.position.filter(|&position| position <= high).unwrap_or(low).max(low);
        let records = (stable - position).max(0);
        if records == 0 {
            self.at_end = Some(instant);
        }
        // What waits was written after the last record that was folded, and after it last stood at the end.
        #[expect(clippy::cast_precision_loss, reason = "a lag is a float by its metric's format")]
        let age = self.log_time.map(|time| now.micros_since(time).max(0) as f64 / 1e6);
        let waited = self.at_end.map(|at| instant.saturating_duration_since(at).as_secs_f64());
        let seconds = match (age, waited) {
            (Some(age), Some(waited)) => age.min(waited),
            (Some(seconds), None) | (None, Some(seconds)) => seconds,
            // Before the first record is folded: for as long as this worker has known of it.
            (None, None) => instant.saturating_duration_since(self.since).as_secs_f64(),
        };
        LagReading {
            records,
            seconds: if records == 0 { 0.0 } else { seconds },
            unstable: (high - stable).max(0),
            policies: self.policies.map_or(0, |position| (ends.policies - position).max(0)),
        }
    }
}

impl<S: Source, K: Sink<Membership = S::Membership>> Worker<S, K> {
    /// Remembers where a partition stood that is halted now; `before` is what was in its slot.
    pub(super) fn stands(&mut self, partition: i32, before: Option<&Slot>) {
        let standing = self.standing.entry(partition).or_insert_with(|| Standing::new(Instant::now()));
        if let Some(Slot::Running(task)) = before {
            standing.stands(task);
        }
    }

    /// How far an owned partition is behind; `None` when nobody knows.
    pub(super) fn lag_of(&mut self, partition: i32, now: Timestamp) -> Option<LagReading> {
        let instant = Instant::now();
        let standing = self.standing.entry(partition).or_insert_with(|| Standing::new(instant));
        let mut is_read = false;
        if let Some(Slot::Running(task)) = self.slots.get(&partition) {
            standing.stands(task);
            is_read = !self.waiting.contains_key(&partition);
        }
        let ends = if is_read {
            let usage = self.source.cached_range(partition)?;
            // Statistics of policies come on their own: without them nothing is known to wait.
            Ends { usage, policies: self.source.cached_policies_end(partition).unwrap_or(0) }
        } else {
            standing.asked?.1?
        };
        Some(standing.reading(ends, now, instant))
    }

    /// Asks where the logs end of the one partition, of those that are not read, that was not asked about for longest.
    pub(super) fn ask_where_logs_end(&mut self) {
        if !self.shared.health.is_connected() {
            return;
        }
        let is_unread = |partition: &i32| {
            self.waiting.contains_key(partition) || matches!(self.slots.get(partition), Some(Slot::Halted { .. }))
        };
        let is_due = |standing: &Standing| {
            standing.asked.is_none_or(|(at, ends)| {
                at.elapsed() >= if ends.is_some() { ASK_INTERVAL } else { UNANSWERED_INTERVAL }
            })
        };
        let due = self.standing.iter().filter(|(partition, standing)| is_unread(partition) && is_due(standing));
        let Some((&partition, _)) = due.min_by_key(|(_, standing)| standing.asked.map(|(at, _)| at)) else {
            return;
        };
        let ends = self.source.range(partition).and_then(|usage| {
            let (_, policies) = self.source.policies_range(partition)?;
            Ok(Ends { usage, policies })
        });
        let is_unknown = self.standing.get(&partition).is_some_and(|standing| standing.position.is_none());
        // What was committed is folded, whoever did it.
        let committed =
            if is_unknown { self.source.last_committed(&[partition]).unwrap_or_default() } else { vec![] };
        if let Some(standing) = self.standing.get_mut(&partition) {
            standing.asked = Some((Instant::now(), ends.ok()));
            if let Some(Some(committed)) = committed.into_iter().next() {
                standing.position = Some(committed.offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_micros(1_795_168_800_000_000);

    fn ends(low: i64, stable: i64, high: i64) -> Ends {
        Ends { usage: LogRange { low, stable, high }, policies: 8 }
    }

    fn standing(position: Option<i64>, log_time: Option<Timestamp>, since: Instant) -> Standing {
        Standing { position, policies: Some(5), log_time, ..Standing::new(since) }
    }

    #[test]
    fn lag_counts_what_the_log_still_holds_and_what_is_not_yet_stable_apart() {
        let start = Instant::now();
        let at = |position, ends| standing(position, Some(NOON), start).reading(ends, NOON, start);
        let reading = at(Some(10), ends(0, 25, 30));
        assert_eq!((reading.records, reading.unstable, reading.policies), (15, 5, 3));
        assert_eq!(at(Some(10), ends(20, 25, 25)).records, 5, "what was cut off waits for nobody");
        assert_eq!(at(Some(90), ends(0, 25, 25)).records, 25, "another log: all of it");
        assert_eq!(at(None, ends(4, 25, 25)).records, 21);
    }

    #[test]
    fn the_age_of_what_waits_is_never_greater_than_the_time_since_it_stood_at_the_end() {
        let start = Instant::now();
        let later = start + Duration::from_secs(2);
        let quiet_hour = NOON.plus_micros(-3_600_000_000);
        let mut standing = standing(Some(10), Some(quiet_hour), start);
        assert!(
            (standing.reading(ends(0, 12, 12), NOON, start).seconds - 3600.0).abs() < 1e-6,
            "not at the end yet"
        );
        assert!(standing.reading(ends(0, 10, 10), NOON, start).seconds.abs() < 1e-6, "nothing waits");
        assert!((standing.reading(ends(0, 11, 11), NOON, later).seconds - 2.0).abs() < 1e-6);
    }

    #[test]
    fn before_anything_is_folded_the_age_is_how_long_the_partition_has_been_here() {
        let start = Instant::now();
        let reading = standing(None, None, start).reading(ends(0, 7, 7), NOON, start + Duration::from_secs(4));
        assert_eq!(reading.records, 7);
        assert!((reading.seconds - 4.0).abs() < 1e-6, "{reading:?}");
    }
}
