//! The orgs of a task: what each has used in its running period, the level last published for it, and the timers
//! that tell when time alone changes a decision.
//!
//! Nothing here is folded into rows: all of it follows from (rows, terms, now, published levels) and is built anew
//! when a task starts to speak. Budgets stand beside an org's own limit: `orgs::budgets` and `orgs::review` know them,
//! `orgs::turns` queues their scopes.

use std::collections::{BTreeSet, HashMap};

use crate::domain::credits::CreditSum;
use crate::domain::cube::fold::OrgDelta;
use crate::domain::id::OrgId;
use crate::domain::limits::alert::{Alert, alert_of};
use crate::domain::limits::decide::{self, Limit};
use crate::domain::limits::decision::{Action, Cause, Level, LimitDecision};
use crate::domain::limits::forecast::{Outlook, stays_cleared};
use crate::domain::limits::inputs::Granted;
use crate::domain::limits::inputs::Inputs;
use crate::domain::limits::purchase::{PurchaseRequested, is_pending};
use crate::domain::limits::scope::Scope;
use crate::domain::limits::walk::{self, Walk};
use crate::domain::terms::book::TermsBook;
use crate::domain::terms::in_force::in_force;
use crate::domain::terms::period::{Period, period_at};
use crate::domain::terms::purchase_id::purchase_id;
use crate::domain::terms::records::DefaultTerms;
use crate::domain::time::{Hour, Timestamp};
use budgets::Budgets;
use guard::Watch;
pub use hours::OrgHours;
use recent::Recent;
use turns::Turns;
pub use turns::{Ending, Touched};

mod budgets;
mod guard;
mod hours;
mod recent;
mod review;
mod scopes;
mod turns;

/// Orgs read again after one flush: it bounds how long all others wait (Law 6).
const RELOADS_PER_FLUSH_MAX: usize = 2_000;

/// What the gateways know of a scope.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its level.
    pub level: Level,
    /// Its version.
    pub version: i64,
    /// Whether usage caused its block, and not terms or time: what is beyond the limit then is overshoot.
    by_usage: bool,
}

impl Published {
    /// A decision as the gateways know it, after what they knew before.
    pub(super) fn of(decision: &LimitDecision, before: Option<&Self>) -> Self {
        let level = &decision.level;
        let limit = |level: &Level| (level.action, level.allowance, level.extra);
        let still = before.is_some_and(|before| before.by_usage && limit(&before.level) == limit(level));
        let by_usage = level.action == Action::Block && (decision.cause.record.is_some() || still);
        Self { level: level.clone(), version: decision.version, by_usage }
    }
}

/// In which queue an org waits to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queued {
    No,
    /// Time or terms may have changed it.
    Later,
    /// A batch did; it may stand in the other queue, too.
    Caused,
}

/// One org.
#[derive(Debug)]
pub struct OrgState {
    org: OrgId,
    period: Period,
    used: CreditSum,
    /// The most that was used since usage blocked it: what lies beyond the limit is overshoot.
    peak: CreditSum,
    recent: Recent,
    published: Option<Published>,
    timer: Option<Timestamp>,
    queued: Queued,
    /// The last record since it was last decided that asks for a decision.
    cause: Cause,
    /// What usage has taken of its grants; `None` without grants.
    walk: Option<Box<Walk>>,
    /// Whether it waits for a flush, to be read again.
    stale: bool,
    /// Whether the allowance would have lasted at some time since the last forecast alert.
    forecast_cleared: bool,
    /// `None` without a guard.
    watch: Option<Box<Watch>>,
    budgets: Option<Box<Budgets>>,
    budget_timer: Option<Timestamp>,
}

/// A change to be published: the decision of an org or of a budget's scope, and the alert that goes with it.
#[derive(Debug)]
pub struct Change {
    /// Which org, for [`Orgs::published`].
    pub place: u32,
    /// The decision.
    pub decision: LimitDecision,
    /// The alert that goes out in the same transaction (Law 4).
    pub alert: Option<Alert>,
    /// The purchase that is asked for in the same transaction.
    pub purchase: Option<PurchaseRequested>,
    /// Credits folded beyond the limit while it was blocked, when a block caused by usage ends.
    pub overshoot: Option<CreditSum>,
    /// Whether a forecast alert waits behind this change: the scope is to be decided again.
    pub again: bool,
}

/// What decisions depend on besides rows.
#[derive(Clone, Copy, Debug)]
pub struct Law<'a> {
    /// The terms of the partition's orgs.
    pub terms: &'a TermsBook,
    /// The terms of orgs without a policy.
    pub default: &'a DefaultTerms,
    /// The instant of the decision.
    pub now: Timestamp,
}

