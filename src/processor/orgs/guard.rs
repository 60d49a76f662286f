//! The guard (`limits.guard`): the records of a batch are held, one by one and as of their own log time, against the
//! line at which an org is blocked early. So whether it is reached follows from the records alone, however they fall into
//! batches. What is made of it is `decide::judge`'s; that it stays so is the published level's (Law 4).

use super::{Law, OrgState, Orgs, limit_of};
use crate::domain::credits::CreditSum;
use crate::domain::cube::fold::Spend;
use crate::domain::limits::decide::{Limit, is_near};
use crate::domain::limits::inputs::Ahead;
use crate::domain::limits::rate::RateRing;
use crate::domain::time::Timestamp;

/// What a guard knows of an org.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Its recent rate, up to the running batch.
    pub ring: RateRing,
    /// Where it is blocked without a guard; `None` if nowhere.
    line: Option<CreditSum>,
    /// Credits used up to the running record.
    used: CreditSum,
    /// The line that a record came near to since the last published decision.
    near: Option<CreditSum>,
}

impl Watch {
    /// Watches on from what the store tells of the rate. What a record came near to still is to be decided, unless that was
    /// in another period.
    pub fn reload(&mut self, ring: RateRing, same_period: bool) {
        *self = Self { ring, near: self.near.filter(|_| same_period), ..Self::default() };
    }

    /// What the recent rate makes of the org at `now`.
    pub fn ahead(&self, latency: i64, now: Timestamp) -> Ahead {
        Ahead { credits: self.ring.spent_within(latency, now), near: self.near }
    }

    /// A decision is published: what led to it is in its level.
    pub const fn published(&mut self) {
        self.near = None;
    }
}

impl Orgs {
    /// Orgs with a guard that looks so many microseconds ahead, if any.
    #[must_use]
    pub fn new(guard: Option<i64>) -> Self {
        Self { guard, ..Self::default() }
    }

    /// A batch begins that has records of the org: before they are added.
    pub fn watch(&mut self, place: u32, ring: RateRing, law: Law<'_>) {
        let state = &mut self.states[place as usize];
        let line = if state.is_ready(law.now) { limit_of(state, law).and_then(Limit::line) } else { None };
        if let Some(watch) = &mut state.watch {
            (watch.ring, watch.line, watch.used) = (ring, line, state.used);
        }
    }

    /// The batch's next record of the org; `ring` is the org's with it, `log_time` its own.
    pub fn pass(&mut self, place: u32, spend: &Spend<'_>, ring: &RateRing, log_time: Timestamp) {
        let OrgState { period, watch, .. } = &mut self.states[place as usize];
        let (Some(latency), Some(watch)) = (self.guard, watch) else { return };
        if period.contains(spend.hour.start()) {
            watch.used += spend.credits.into();
        }
        if watch.line.is_some_and(|line| is_near(watch.used, ring.spent_within(latency, log_time), line)) {
            watch.near = watch.line;
        }
    }
}
