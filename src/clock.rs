//! Wall-clock time, behind a trait so that tests turn it by hand. Only decisions ask for it, never the fold (Law 2).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::time::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Both clocks at one moment: the wall clock, which people and NTP set, and the time since some instant of the past, by
    /// a clock that nobody sets and that goes on while the machine sleeps.
    fn read(&self) -> (Timestamp, Duration);
    /// The instant that it is now, by the wall clock.
    fn now(&self) -> Timestamp {
        self.read().0
    }
    /// Whether it is a machine's, so that Kafka's timestamps must agree with it; one that is turned by hand is not.
    fn is_machine(&self) -> bool {
        true
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn read(&self) -> (Timestamp, Duration) {
        (self.now(), uptime())
    }

    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

#[cfg(target_os = "linux")]
fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(not(target_os = "linux"))]
fn uptime() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// A clock that stands still until it is turned; clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<(Timestamp, Duration)>>);

impl ManualClock {
    /// A clock that shows `at`.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self(Arc::new(Mutex::new((at, Duration::from_micros(at.micros().unsigned_abs())))))
    }

    fn with<T>(&self, act: impl FnOnce(&mut (Timestamp, Duration)) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets time pass until it shows `at`.
    pub fn set(&self, at: Timestamp) {
        self.with(|(wall, uptime)| {
            let passed = Duration::from_micros(at.micros().abs_diff(wall.micros()));
            *uptime = if at >= *wall { *uptime + passed } else { uptime.saturating_sub(passed) };
            *wall = at;
        });
    }

    /// Lets so much time pass.
    pub fn pass(&self, time: Duration) {
        self.with(|(wall, uptime)| {
            *wall = wall.plus_micros(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
            *uptime += time;
        });
    }

    /// Sets the wall clock to `at`, as a person or NTP does: no time passes.
    pub fn jump(&self, at: Timestamp) {
        self.with(|(wall, _)| *wall = at);
    }
}

impl Clock for ManualClock {
    fn read(&self) -> (Timestamp, Duration) {
        self.with(|clocks| *clocks)
    }

    fn is_machine(&self) -> bool {
        false
    }
}