/// All orgs of a task.
#[derive(Debug, Default)]
pub struct Orgs {
    /// How many microseconds the guard looks ahead.
    guard: Option<i64>,
    states: Vec<OrgState>,
    by_name: HashMap<OrgId, u32>,
    timers: BTreeSet<(Timestamp, u32)>,
    /// Orgs that batches changed: they are decided with the position of the records that did (Law 3).
    caused: Vec<u32>,
    /// Orgs that time or terms may have changed.
    queue: Vec<u32>,
    stale: Vec<u32>,
    turns: Turns,
}

impl Orgs {
    /// The org's place; a new one is loaded from the store, which must hold all that was folded for it so far but
    /// the batch that names it first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find<H: OrgHours>(&mut self, org: &str, hours: &H, law: Law<'_>) -> Result<u32, H::Error> {
        if let Some(&place) = self.by_name.get(org) {
            return Ok(place);
        }
        let id = OrgId::new(org).expect("decoded and stored orgs have legal ids");
        let mut state = OrgState {
            org: id.clone(),
            period: Period { start: Hour(0), end: Hour(0) },
            used: CreditSum::ZERO,
            peak: CreditSum::ZERO,
            recent: Recent::default(),
            published: None,
            timer: None,
            queued: Queued::No,
            cause: Cause::default(),
            walk: None,
            stale: false,
            forecast_cleared: false,
            watch: self.guard.map(|_| Box::default()),
            budgets: None,
            budget_timer: None,
        };
        load(&mut state, hours, law)?;
        let place = u32::try_from(self.states.len()).expect("a partition has far below 2^32 orgs");
        self.states.push(state);
        self.by_name.insert(id, place);
        self.sync(place, Some(hours), law)?;
        Ok(place)
    }

    /// Counts what a batch added to an org's running period.
    pub fn add(&mut self, place: u32, delta: &OrgDelta<'_>) {
        let state = &mut self.states[place as usize];
        if state.period.contains(delta.hour.start()) {
            state.used += delta.credits;
            state.peak = state.peak.max(state.used);
        }
        state.recent.add(delta.hour, delta.credits.micros());
        if state.walk.as_mut().is_some_and(|walk| !walk.add(delta.hour, delta.credits)) {
            self.wait_for_flush(place);
        }
    }

    /// Lets an org be read again after the next flush; it is decided then.
    fn wait_for_flush(&mut self, place: u32) {
        if !std::mem::replace(&mut self.states[place as usize].stale, true) {
            self.stale.push(place);
        }
    }

    /// Puts an org in the queue of those that need not be decided at once.
    pub fn enqueue(&mut self, place: u32) {
        let queued = &mut self.states[place as usize].queued;
        if *queued == Queued::No {
            *queued = Queued::Later;
            self.queue.push(place);
        }
    }

    /// Queues an org to be decided with the position of the record that asks for it (Law 3).
    pub fn enqueue_caused(&mut self, place: u32, cause: Cause) {
        let state = &mut self.states[place as usize];
        state.cause = cause;
        if std::mem::replace(&mut state.queued, Queued::Caused) != Queued::Caused {
            self.caused.push(place);
        }
    }

    /// Whether a record has asked for a decision that is not made yet: a later one is its cause then.
    #[must_use]
    pub fn has_cause(&self, place: u32) -> bool {
        self.states[place as usize].cause.record.is_some()
    }

    /// Whether an org would be decided otherwise now than it was published: the cheap test of the hot path.
    #[must_use]
    pub fn changes(&mut self, place: u32, law: Law<'_>) -> bool {
        let state = &mut self.states[place as usize];
        if !state.is_ready(law.now) {
            return true;
        }
        let judged = decide_for(state, self.guard, law);
        state.forecast_cleared |= judged.outlook == Outlook::Lasts;
        state.published.as_ref().is_none_or(|published| judged.level != published.level)
    }

    /// Queues every org whose timer is due at `now`.
    pub fn ring(&mut self, now: Timestamp) {
        self.ring_budgets(now);
        while let Some(&(due, place)) = self.timers.first() {
            if due > now {
                return;
            }
            self.timers.pop_first();
            self.states[place as usize].timer = None;
            self.enqueue(place);
        }
    }

    /// When the next timer is due.
    #[must_use]
    pub fn next_timer(&self) -> Option<Timestamp> {
        let own = self.timers.first().map(|&(due, _)| due);
        own.into_iter().chain(self.next_budget_timer()).min()
    }

    /// Queues an org whose terms changed: its period may be another one, so it is read again.
    pub fn terms_changed(&mut self, place: u32) {
        self.wait_for_flush(place);
    }

    /// Whether orgs wait for a flush, after which their period's sum is read from the store.
    #[must_use]
    pub const fn wants_flush(&self) -> bool {
        !self.stale.is_empty() || !self.turns.stale.is_empty()
    }

    /// Reads the sums of waiting orgs again, of so many that no other waits long (Law 6); only right after a flush, when the
    /// store holds all that was folded.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn reload<H: OrgHours>(&mut self, hours: &H, law: Law<'_>) -> Result<(), H::Error> {
        let first =
            |stale: &mut Vec<u32>| -> Vec<u32> { stale.drain(..stale.len().min(RELOADS_PER_FLUSH_MAX)).collect() };
        let mut stale = first(&mut self.stale);
        for &place in &stale {
            let state = &mut self.states[place as usize];
            load(state, hours, law)?;
            if state.cause.record.is_some() {
                self.enqueue_caused(place, self.states[place as usize].cause.clone());
            } else {
                self.enqueue(place);
            }
        }
        stale.append(&mut first(&mut self.turns.stale));
        stale.sort_unstable();
        stale.dedup();
        for place in stale {
            self.sync(place, Some(hours), law)?;
        }
        Ok(())
    }

    /// Decides the orgs that batches changed, and at most `count_max` of those that time or terms did; gives those whose
    /// level differs from the published one. An org whose period is over waits for the next flush first.
    pub fn decide(&mut self, count_max: usize, law: Law<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        let rest = self.queue.len().saturating_sub(count_max);
        let (caused, queued) = (std::mem::take(&mut self.caused), self.queue.split_off(rest));
        for place in caused.into_iter().chain(queued) {
            let state = &mut self.states[place as usize];
            // No org is decided twice: what is proposed is not yet what was published.
            if std::mem::replace(&mut state.queued, Queued::No) == Queued::No {
                continue;
            }
            state.advance(law);
            if !state.is_ready(law.now) {
                self.wait_for_flush(place);
                continue;
            }
            let cause = std::mem::take(&mut state.cause);
            let judged = decide_for(state, self.guard, law);
            let previous = state.published.as_ref();
            set_timer(
                &mut self.timers,
                state.timer.replace(judged.level.valid_until),
                judged.level.valid_until,
                place,
            );
            if previous.is_some_and(|published| published.level == judged.level) {
                continue;
            }
            let overshoot = previous.and_then(|previous| overshoot(previous, &judged.level, state.peak));
            let decision = LimitDecision {
                scope: Scope::org(state.org.as_str()),
                version: decide::next_version(previous.map(|previous| previous.version), law.now),
                decided_at: law.now,
                cause: Cause { policy_offset: judged.policy_offset, ..cause },
                level: judged.level,
                figures: judged.figures,
            };
            let alert = alert_of(previous.map(|previous| &previous.level), &decision);
            let purchase = judged.purchase.map(|asked| PurchaseRequested {
                purchase_id: purchase_id(state.org.as_str(), decision.level.period_start, asked.ordinal),
                org_id: state.org.as_str().to_owned(),
                period_start: decision.level.period_start,
                ordinal: asked.ordinal,
                credits: asked.credits,
                requested_at: law.now,
            });
            let again = judged.outlook == Outlook::Depletes && decision.level.forecast_alerted_on.is_none();
            changes.push(Change { place, decision, alert, purchase, overshoot, again });
        }
        changes
    }

    /// Whether orgs wait to be decided.
    #[must_use]
    pub const fn has_queue(&self) -> bool {
        !(self.caused.is_empty() && self.queue.is_empty()) || self.has_turns()
    }

    /// Takes a decision as published; only after its transaction is known to be committed (Law 3). Gives the number
    /// of a budget's scope.
    pub fn published(&mut self, place: u32, decision: &LimitDecision) -> Option<u32> {
        if decision.scope.budget.is_some() {
            return self.published_scope(place, decision);
        }
        let state = &mut self.states[place as usize];
        let blocked = |published: &Published| published.level.action == Action::Block;
        if decision.level.action == Action::Block && !state.published.as_ref().is_some_and(blocked) {
            state.peak = state.used;
        }
        let previous = state.published.as_ref().map(|published| &published.level);
        state.forecast_cleared = stays_cleared(state.forecast_cleared, previous, &decision.level);
        if let Some(watch) = &mut state.watch {
            watch.published();
        }
        state.published = Some(Published::of(decision, state.published.as_ref()));
        None
    }

    /// Every org's used credits and allowance, for the gauges of the top orgs.
    pub fn gauges(&self) -> impl Iterator<Item = (&str, CreditSum, Option<CreditSum>)> {
        self.states.iter().map(|state| {
            let allowance = state.published.as_ref().and_then(|published| published.level.allowance);
            (state.org.as_str(), state.used, allowance)
        })
    }

    /// How many orgs wait for the answer to a purchase request.
    #[must_use]
    pub fn pending_purchases(&self, terms: &TermsBook, now: Timestamp) -> usize {
        let pending = |state: &&OrgState| {
            let org = state.org.as_str();
            let published = state.published.as_ref();
            published.is_some_and(|published| is_pending(terms.org(org), org, &published.level, now))
        };
        self.states.iter().filter(pending).count()
    }

    /// How many orgs are judged without a policy, and how many scopes are blocked.
    #[must_use]
    pub fn counts(&self, terms: &TermsBook) -> (usize, usize) {
        let blocked = |state: &&OrgState| {
            state.published.as_ref().is_some_and(|published| published.level.action == Action::Block)
        };
        let without = |state: &&OrgState| terms.policies(state.org.as_str()).is_none();
        (
            self.states.iter().filter(without).count(),
            self.states.iter().filter(blocked).count() + self.blocked_scopes(),
        )
    }
}

