//! What an org's terms would have said, instant by instant: its usage as it became known, judged again whenever usage or
//! time could change the answer. It judges by `decide::judge` alone, so that it is never another truth than what was
//! published; it never reads a row or a clock. `explain` asks since when a scope is blocked, `simulate` what other terms
//! would have done.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;

use crate::domain::credits::{CreditSum, Credits, RECORD_CREDITS_MAX};
use crate::domain::limits::decide::{Judgement, judge};
use crate::domain::limits::decision::{Action, Level};
use crate::domain::limits::inputs::Granted;
use crate::domain::limits::inputs::Inputs;
use crate::domain::limits::purchase::Asked;
use crate::domain::limits::walk::{Balance, Terms, Walk};
use crate::domain::terms::book::{History, OrgTerms};
use crate::domain::terms::in_force::InForce;
use crate::domain::terms::in_force::in_force;
use crate::domain::terms::period::Period;
use crate::domain::terms::purchase_id::purchase_id;
use crate::domain::terms::records::{CreditGrant, DefaultTerms, OrgPolicy, TermsRecord};
use crate::domain::time::{Hour, Timestamp};

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
    org_id: &'a str,
    org: Cow<'a, OrgTerms>,
    default: &'a DefaultTerms,
    packs_come: bool,
    hours: BTreeMap<Hour, CreditSum>,
    walk: Walk,
    first_hour: Hour,
    /// The first hour that the walk asked for: what comes late to an earlier one changes nothing that it tells.
    walked_from: Hour,
    at: Timestamp,
    turn: Turn,
    since: (Timestamp, Option<Hour>),
    /// Whether hours came that the walk has not been over.
    is_behind: bool,
}

impl<'a> Replay<'a> {
    /// Begins at `at`, before any usage. Requests for packs are answered by the terms alone.
    #[must_use]
    pub fn new(org_id: &'a str, terms: Terms<'a>, at: Timestamp) -> Self {
        let hours = BTreeMap::new();
        let (walk, walked_from) = load(terms, at, &hours);
        // A later record may give a grant that is over another end: then what it paid in between counts.
        let grants = terms.org.grants.values().filter_map(History::first);
        let of_grants = grants.map(|grant| terms.period(grant.effective_at).start).min();
        let first_hour = of_grants.map_or(walked_from, |first| first.min(walked_from));
        let turn = Turn { at, by_usage_of: None, judged: judged(org_id, terms, &walk, None, at) };
        let (org, default) = (Cow::Borrowed(terms.org), terms.default);
        let (packs_come, since, is_behind) = (false, (at, None), false);
        Self { org_id, org, default, packs_come, hours, walk, first_hour, walked_from, at, turn, since, is_behind }
    }

    /// The same where each pack that is asked for comes at once, and never expires.
    #[must_use]
    pub const fn with_packs(mut self) -> Self {
        self.packs_come = true;
        self
    }

    /// The first hour whose usage may count: that of the running period, or of the period in which the first grant starts.
    #[must_use]
    pub const fn first_hour(&self) -> Hour {
        self.first_hour
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
        self.walk.period()
    }

    /// What the org has of its running period.
    #[must_use]
    pub fn balance(&self) -> Balance {
        self.walk.balance()
    }

