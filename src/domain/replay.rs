//! What an org's terms would have said, instant by instant: its usage as it became known, judged again whenever usage or
//! time could change the answer. It judges by `decide::judge` alone, so that it is never another truth than what was
//! published; it never reads a row or a clock. `explain` asks since when a scope is blocked, `simulate` what other terms
//! would have done.

use std::collections::BTreeMap;

use super::credits::CreditSum;
use super::decide::{Facts, Judgement, judge};
use super::period::{Period, period_at};
use super::terms::DefaultTerms;
use super::terms_book::OrgTerms;
use super::time::{Hour, Timestamp};

/// What an org's decisions follow from besides usage.
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
}

/// Usage as it became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it was known: steps come in the order of these instants.
    pub known_at: Timestamp,
    /// The hour to which it counts.
    pub hour: Hour,
    /// How much; below 0 for a correction.
    pub credits: CreditSum,
}

impl Step {
    /// All of an hour's usage, known at its last instant: what rows can tell.
    #[must_use]
    pub const fn whole_hour(hour: Hour, credits: CreditSum) -> Self {
        Self { known_at: Hour(hour.0.saturating_add(1)).start().plus_micros(-1), hour, credits }
    }
}

/// An instant at which the answer became another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When.
    pub at: Timestamp,
    /// The hour of the usage that turned it; `None` when time or terms did.
    pub by_usage_of: Option<Hour>,
    /// What holds from then on.
    pub judged: Judgement,
}

/// A replay up to an instant.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    terms: Terms<'a>,
    hours: BTreeMap<Hour, CreditSum>,
    period: Period,
    used: CreditSum,
    turn: Turn,
    since: (Timestamp, Option<Hour>),
}

impl<'a> Replay<'a> {
    /// Begins at `at`, before any usage.
    #[must_use]
    pub fn new(terms: Terms<'a>, at: Timestamp) -> Self {
        let period = terms.period(at);
        let judged = judged(terms, period, CreditSum::ZERO, at);
        let turn = Turn { at, by_usage_of: None, judged };
        Self { terms, hours: BTreeMap::new(), period, used: CreditSum::ZERO, turn, since: (at, None) }
    }

    /// What holds since when.
    #[must_use]
    pub const fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Since when action and reason are what they are, and the hour of the usage that made them so.
    #[must_use]
    pub const fn since(&self) -> (Timestamp, Option<Hour>) {
        self.since
    }

    /// The running period.
    #[must_use]
    pub const fn period(&self) -> Period {
        self.period
    }

    /// Lets time go on to `until`, and tells each turn on the way.
    pub fn pass(&mut self, until: Timestamp, each: &mut dyn FnMut(&Turn)) {
        while self.turn.judged.level.valid_until <= until {
            let at = self.turn.judged.level.valid_until;
            if !self.period.contains(at) {
                self.period = self.terms.period(at);
                let hours = self.hours.range(self.period.start..self.period.end);
                self.used = hours.fold(CreditSum::ZERO, |sum, (_, credits)| sum + *credits);
            }
            self.judge(at, None, each);
        }
    }

    /// Takes usage, which is not known before what was taken already.
    pub fn add(&mut self, step: Step, each: &mut dyn FnMut(&Turn)) {
        self.pass(step.known_at, each);
        *self.hours.entry(step.hour).or_default() += step.credits;
        if self.period.contains(step.hour.start()) {
            self.used += step.credits;
            self.judge(step.known_at, Some(step.hour), each);
        }
    }

    fn judge(&mut self, at: Timestamp, by_usage_of: Option<Hour>, each: &mut dyn FnMut(&Turn)) {
        let judged = judged(self.terms, self.period, self.used, at);
        let (was, is) = (&self.turn.judged.level, &judged.level);
        let turned = (was.action, was.reason, was.level, was.allowance, was.extra, was.period_start)
            != (is.action, is.reason, is.level, is.allowance, is.extra, is.period_start);
        if (was.action, was.reason) != (is.action, is.reason) {
            self.since = (at, by_usage_of);
        }
        if turned {
            self.turn = Turn { at, by_usage_of, judged };
            each(&self.turn);
        } else {
            self.turn.judged = judged;
        }
    }
}

fn judged(terms: Terms<'_>, period: Period, used: CreditSum, now: Timestamp) -> Judgement {
    judge(&Facts {
        policies: Some(&terms.org.policies),
        default: terms.default,
        period,
        used,
        micros_per_second: 0,
        previous: None,
        now,
    })
}