impl OrgState {
    /// Whether what it holds tells of `now`.
    fn is_ready(&self, now: Timestamp) -> bool {
        !self.stale && self.period.contains(now) && self.walk.as_ref().is_none_or(|walk| now < walk.until())
    }

    /// Moves what it holds on to `law.now` where no hours need to be read for that.
    fn advance(&mut self, law: Law<'_>) {
        let Some(walk) = self.walk.as_mut().filter(|walk| walk.until() <= law.now) else { return };
        if let Some(org) = law.terms.org(self.org.as_str()) {
            // Where that fails it still tells of before, and the org waits to be read again.
            let _ = walk.advance(walk::Terms { org, default: law.default }, law.now);
        }
    }
}

fn load<H: OrgHours>(state: &mut OrgState, hours: &H, law: Law<'_>) -> Result<(), H::Error> {
    let terms = law.terms.org(state.org.as_str());
    state.stale = false;
    let period = period_at(terms.map(|terms| &terms.policies), law.default, law.now);
    if let Some(watch) = &mut state.watch {
        watch.reload(hours.rate(state.org.as_str())?, period == state.period);
    }
    state.period = period;
    state.used = CreditSum::ZERO;
    state.recent = Recent::at(law.now.hour());
    let from = state.period.start.min(Hour(law.now.hour().0 - 1));
    let OrgState { org, period, used, recent, .. } = state;
    hours.hours(org.as_str(), from, &mut |hour, credits| {
        if period.contains(hour.start()) {
            *used += credits;
        }
        recent.add(hour, credits.micros());
    })?;
    state.walk = match terms.filter(|terms| !terms.grants.is_empty()) {
        Some(org) => {
            let read = |from, each: &mut dyn FnMut(Hour, CreditSum)| hours.hours(state.org.as_str(), from, each);
            Some(Box::new(Walk::load(walk::Terms { org, default: law.default }, law.now, read)?))
        }
        None => None,
    };
    Ok(())
}

