//! The walk over an org's periods: what its usage takes from base and grants, and what nothing covers (CONTRACT.md,
//! Meaning: Spending order, Allowance).
//!
//! It knows the org's credits by hour and its terms, and neither reads a clock nor decides. It is exact whatever came
//! late, and cheap to follow: a [`Walk`] is loaded from the hours once, then takes what each batch adds to the running
//! segment, and moves on with time; only usage of a segment that it has left asks for another load. Next: `grant` for
//! which grants count, `overage` for the hours and values that nothing covered.

mod segment;

use crate::domain::credits::CreditSum;
use crate::domain::limits::decide::limit_of;
use crate::domain::terms::book::OrgTerms;
use crate::domain::terms::grant::{self, Grant, grants_at};
use crate::domain::terms::in_force::in_force;
use crate::domain::terms::period::{Period, period_at};
use crate::domain::terms::records::DefaultTerms;
use crate::domain::time::{Hour, Timestamp};
pub use segment::Segment;
use segment::Stand;

/// Hours that are kept apart behind the running one: what comes so late needs no load.
const HOURS_BEHIND: i32 = 1;
/// The most hours that are kept apart before the older ones are added up.
const HOURS_APART_MAX: usize = 6;

/// What a walk follows from besides usage.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The org's own terms.
    pub org: &'a OrgTerms,
    /// Those of an org without a policy in force.
    pub default: &'a DefaultTerms,
}

impl Terms<'_> {
    /// The org's period that holds `at`.
    #[must_use]
    pub fn period(&self, at: Timestamp) -> Period {
        period_at(Some(&self.org.policies), self.default, at)
    }

    /// The base allocation of a period as known at `now`: that in force then, or at the last instant of a period that
    /// is over. `None` without a limit.
    #[must_use]
    pub fn base(&self, period: Period, now: Timestamp) -> Option<CreditSum> {
        let at = now.min(last_instant(period));
        limit_of(in_force(Some(&self.org.policies), self.default, at)).map(|limit| limit.base)
    }

    /// The next instant after `at` at which time alone changes what an org may use.
    #[must_use]
    pub fn next_change_after(&self, at: Timestamp) -> Timestamp {
        let changes = [self.org.policies.next_change_after(at), grant::next_change_after(&self.org.grants, at)];
        changes.into_iter().flatten().fold(self.period(at).ends_at(), Timestamp::min)
    }
}

/// The last instant of a period.
#[must_use]
pub const fn last_instant(period: Period) -> Timestamp {
    period.ends_at().plus_micros(-1)
}

/// What an org has of its running period, at the instant of a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Credits used in the period; below 0 when corrections outweigh usage.
    pub used: CreditSum,
    /// The base allocation; `None` without a limit, and then nothing is uncovered or taken from grants.
    pub base: Option<CreditSum>,
    /// What of it is left; above it when corrections outweigh usage.
    pub base_left: CreditSum,
    /// Usage of the period that neither base nor grants cover: the overage.
    pub uncovered: CreditSum,
    /// Credits that usage of the period took from grants.
    pub grants_used: CreditSum,
    /// Credits that grants hold and that can be used now.
    pub grants_left: CreditSum,
}

impl Balance {
    /// used - uncovered + what can still be used now; `None` without a limit.
    #[must_use]
    pub fn allowance(&self) -> Option<CreditSum> {
        self.base.map(|_| self.used - self.uncovered + self.base_left + self.grants_left)
    }

    /// max(0, used - base); 0 without a limit.
    #[must_use]
    pub fn beyond_base(&self) -> CreditSum {
        self.base.map_or(CreditSum::ZERO, |base| (self.used - base).max(CreditSum::ZERO))
    }
}

/// A walk up to an instant, which usage and time move on.
#[derive(Clone, Debug)]
pub struct Walk {
    at: Timestamp,
    until: Timestamp,
    /// The period of `at`, and its base.
    running: (Period, Option<CreditSum>),
    /// Those that matter from where it stands, in spending order.
    grants: Vec<Grant>,
    /// Those that ended before: to tell whether what is known of them changes.
    ended: Vec<Grant>,
    /// The segment that holds `apart`, with its hours before `apart`.
    stand: Stand,
    /// From here on hours are kept apart, so that a grant that starts can still cut them.
    apart: Hour,
    /// Those hours, ascending; also such as lie after the running segment or period.
    hours: Vec<(Hour, CreditSum)>,
}

