//! The clock of decisions. A wall clock that leaves the monotonic clock or Kafka's timestamps by more than minutes is not
//! believed (DESIGN.md, the clock rule): a decision that one forward jump dates ahead would hold until that date, on every
//! host. While it is not believed, time goes on from when it last was, and the worker decides and publishes nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::domain::time::Timestamp;

use super::ports::BrokerTime;

/// How far the wall clock may leave the others: what NTP corrects, and what records may wait on their way, stays below.
pub const DEVIATION_MICROS_MAX: i64 = 5 * 60 * 1_000_000;

/// A clock that checks itself; shared by the workers of a process.
pub struct TrustedClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// The difference of a time to the monotonic clock is an offset, microseconds: as long as nobody sets the clock, it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// The wall clock's when it was last believed.
    wall: i64,
    /// The least and the greatest that the broker's can be.
    broker: (i64, i64),
    fault: Option<String>,
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl TrustedClock {
    /// Believes `clock` until something contradicts it.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (now, uptime) = clock.read();
        let wall = now.micros().saturating_sub(micros(uptime));
        Self { clock, state: Mutex::new(State { wall, broker: (i64::MIN, i64::MAX), fault: None }) }
    }

    fn check<T>(&self, then: impl FnOnce(&State, Duration) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, uptime) = self.clock.read();
        state.judge(now, micros(uptime));
        then(&state, uptime)
    }

    /// Why the wall clock is not believed at this moment; `None` when it is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.check(|state, _| state.fault.clone())
    }

    /// Takes note of a timestamp of the broker's.
    pub fn observe(&self, time: BrokerTime) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let uptime = micros(self.clock.read().1);
        let ago = |instant: Instant| uptime.saturating_sub(micros(instant.elapsed()));
        let least = time.at.micros().saturating_sub(ago(time.seen));
        let greatest =
            time.ended.map_or(state.broker.1.max(least), |ended| time.at.micros().saturating_sub(ago(ended)));
        state.broker = (least, greatest);
    }
}

impl Clock for TrustedClock {
    /// The wall clock's time; while it is not believed, the time that has passed since it was.
    fn read(&self) -> (Timestamp, Duration) {
        self.check(|state, uptime| (Timestamp::from_micros(state.wall.saturating_add(micros(uptime))), uptime))
    }

    fn is_machine(&self) -> bool {
        self.clock.is_machine()
    }
}

impl State {
    fn judge(&mut self, now: Timestamp, uptime: i64) {
        let offset = now.micros().saturating_sub(uptime);
        let (least, greatest) = self.broker;
        let agrees = |offset: i64| {
            offset >= least.saturating_sub(DEVIATION_MICROS_MAX)
                && offset <= greatest.saturating_add(DEVIATION_MICROS_MAX)
        };
        let jump = offset.saturating_sub(self.wall);
        // Kafka decides when it can: where the monotonic clock stood still, the wall clock is right.
        let is_steady = jump.abs() <= DEVIATION_MICROS_MAX || !agrees(self.wall);
        if agrees(offset) && is_steady {
            self.wall = offset;
            self.fault = None;
            return;
        }
        let (by, than) = if agrees(offset) {
            (jump, "what it showed before")
        } else if offset < least {
            (offset.saturating_sub(least), "Kafka's timestamps")
        } else {
            (offset.saturating_sub(greatest), "Kafka's timestamps")
        };
        if !agrees(self.wall) {
            self.wall = self.wall.clamp(least, greatest.max(least));
        }
        let side = if by > 0 { "ahead of" } else { "behind" };
        self.fault = Some(format!(
            "this machine's clock shows {now}, {} minutes {side} {than}: it is not believed, and nothing is decided or \
             published until it is right. Check NTP on this machine{}",
            by.unsigned_abs() / 60_000_000,
            if than == "Kafka's timestamps" { ", and the brokers' clocks" } else { "" }
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const NOON: Timestamp = Timestamp::from_micros(1_795_168_800_000_000);
    const MINUTE: i64 = 60_000_000;

    fn clocks() -> (ManualClock, TrustedClock) {
        let wall = ManualClock::new(NOON);
        (wall.clone(), TrustedClock::new(Arc::new(wall)))
    }

    /// A record that the broker stamped at `at` and that came at once; the log had ended right before.
    fn live(at: Timestamp) -> BrokerTime {
        BrokerTime { at, seen: Instant::now(), ended: Some(Instant::now()) }
    }

    #[test]
    fn time_that_passes_and_small_corrections_are_believed() {
        let (wall, clock) = clocks();
        wall.set(NOON.plus_micros(40 * 24 * 60 * MINUTE));
        assert_eq!((clock.fault(), clock.now()), (None, wall.now()));
        for minutes in [4, -4] {
            wall.jump(wall.now().plus_micros(minutes * MINUTE));
            assert_eq!((clock.fault(), clock.now()), (None, wall.now()));
        }
    }

    #[test]
    fn a_jump_is_not_believed_and_time_goes_on_from_before_until_the_clock_is_right_again() {
        for minutes in [40 * 24 * 60, -6] {
            let (wall, clock) = clocks();
            wall.jump(NOON.plus_micros(minutes * MINUTE));
            assert_eq!(clock.now(), NOON, "no decision is made of it, also not before the fault is asked for");
            let fault = clock.fault().unwrap();
            let side = if minutes > 0 { "ahead of" } else { "behind" };
            assert!(fault.contains(&format!("{} minutes {side} what it showed before", minutes.abs())), "{fault}");
            wall.set(wall.now().plus_micros(MINUTE));
            assert_eq!(clock.now(), NOON.plus_micros(MINUTE));
            wall.jump(NOON.plus_micros(MINUTE));
            assert_eq!((clock.fault(), clock.now()), (None, wall.now()));
        }
    }

    #[test]
    fn a_clock_that_was_wrong_from_the_start_is_found_by_a_live_record() {
        let (wall, clock) = clocks();
        let right = NOON.plus_micros(-40 * 24 * 60 * MINUTE);
        clock.observe(BrokerTime { at: right, seen: Instant::now(), ended: None });
        assert_eq!(clock.fault(), None, "a record that may have waited for long says nothing");
        clock.observe(live(right));
        let fault = clock.fault().unwrap();
        assert!(fault.contains("ahead of Kafka's timestamps") && fault.contains("brokers' clocks"), "{fault}");
        assert!((clock.now().micros() - right.micros()).abs() < MINUTE);
        wall.jump(right);
        assert_eq!((clock.fault(), clock.now()), (None, right));
    }

    #[test]
    fn a_clock_behind_any_record_of_the_log_is_not_believed() {
        let (_, clock) = clocks();
        clock.observe(BrokerTime { at: NOON.plus_micros(10 * MINUTE), seen: Instant::now(), ended: None });
        assert!(
            clock.fault().unwrap().contains("9 minutes behind Kafka's timestamps")
                || clock.fault().unwrap().contains("10 minutes behind Kafka's timestamps")
        );
    }

    #[test]
    fn where_the_monotonic_clock_stood_still_kafka_proves_the_wall_clock_right() {
        let (wall, clock) = clocks();
        let later = NOON.plus_micros(8 * 60 * MINUTE);
        wall.jump(later);
        assert!(clock.fault().is_some());
        clock.observe(live(later));
        assert_eq!((clock.fault(), clock.now()), (None, later));
    }
}