    /// The next instant at which time alone may change what holds.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.turn.judged.level.valid_until.min(self.walk.until())
    }

    /// Lets time go on to `until`, and tells each turn on the way.
    pub fn pass(&mut self, until: Timestamp, each: &mut dyn FnMut(&Turn)) {
        if self.is_behind && self.at <= until {
            self.load(self.at);
            self.judge(self.at, None, each);
        }
        while self.until() <= until {
            let at = self.until();
            let terms = Terms { org: &self.org, default: self.default };
            if !self.walk.advance(terms, at) {
                self.load(at);
            }
            self.judge(at, None, each);
        }
    }

    /// Takes usage. What was known before the instant that was reached counts from there on, and is looked at, all of
    /// it together, when what is known goes on or time passes: before it, an org has years of hours.
    pub fn add(&mut self, step: Step, each: &mut dyn FnMut(&Turn)) {
        self.pass(step.known_at, each);
        *self.hours.entry(step.hour).or_default() += step.credits;
        if step.known_at < self.at {
            self.is_behind = true;
            return;
        }
        if step.hour >= self.walked_from && !self.walk.add(step.hour, step.credits) {
            self.load(step.known_at);
        }
        self.judge(step.known_at, Some(step.hour), each);
    }

    /// Takes usage that was known after all that is asked for: it counts to its period, and turns nothing any more.
    pub fn add_in_hindsight(&mut self, hour: Hour, credits: CreditSum) {
        *self.hours.entry(hour).or_default() += credits;
    }

    /// What the usage that is known by now makes of an earlier instant. At a period's last one these are the sums of
    /// the closed period, with what came late.
    #[must_use]
    pub fn in_hindsight(&self, at: Timestamp) -> Judgement {
        let terms = Terms { org: &self.org, default: self.default };
        judged(self.org_id, terms, &load(terms, at, &self.hours).0, None, at)
    }

    /// The greatest base allocation, from its own on, with which the org is blocked where this stands; `None` when no
    /// policy binds it, or none that may be written would do. No sum tells it: a greater base also pays in the past of
    /// the period, and what grants are spared that have ended since is gone.
    #[must_use]
    pub fn greatest_blocked_base(&self) -> Option<CreditSum> {
        let InForce::Policy(_, policy) = in_force(Some(&self.org.policies), self.default, self.at) else {
            return None;
        };
        let mut org = OrgTerms::clone(&self.org);
        let mut is_blocked = |base: i64| {
            let base_allocation = Credits::from_micros(base).unwrap_or(policy.base_allocation);
            let policy = OrgPolicy { base_allocation, effective_at: self.at, ..policy.clone() };
            org.policies.insert(i64::MAX, policy);
            let terms = Terms { org: &org, default: self.default };
            let (walk, _) = load(terms, self.at, &self.hours);
            judged(self.org_id, terms, &walk, None, self.at).level.action == Action::Block
        };
        // The more base, the less is uncovered: so halving finds it.
        let mut blocked = policy.base_allocation.micros();
        let mut allowed = RECORD_CREDITS_MAX;
        if is_blocked(allowed) {
            return None;
        }
        while allowed - blocked > 1 {
            let base = i64::midpoint(blocked, allowed);
            if is_blocked(base) {
                blocked = base;
            } else {
                allowed = base;
            }
        }
        Some(CreditSum::from(Credits::from_micros(blocked)?))
    }

    fn load(&mut self, at: Timestamp) {
        let terms = Terms { org: &self.org, default: self.default };
        (self.walk, self.walked_from) = load(terms, at, &self.hours);
        self.is_behind = false;
    }

    fn judge(&mut self, at: Timestamp, by_usage_of: Option<Hour>, each: &mut dyn FnMut(&Turn)) {
        self.at = at;
        let mut judged = self.judged(&self.turn.judged.level, at);
        while let Some(asked) = judged.purchase.filter(|_| self.packs_come) {
            self.grant(asked, judged.level.period_start, at);
            judged = self.judged(&judged.level, at);
        }
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

    fn judged(&self, previous: &Level, at: Timestamp) -> Judgement {
        let terms = Terms { org: &self.org, default: self.default };
        judged(self.org_id, terms, &self.walk, Some(previous), at)
    }

    /// The pack that was asked for comes.
    fn grant(&mut self, asked: Asked, period_start: Timestamp, at: Timestamp) {
        let pack = CreditGrant {
            org_id: self.org_id.to_owned(),
            grant_id: purchase_id(self.org_id, period_start, asked.ordinal),
            credits: asked.credits,
            kind: "purchase".to_owned(),
            price: None,
            currency: None,
            effective_at: at,
            expires_at: None,
            voided_at: None,
            priority: 0,
            updated_by: "simulate".to_owned(),
        };
        self.org.to_mut().insert(i64::MAX, TermsRecord::CreditGrant(pack));
        self.load(at);
    }
}

/// A walk over those hours, and the first hour that it asks for.
fn load(terms: Terms<'_>, at: Timestamp, hours: &BTreeMap<Hour, CreditSum>) -> (Walk, Hour) {
    let mut first_hour = at.hour();
    let read = |from, each: &mut dyn FnMut(Hour, CreditSum)| {
        first_hour = from;
        hours.range(from..).for_each(|(hour, credits)| each(*hour, *credits));
        Ok::<(), Infallible>(())
    };
    let Ok(walk) = Walk::load(terms, at, read);
    (walk, first_hour)
}

/// The decider's own judgement. The forecast is left out: it follows from the rate of an instant.
fn judged(org_id: &str, terms: Terms<'_>, walk: &Walk, previous: Option<&Level>, now: Timestamp) -> Judgement {
    let balance = walk.balance();
    judge(&Inputs {
        org: org_id,
        terms: Some(terms.org),
        granted: Some(Granted { allowance: balance.allowance().unwrap_or_default(), until: walk.until() }),
        default: terms.default,
        period: walk.period(),
        used: balance.used,
        micros_per_second: 0,
        previous,
        forecast_cleared: false,
        ahead: None,
        now,
    })
}