impl Walk {
    /// Walks at `at` over the hours that `read` gives, ascending, from the hour that it is given.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn load<E>(
        terms: Terms<'_>,
        at: Timestamp,
        read: impl FnOnce(Hour, &mut dyn FnMut(Hour, CreditSum)) -> Result<(), E>,
    ) -> Result<Self, E> {
        let running = terms.period(at);
        let (stand, grants, ended) = begin(terms, at);
        let mut walk = Self {
            at,
            until: terms.next_change_after(at),
            running: (running, terms.base(running, at)),
            grants,
            ended,
            stand,
            apart: Hour(at.hour().0.saturating_sub(HOURS_BEHIND)),
            hours: Vec::new(),
        };
        // Where the running period has just begun, all of its hours are behind it.
        walk.apart = walk.apart.max(walk.stand.start);
        let periods = |hour: Hour| at_hour(terms, hour, at);
        read(walk.stand.start, &mut |hour, credits| {
            if hour >= walk.apart {
                walk.hours.push((hour, credits));
            } else {
                walk.stand.reach(&walk.grants, hour, &periods, &mut |_| {});
                walk.stand.net += credits;
            }
        })?;
        walk.stand.reach(&walk.grants, walk.apart, &periods, &mut |_| {});
        walk.forget_ended();
        Ok(walk)
    }

    /// Adds what was folded for an hour. `false` when the walk has left that hour's segment: load it again.
    #[must_use]
    pub fn add(&mut self, hour: Hour, credits: CreditSum) -> bool {
        if hour < self.stand.start {
            return false;
        }
        if hour < self.apart {
            self.stand.net += credits;
            return true;
        }
        match self.hours.binary_search_by_key(&hour, |(hour, _)| *hour) {
            Ok(place) => self.hours[place].1 += credits,
            Err(place) => self.hours.insert(place, (hour, credits)),
        }
        if self.hours.len() > HOURS_APART_MAX {
            // Never out of the segment of `at`: its grants can still be used.
            let newest = self.hours[self.hours.len() - 1].0.min(self.until.hour());
            let running = self.running;
            self.settle(Hour(newest.0 - HOURS_BEHIND), &|_| running);
        }
        true
    }

    /// Moves on to a later instant, at which a grant starts or ends or a period turns, or with what new records say of
    /// grants. `false` when what is then in force reaches back behind where the walk stands: load it again, as after
    /// each new policy.
    #[must_use]
    pub fn advance(&mut self, terms: Terms<'_>, now: Timestamp) -> bool {
        let mut grants = grants_at(&terms.org.grants, now);
        let behind = |grant: &&Grant| grant.first_hour() < self.apart;
        let mut known: Vec<&Grant> = self.grants.iter().chain(&self.ended).filter(behind).collect();
        known.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
        let period = terms.period(self.stand.start.start());
        if now < self.at
            || period != self.stand.period
            || terms.base(period, now) != self.stand.base
            || !grants.iter().filter(behind).eq(known)
        {
            return false;
        }
        grants.retain(|grant| grant.end > self.stand.start);
        // Nothing was taken yet of a grant that begins where hours are kept apart.
        let held = |grant: &Grant| {
            let place = self.grants.iter().position(|known| behind(&known) && known.grant_id == grant.grant_id);
            place.map_or(grant.credits, |place| self.stand.left[place])
        };
        self.stand.left = grants.iter().map(held).collect();
        self.stand.end = segment::end_of(self.stand.start, self.stand.period, &grants);
        self.grants = grants;
        self.at = now;
        self.until = terms.next_change_after(now);
        let running = terms.period(now);
        self.running = (running, terms.base(running, now));
        self.settle(Hour(now.hour().0.saturating_sub(HOURS_BEHIND)), &|hour| at_hour(terms, hour, now));
        true
    }

    /// The instant from which on the walk must be moved on before it is asked: what it tells holds until then, unless
    /// terms come.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// The running period.
    #[must_use]
    pub const fn period(&self) -> Period {
        self.running.0
    }

    /// What the org has; of a period that is over, at its last instant, where the walk was loaded for that.
    #[must_use]
    pub fn balance(&self) -> Balance {
        self.balance_of(&self.settled())
    }

    /// What each grant that can be used now still holds, in spending order.
    pub fn grants_left(&self) -> impl Iterator<Item = (&Grant, CreditSum)> {
        let stand = self.settled();
        let now = self.at.hour();
        self.grants.iter().zip(stand.left).filter(move |(grant, _)| grant.covers(now))
    }

    /// The state after all hours of the running period.
    fn settled(&self) -> Stand {
        let mut stand = self.stand.clone();
        let (period, _) = self.running;
        for &(hour, credits) in self.hours.iter().take_while(|(hour, _)| *hour < period.end) {
            stand.reach(&self.grants, hour, &|_| self.running, &mut |_| {});
            stand.net += credits;
        }
        stand.reach(&self.grants, self.at.hour(), &|_| self.running, &mut |_| {});
        stand.close(&self.grants);
        stand
    }

    fn balance_of(&self, stand: &Stand) -> Balance {
        balance(stand, &self.grants, self.at)
    }

    /// Takes the hours before `apart` out of those kept apart.
    fn settle(&mut self, apart: Hour, periods: &dyn Fn(Hour) -> (Period, Option<CreditSum>)) {
        self.apart = self.apart.max(apart);
        let count = self.hours.partition_point(|(hour, _)| *hour < self.apart);
        for (hour, credits) in self.hours.drain(..count) {
            self.stand.reach(&self.grants, hour, periods, &mut |_| {});
            self.stand.net += credits;
        }
        self.stand.reach(&self.grants, self.apart, periods, &mut |_| {});
        self.forget_ended();
    }

    fn forget_ended(&mut self) {
        let start = self.stand.start;
        let mut ends = self.grants.iter().map(|grant| grant.end);
        self.stand.left.retain(|_| ends.next().is_some_and(|end| end > start));
        self.ended.extend(self.grants.extract_if(.., |grant| grant.end <= start));
    }
}

