//! The clock of decisions. A wall clock that leaves the monotonic clock or Kafka's timestamps by more than minutes is not
//! believed (DESIGN.md, the clock rule): a decision that one forward jump dates ahead would hold until that date, on every
//! host. While it is not believed, time goes on from when it last was, and the worker decides and publishes nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
    /// The least that the broker's can be: it has stamped a record with that time, which took a while to come.
    broker: i64,
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
        Self { clock, state: Mutex::new(State { wall, broker: i64::MIN, fault: None }) }
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
        let seen = uptime.saturating_sub(micros(time.seen.elapsed()));
        state.broker = time.at.micros().saturating_sub(seen);
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
        let is_behind_kafka = |offset: i64| offset < self.broker.saturating_sub(DEVIATION_MICROS_MAX);
        let jump = offset.saturating_sub(self.wall);
        // Kafka decides when it can: where the monotonic clock stood still, the wall clock is right.
        if !is_behind_kafka(offset) && (jump.abs() <= DEVIATION_MICROS_MAX || is_behind_kafka(self.wall)) {
            self.wall = offset;
            self.fault = None;
            return;
        }
        let (by, than, check) = if is_behind_kafka(offset) {
            (offset.saturating_sub(self.broker), "Kafka's timestamps", "NTP on this machine and on the brokers")
        } else {
            (jump, "what it showed before", "NTP on this machine; if this time is right, restart this instance")
        };
        let side = if by > 0 { "ahead of" } else { "behind" };
        self.fault = Some(format!(
            "this machine's clock shows {now}, {} minutes {side} {than}: it is not believed, and nothing is decided or \
             published until it is right. Check {check}",
            by.unsigned_abs() / 60_000_000,
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::clock::ManualClock;

    const NOON: Timestamp = Timestamp::from_micros(1_795_168_800_000_000);
    const MINUTE: i64 = 60_000_000;

    fn clocks() -> (ManualClock, TrustedClock) {
        let wall = ManualClock::new(NOON);
        (wall.clone(), TrustedClock::new(Arc::new(wall)))
    }

    fn stamped(at: Timestamp) -> BrokerTime {
        BrokerTime { at, seen: Instant::now() }
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
    fn a_clock_behind_any_record_of_the_log_is_not_believed_and_an_old_record_says_nothing() {
        let (wall, clock) = clocks();
        clock.observe(stamped(NOON.plus_micros(-40 * 24 * 60 * MINUTE)));
        assert_eq!(clock.fault(), None, "it may have waited for long");
        clock.observe(stamped(NOON.plus_micros(20 * MINUTE)));
        let fault = clock.fault().unwrap();
        assert!(fault.contains("behind Kafka's timestamps") && fault.contains("on the brokers"), "{fault}");
        assert_eq!(clock.now(), NOON, "no decision is made of a broker's time alone");
        wall.jump(NOON.plus_micros(20 * MINUTE));
        assert_eq!((clock.fault(), clock.now()), (None, wall.now()));
    }

    #[test]
    fn where_the_monotonic_clock_stood_still_kafka_proves_the_wall_clock_right() {
        let (wall, clock) = clocks();
        let later = NOON.plus_micros(8 * 60 * MINUTE);
        wall.jump(later);
        assert!(clock.fault().is_some());
        clock.observe(stamped(later));
        assert_eq!((clock.fault(), clock.now()), (None, later));
    }
}
