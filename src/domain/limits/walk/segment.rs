//! One segment of a period, and how its usage is spent: the arithmetic of the walk, in sums alone.

use crate::domain::credits::CreditSum;
use crate::domain::terms::grant::Grant;
use crate::domain::terms::period::Period;
use crate::domain::time::Hour;

/// A stretch of a period in which no grant starts or ends, with what became of its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first hour.
    pub start: Hour,
    /// The first hour after it.
    pub end: Hour,
    /// Earlier uncovered usage of the period that this segment's grants covered at its start.
    pub repaid: CreditSum,
    /// What base and grants then held for its own usage; `None` without a limit.
    pub room: Option<CreditSum>,
    /// Net of its usage.
    pub net: CreditSum,
}

/// Where a walk stands: in a segment of which `net` has been used so far, with all else as it was before that segment.
#[derive(Clone, Debug)]
pub(super) struct Stand {
    pub(super) period: Period,
    /// `None` without a limit.
    pub(super) base: Option<CreditSum>,
    pub(super) start: Hour,
    pub(super) end: Hour,
    pub(super) net: CreditSum,
    pub(super) used: CreditSum,
    /// Above 0 only where nothing is uncovered.
    pub(super) base_left: CreditSum,
    pub(super) uncovered: CreditSum,
    pub(super) grants_used: CreditSum,
    /// What each grant holds, in the order of the walk's grants.
    pub(super) left: Vec<CreditSum>,
}

impl Stand {
    /// At the start of a period, with every grant whole.
    pub(super) fn new(period: Period, base: Option<CreditSum>, grants: &[Grant]) -> Self {
        let left = grants.iter().map(|grant| grant.credits).collect();
        let zero = CreditSum::ZERO;
        let mut stand = Self {
            period,
            base,
            start: period.start,
            end: period.end,
            net: zero,
            used: zero,
            base_left: zero,
            uncovered: zero,
            grants_used: zero,
            left,
        };
        stand.enter(period, base, grants);
        stand
    }

    /// Begins a period: what was uncovered stays behind, base is new, grants carry over.
    fn enter(&mut self, period: Period, base: Option<CreditSum>, grants: &[Grant]) {
        let zero = CreditSum::ZERO;
        (self.period, self.base, self.start) = (period, base, period.start);
        (self.net, self.used, self.uncovered, self.grants_used) = (zero, zero, zero, zero);
        self.base_left = base.unwrap_or(zero);
        self.end = end_of(self.start, period, grants);
    }

    /// Moves on until the segment holds `hour`, which is not before it. `periods` gives the period of an hour and its
    /// base; those without usage between are passed over, for nothing is spent in them.
    pub(super) fn reach(
        &mut self,
        grants: &[Grant],
        hour: Hour,
        periods: &dyn Fn(Hour) -> (Period, Option<CreditSum>),
        each: &mut dyn FnMut(Segment),
    ) {
        while hour >= self.end {
            each(self.close(grants));
            if self.end == self.period.end {
                let (period, base) = periods(hour);
                self.enter(period, base, grants);
            } else {
                self.start = self.end;
                self.end = end_of(self.start, self.period, grants);
            }
        }
    }

    /// Spends the segment's net: earlier uncovered usage is taken from its grants, its own from base, then grants.
    pub(super) fn close(&mut self, grants: &[Grant]) -> Segment {
        let net = std::mem::take(&mut self.net);
        self.used += net;
        let mut segment = Segment { start: self.start, end: self.end, repaid: CreditSum::ZERO, room: None, net };
        if self.base.is_none() {
            return segment;
        }
        segment.repaid = self.take(grants, self.uncovered);
        self.uncovered = self.uncovered - segment.repaid;
        let held = grants.iter().zip(&self.left).filter(|(grant, _)| grant.covers(self.start));
        segment.room = Some(held.fold(self.base_left, |sum, (_, left)| sum + *left));
        if net >= CreditSum::ZERO {
            let of_base = net.min(self.base_left);
            self.base_left = self.base_left - of_base;
            let of_grants = self.take(grants, net - of_base);
            self.uncovered += net - of_base - of_grants;
        } else {
            let cancelled = (-net).min(self.uncovered);
            self.uncovered = self.uncovered - cancelled;
            // Above the allocation too: used - uncovered stays what base and grants gave.
            self.base_left += -net - cancelled;
        }
        segment
    }

    /// Takes up to `wanted` from the segment's grants in spending order, and tells how much it got.
    fn take(&mut self, grants: &[Grant], wanted: CreditSum) -> CreditSum {
        let mut missing = wanted;
        for (grant, left) in grants.iter().zip(&mut self.left) {
            if missing <= CreditSum::ZERO {
                break;
            }
            if grant.covers(self.start) {
                let taken = missing.min(*left);
                *left = *left - taken;
                missing = missing - taken;
            }
        }
        self.grants_used += wanted - missing;
        wanted - missing
    }
}

/// Where the segment that begins at `start` ends: with the period, or where the next grant starts or ends.
pub(super) fn end_of(start: Hour, period: Period, grants: &[Grant]) -> Hour {
    let cuts = grants.iter().flat_map(|grant| [grant.first_hour(), grant.end]);
    cuts.filter(|cut| *cut > start).fold(period.end, Hour::min)
}