/// What an org has at `at`, and every segment of that period up to its last hour with usage, from all of the org's
/// hours, ascending.
#[must_use]
pub fn segments(terms: Terms<'_>, at: Timestamp, hours: &[(Hour, CreditSum)]) -> (Balance, Vec<Segment>) {
    let (mut stand, grants, _) = begin(terms, at);
    let running = terms.period(at);
    let mut found = Vec::new();
    let mut each = |segment: Segment| {
        if segment.start >= running.start {
            found.push(segment);
        }
    };
    let periods = |hour: Hour| at_hour(terms, hour, at);
    let first = hours.partition_point(|(hour, _)| *hour < stand.start);
    for &(hour, credits) in hours[first..].iter().take_while(|(hour, _)| *hour < running.end) {
        stand.reach(&grants, hour, &periods, &mut each);
        stand.net += credits;
    }
    stand.reach(&grants, at.hour(), &periods, &mut each);
    each(stand.close(&grants));
    (balance(&stand, &grants, at), found)
}

fn balance(stand: &Stand, grants: &[Grant], at: Timestamp) -> Balance {
    let usable = grants.iter().zip(&stand.left).filter(|(grant, _)| grant.covers(at.hour()));
    Balance {
        used: stand.used,
        base: stand.base,
        base_left: stand.base_left,
        uncovered: stand.uncovered,
        grants_used: stand.grants_used,
        grants_left: usable.fold(CreditSum::ZERO, |sum, (_, left)| sum + *left),
    }
}

/// Where a walk at `at` begins, the grants that matter from there, and those that ended before: the period of the first grant's start. Grants
/// that ended before any grant of the running period began have no part in it, so it begins as late as it can.
fn begin(terms: Terms<'_>, at: Timestamp) -> (Stand, Vec<Grant>, Vec<Grant>) {
    let mut grants = grants_at(&terms.org.grants, at);
    let mut period = terms.period(at);
    while let Some(first) = grants.iter().filter(|grant| grant.end > period.start).map(Grant::first_hour).min()
        && first < period.start
    {
        period = terms.period(first.start());
    }
    let ended = grants.extract_if(.., |grant| grant.end <= period.start).collect();
    (Stand::new(period, terms.base(period, at), &grants), grants, ended)
}

fn at_hour(terms: Terms<'_>, hour: Hour, now: Timestamp) -> (Period, Option<CreditSum>) {
    let period = terms.period(hour.start());
    (period, terms.base(period, now))
}
