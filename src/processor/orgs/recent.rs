//! An org's recent rate, for forecasts and `credits_per_second`: what its last two hours with usage hold. Nothing is decided
//! by it but when a forecast alert goes out; the guard has a ring of its own (`domain/rate.rs`).

use crate::domain::time::{Hour, Timestamp};

/// Credits of the latest hour with usage and of the hour before it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    pub hour: Hour,
    this: i128,
    before: i128,
}

impl Recent {
    /// Nothing yet, in this hour.
    pub fn at(hour: Hour) -> Self {
        Self { hour, ..Self::default() }
    }

    /// Counts what was used in an hour.
    pub fn add(&mut self, hour: Hour, micros: i128) {
        if hour == self.hour {
            self.this += micros;
        } else if hour.0 == self.hour.0 + 1 {
            *self = Self { hour, this: micros, before: self.this };
        } else if hour > self.hour {
            *self = Self { hour, this: micros, before: 0 };
        } else if hour.0 + 1 == self.hour.0 {
            self.before += micros;
        }
    }

    /// Micro-credits per second over the running hour and the one before it.
    pub fn per_second(&self, now: Timestamp) -> i128 {
        let hour = now.hour();
        let seconds = 3600 + i128::from(now.micros_since(hour.start()) / 1_000_000);
        let micros = match hour.0 - self.hour.0 {
            0 => self.this + self.before,
            1 => self.this,
            _ => 0,
        };
        micros / seconds
    }
}
