//! What the registry denied, and since when. A follower of a registry learns of an id some seconds after its leader gave it
//! out, so a denial is believed only when it was heard for a while: until then the records wait. Pure: it is handed the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A denial that stood for so long is believed.
pub(super) const BELIEVED_AFTER: Duration = Duration::from_secs(30);
/// How often a denial that is not believed yet is asked again.
const ASKED_AGAIN: Duration = Duration::from_secs(2);
/// How long a believed denial holds without asking: the id may be given out later.
const HOLDS_FOR: Duration = Duration::from_secs(10);
/// A denial that was not heard for so long is of another time, and has to stand anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);
/// Ids that producers made up must not fill the memory (Law 6).
const COUNT_MAX: usize = 10_000;

/// What holds of an id without asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: ask.
    Unknown,
    /// It was denied just now, for the first time so long ago.
    Denied(Duration),
    /// It was denied for long enough.
    Believed,
}

struct Denial {
    since: Instant,
    heard: Instant,
}

impl Denial {
    fn stood(&self) -> Duration {
        self.heard.saturating_duration_since(self.since)
    }
}

/// The ids that the registry denied.
#[derive(Default)]
pub(super) struct Denials(HashMap<u32, Denial>);

impl Denials {
    /// What holds of `id` at `now`.
    pub fn standing(&self, id: u32, now: Instant) -> Standing {
        let Some(denial) = self.0.get(&id) else { return Standing::Unknown };
        let silent = now.saturating_duration_since(denial.heard);
        if denial.stood() >= BELIEVED_AFTER {
            if silent < HOLDS_FOR { Standing::Believed } else { Standing::Unknown }
        } else if silent < ASKED_AGAIN {
            Standing::Denied(denial.stood())
        } else {
            Standing::Unknown
        }
    }

    /// The registry denies `id` at `now`.
    pub fn hear(&mut self, id: u32, now: Instant) -> Standing {
        if self.0.len() >= COUNT_MAX && !self.0.contains_key(&id) {
            self.0.retain(|_, denial| now.saturating_duration_since(denial.heard) < FORGOTTEN_AFTER);
            if self.0.len() >= COUNT_MAX {
                self.0.clear();
            }
        }
        let denial = self.0.entry(id).or_insert(Denial { since: now, heard: now });
        if now.saturating_duration_since(denial.heard) >= FORGOTTEN_AFTER {
            denial.since = now;
        }
        denial.heard = now;
        if denial.stood() >= BELIEVED_AFTER { Standing::Believed } else { Standing::Denied(denial.stood()) }
    }

    /// The registry gives `id` after all.
    pub fn forget(&mut self, id: u32) {
        self.0.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_denial_is_believed_when_it_was_heard_for_thirty_seconds() {
        let (mut denials, start) = (Denials::default(), Instant::now());
        assert_eq!(denials.standing(7, start), Standing::Unknown);
        assert_eq!(denials.hear(7, start), Standing::Denied(Duration::ZERO));
        assert_eq!(
            denials.standing(7, start + SECOND),
            Standing::Denied(Duration::ZERO),
            "it is not asked at once"
        );
        assert_eq!(denials.standing(7, start + 2 * SECOND), Standing::Unknown, "it is asked again");
        assert_eq!(denials.hear(7, start + 29 * SECOND), Standing::Denied(29 * SECOND));
        assert_eq!(denials.standing(7, start + 31 * SECOND), Standing::Unknown, "silence is no denial");
        assert_eq!(denials.hear(7, start + 31 * SECOND), Standing::Believed);
        assert_eq!(denials.standing(7, start + 40 * SECOND), Standing::Believed);
        assert_eq!(denials.standing(7, start + 41 * SECOND), Standing::Unknown, "it may be given out later");
        assert_eq!(denials.hear(7, start + 41 * SECOND), Standing::Believed, "no record waits again");
        assert_eq!(denials.standing(8, start + 41 * SECOND), Standing::Unknown, "each id stands for itself");
    }

    #[test]
    fn an_id_that_is_given_or_not_denied_for_long_has_to_be_denied_anew() {
        let (mut denials, start) = (Denials::default(), Instant::now());
        denials.hear(7, start);
        denials.forget(7);
        assert_eq!(denials.hear(7, start + 40 * SECOND), Standing::Denied(Duration::ZERO));
        assert_eq!(denials.hear(7, start + 80 * SECOND), Standing::Believed);
        let later = start + 80 * SECOND + FORGOTTEN_AFTER;
        assert_eq!(denials.hear(7, later), Standing::Denied(Duration::ZERO));
    }

    #[test]
    fn ids_that_producers_make_up_do_not_fill_the_memory() {
        let (mut denials, start) = (Denials::default(), Instant::now());
        for id in 0..3 * u32::try_from(COUNT_MAX).unwrap() {
            denials.hear(id, start);
            assert!(denials.0.len() <= COUNT_MAX);
        }
    }
}