fn granted(state: &OrgState) -> Option<Granted> {
    let walk = state.walk.as_ref()?;
    Some(Granted { allowance: walk.balance().allowance().unwrap_or_default(), until: walk.until() })
}

fn limit_of(state: &OrgState, law: Law<'_>) -> Option<Limit> {
    let policies = law.terms.policies(state.org.as_str());
    let limit = decide::limit_of(in_force(policies, law.default, law.now))?;
    Some(limit.with(granted(state)))
}

fn decide_for(state: &OrgState, guard: Option<i64>, law: Law<'_>) -> decide::Judgement {
    let ahead = state.watch.as_ref().zip(guard).map(|(watch, latency)| watch.ahead(latency, law.now));
    decide::judge(&Inputs {
        org: state.org.as_str(),
        terms: law.terms.org(state.org.as_str()),
        granted: granted(state),
        default: law.default,
        period: state.period,
        used: state.used,
        micros_per_second: state.recent.per_second(law.now),
        previous: state.published.as_ref().map(|published| &published.level),
        forecast_cleared: state.forecast_cleared,
        ahead,
        now: law.now,
    })
}

fn set_timer(timers: &mut BTreeSet<(Timestamp, u32)>, old: Option<Timestamp>, due: Timestamp, place: u32) {
    if let Some(old) = old {
        timers.remove(&(old, place));
    }
    timers.insert((due, place));
}

/// Credits folded beyond the limit when a block that usage caused ends (CONTRACT.md, Meaning: Overshoot).
fn overshoot(before: &Published, now: &Level, peak: CreditSum) -> Option<CreditSum> {
    if !before.by_usage || now.action != Action::Allow {
        return None;
    }
    let limit = before.level.allowance? + before.level.extra?;
    Some(CreditSum((peak - limit).0.max(0)))
}
