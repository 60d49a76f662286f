//! The recent rate of an org in log time: credits of its usage events in a ring of minutes, each counted at its record's
//! log time. A pure fold of records (Law 2), kept only where a guard needs it, and therefore one of the fold's settings.
//! It knows no limit: what a guard makes of it is `decide`'s.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::domain::credits::{CreditSum, Credits};
use crate::domain::time::Timestamp;

/// Minutes of a ring: the running one and those that hold the five minutes before any instant in it.
pub const MINUTES: usize = 6;
const MINUTE_MICROS: i64 = 60_000_000;
/// The rate is that of so many microseconds. A constant: so a rate never grows by the mere passing of time.
const WINDOW_MICROS: i128 = 300_000_000;

const fn minute_of(at: Timestamp) -> i64 {
    at.micros().div_euclid(MINUTE_MICROS)
}

/// Credits of one org's usage events by minute of log time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateRing {
    /// Number of the latest minute with usage.
    pub minute: i64,
    /// Micro-credits of that minute and of each before it, latest first.
    pub micros: [i128; MINUTES],
}

impl RateRing {
    /// Counts a usage event's credits at the log time of its record, which never goes back.
    pub fn add(&mut self, log_time: Timestamp, credits: Credits) {
        let minute = minute_of(log_time).max(self.minute);
        let passed = usize::try_from(minute - self.minute).unwrap_or(MINUTES).min(MINUTES);
        self.micros.copy_within(..MINUTES - passed, passed);
        self.micros[..passed].fill(0);
        self.minute = minute;
        self.micros[0] += i128::from(credits.micros());
    }

    /// Credits that the recent rate spends in `latency` microseconds, rounded up. At `at` the rate is what was used in its
    /// minute and the five before, over five minutes: up to a fifth too much, never too little for steady usage.
    #[must_use]
    pub fn spent_within(&self, latency: i64, at: Timestamp) -> CreditSum {
        let passed = usize::try_from(minute_of(at) - self.minute).unwrap_or(0).min(MINUTES);
        let recent: i128 = self.micros[..MINUTES - passed].iter().sum();
        let spent = recent * i128::from(latency);
        CreditSum((spent + WINDOW_MICROS - 1).div_euclid(WINDOW_MICROS))
    }
}

/// The rings of a task's orgs that were used since it last forgot them.
#[derive(Debug, Default)]
pub struct Rates {
    rings: HashMap<Box<str>, Known, FixedState>,
    dirty: Vec<Box<str>>,
}

#[derive(Debug)]
struct Known {
    ring: RateRing,
    is_dirty: bool,
}

impl Rates {
    /// Counts what a record of `org` spent at its log time, `None` for one that is no usage event, and gives the ring as
    /// it is then; `read` gives the stored one.
    ///
    /// # Errors
    /// Those of `read`; nothing is counted then.
    pub fn record<E>(
        &mut self,
        org: &str,
        log_time: Timestamp,
        used: Option<Credits>,
        read: impl FnOnce(&str) -> Result<Option<RateRing>, E>,
    ) -> Result<&RateRing, E> {
        if !self.rings.contains_key(org) {
            let ring = read(org)?.unwrap_or_default();
            self.rings.insert(org.into(), Known { ring, is_dirty: false });
        }
        let known = self.rings.get_mut(org).expect("it is there or was put there");
        if let Some(credits) = used {
            known.ring.add(log_time, credits);
            if !std::mem::replace(&mut known.is_dirty, true) {
                self.dirty.push(org.into());
            }
        }
        Ok(&known.ring)
    }

    /// The ring of an org with a record since rings were last forgotten.
    #[must_use]
    pub fn get(&self, org: &str) -> Option<&RateRing> {
        self.rings.get(org).map(|known| &known.ring)
    }

    /// Hands every ring that changed since the last time to `put`.
    pub fn flush(&mut self, mut put: impl FnMut(&str, &RateRing)) {
        for org in self.dirty.drain(..) {
            if let Some(known) = self.rings.get_mut(&org) {
                known.is_dirty = false;
                put(&org, &known.ring);
            }
        }
    }

    /// About the bytes that it holds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.rings.len() * (size_of::<Known>() + 64)
    }

    /// Forgets all (Law 6); only when the store holds them.
    ///
    /// # Panics
    /// When one was not flushed: it would be lost.
    pub fn forget(&mut self) {
        assert!(self.dirty.is_empty(), "a ring is forgotten only when it is flushed");
        self.rings.clear();
    }
}
