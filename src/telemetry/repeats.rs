//! Log lines of what can happen again and again. The first of a cause is a line at once. What follows within ten seconds is
//! one line with its count when these are over: no cause floods the log, none is forgotten, and none is logged long after
//! it happened.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines of one cause.
pub const REPEAT_INTERVAL: Duration = Duration::from_secs(10);
/// The most causes that are counted apart at a time (Law 6); all others count as one.
const CAUSES_MAX: usize = 100;
/// The cause of what is beyond [`CAUSES_MAX`].
const OTHERS: &str = "others";

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A person should act.
    Error,
    /// It mends itself, or is tried again.
    Warn,
}

/// A line: what happened, an example of it, and how often since the last line of its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How grave it is.
    pub severity: Severity,
    /// What happened, without what differs from time to time.
    pub what: Cow<'static, str>,
    /// The latest one: the place, the error.
    pub detail: String,
    /// How often.
    pub count: u64,
}

impl Line {
    fn write(&self) {
        let Self { severity, what, detail, count } = self;
        match severity {
            Severity::Error => tracing::error!(count, detail, "{what}"),
            Severity::Warn => tracing::warn!(count, detail, "{what}"),
        }
    }
}

/// A cause that was logged a short time ago.
#[derive(Debug)]
struct Recent {
    logged: Instant,
    /// What came since, if anything did.
    since: Option<Line>,
}

/// What Kafka clients report of themselves: there are many in a process, and each of them meets an outage.
pub static CLIENTS: Repeats = Repeats::new();

/// The causes that were logged a short time ago.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<BTreeMap<Cow<'static, str>, Recent>>);

impl Repeats {
    /// Nothing was logged yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn recent(&self) -> MutexGuard<'_, BTreeMap<Cow<'static, str>, Recent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `line` happened by `cause`: it is logged now, or counted when a line of the same cause was logged just before.
    pub fn happened(&self, cause: impl Into<Cow<'static, str>>, line: Line) {
        if let Some(line) = self.at(Instant::now(), cause.into(), line) {
            line.write();
        }
    }

    /// Logs what was counted, where its time is over. To be called every second or so.
    pub fn tick(&self) {
        for line in self.due(Instant::now()) {
            line.write();
        }
    }

    /// What to log of it at `now`, if anything.
    fn at(&self, now: Instant, cause: Cow<'static, str>, mut line: Line) -> Option<Line> {
        let mut recent = self.recent();
        let full = recent.len() >= CAUSES_MAX && !recent.contains_key(&cause);
        let cause = if full { Cow::Borrowed(OTHERS) } else { cause };
        let Some(known) = recent.get_mut(&cause) else {
            recent.insert(cause, Recent { logged: now, since: None });
            return Some(line);
        };
        line.count += known.since.take().map_or(0, |since| since.count);
        if now.saturating_duration_since(known.logged) < REPEAT_INTERVAL {
            known.since = Some(line);
            return None;
        }
        known.logged = now;
        Some(line)
    }

    /// What was counted and is due at `now`. Causes of which nothing more came are forgotten.
    fn due(&self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        self.recent().retain(|_, recent| {
            if now.saturating_duration_since(recent.logged) < REPEAT_INTERVAL {
                return true;
            }
            let Some(line) = recent.since.take() else { return false };
            recent.logged = now;
            lines.push(line);
            true
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(detail: &str) -> Line {
        Line { severity: Severity::Warn, what: "it failed".into(), detail: detail.into(), count: 1 }
    }

    fn seen(line: &Line) -> (&str, u64) {
        (line.detail.as_str(), line.count)
    }

    #[test]
    fn the_first_of_a_cause_is_a_line_at_once_and_what_follows_is_one_line_with_its_count_ten_seconds_later() {
        let (repeats, start) = (Repeats::new(), Instant::now());
        let first = repeats.at(start, "a".into(), line("first")).expect("at once");
        assert_eq!(seen(&first), ("first", 1));
        for n in 0..29 {
            let at = start + Duration::from_millis(n * 7);
            assert_eq!(repeats.at(at, "a".into(), line(&format!("more {n}"))), None);
        }
        assert!(repeats.at(start, "b".into(), line("another cause")).is_some(), "causes do not hide each other");
        assert_eq!(repeats.due(start + Duration::from_secs(9)), []);
        let due = repeats.due(start + REPEAT_INTERVAL);
        assert_eq!(due.iter().map(seen).collect::<Vec<_>>(), [("more 28", 29)], "one line, not later than that");
        assert_eq!(repeats.due(start + REPEAT_INTERVAL * 2), [], "nothing came since, so nothing is logged");
    }

    #[test]
    fn a_cause_that_goes_on_is_a_line_every_ten_seconds_and_no_occurrence_is_counted_twice_or_lost() {
        let (repeats, start) = (Repeats::new(), Instant::now());
        let (mut lines, mut counted, mut at) = (0, 0, start);
        for n in 0..1_200 {
            at = start + Duration::from_millis(n * 100);
            let logged = repeats.at(at, "a".into(), line("again")).into_iter();
            for line in logged.chain(if n % 10 == 0 { repeats.due(at) } else { Vec::new() }) {
                lines += 1;
                counted += line.count;
            }
        }
        counted += repeats.due(at + REPEAT_INTERVAL).iter().map(|line| line.count).sum::<u64>();
        assert_eq!((lines, counted), (12, 1_200), "two minutes are twelve lines");
    }

    #[test]
    fn a_cause_that_returns_after_a_long_time_does_not_count_what_was_logged_before() {
        let (repeats, start) = (Repeats::new(), Instant::now());
        repeats.at(start, "a".into(), line("then"));
        repeats.at(start, "a".into(), line("then too"));
        assert_eq!(repeats.due(start + REPEAT_INTERVAL).len(), 1);
        assert_eq!(repeats.due(start + REPEAT_INTERVAL * 2), []);
        let later = repeats.at(start + Duration::from_secs(3600), "a".into(), line("now")).expect("a line");
        assert_eq!(seen(&later), ("now", 1));
    }

    #[test]
    fn ever_new_causes_take_no_more_than_a_bounded_memory_and_are_counted() {
        let (repeats, start) = (Repeats::new(), Instant::now());
        let lines = (0..10_000).filter_map(|n| repeats.at(start, format!("cause {n}").into(), line("x"))).count();
        assert_eq!(lines, CAUSES_MAX + 1);
        assert!(repeats.recent().len() <= CAUSES_MAX + 1);
        let due = repeats.due(start + REPEAT_INTERVAL);
        assert_eq!(due.iter().map(|line| line.count).sum::<u64>(), 10_000 - CAUSES_MAX as u64 - 1);
        assert_eq!(repeats.due(start + REPEAT_INTERVAL * 2), []);
        assert!(repeats.recent().is_empty(), "what is over is forgotten");
    }
}
