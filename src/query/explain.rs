//! `explain`: which scope of an org is blocked or why it is allowed, since when, by which record and terms, from which
//! sums, and what would unblock it. It judges with the decider's own function (`domain::replay`); a decision that was
//! published is told as it was.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::domain::credits::CreditSum;
use crate::domain::decide::{InForce, in_force};
use crate::domain::decision::{Action, DecisionReason, Figures, Level, LimitDecision};
use crate::domain::dimension::Dimension;
use crate::domain::explain::{Remedy, remedies, told};
use crate::domain::period::Period;
use crate::domain::replay::{Replay, Step};
use crate::domain::terms::OrgPolicy;
use crate::domain::time::{Day, Hour, Timestamp};
use crate::domain::walk::Terms;
use crate::store::StoreSnapshot;

use super::bucket::Bucket;
use super::overage::org_hours;
use super::params::{check_names, dimension, instant};
use super::summary::read;
use super::{Query, QueryError, Standing};

/// The most turns of time that are looked at for the instant at which waiting helps.
const TURNS_AHEAD_MAX: usize = 24;

/// What is to be explained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExplainParams {
    /// A value of a dimension: the narrower scope that binds it is told too.
    pub value: Option<(Dimension, String)>,
    /// When; now if absent.
    pub at: Option<Timestamp>,
}

impl ExplainParams {
    /// Reads `dimension` with `value`, and `at`.
    ///
    /// # Errors
    /// On the first parameter that is unknown, repeated, or not what it must be.
    pub fn parse(raw: &[(String, String)]) -> Result<Self, QueryError> {
        check_names(raw, &["dimension", "value", "at"], &[])?;
        let get = |name: &str| raw.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = match (get("dimension"), get("value")) {
            (Some(name), Some(value)) => Some((dimension("dimension", name)?, value.to_owned())),
            (None, None) => None,
            _ => return Err(QueryError::parameter("dimension", "give `dimension` and `value` together")),
        };
        Ok(Self { value, at: get("at").map(|text| instant("at", text)).transpose()? })
    }
}

/// One UTC day of a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedDay {
    /// Which.
    pub day: Day,
    /// Credits of it that count to the period.
    pub credits: CreditSum,
    /// Of each product, by product; empty when no view tells products apart.
    pub products: BTreeMap<Option<String>, CreditSum>,
}

/// Why a scope is blocked or allowed.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Whose.
    pub org_id: String,
    /// The instant that is explained.
    pub at: Timestamp,
    /// What held then: that of the published decision where it still is the last one.
    pub level: Level,
    /// Its numbers at that instant.
    pub figures: Figures,
    /// The published decision that holds, with its scope, version and cause; `None` for an instant before it.
    pub decision: Option<LimitDecision>,
    /// Since when the org has been so in its running period, and the hour of the usage that made it so, where only rows
    /// tell it; `None` for a narrower scope.
    pub since: Option<(Timestamp, Option<Hour>)>,
    /// The policy that binds the org and its offset; `None` offset for that of `limits.default`.
    pub policy: Option<(Option<i64>, OrgPolicy)>,
    /// Credits of the running hour that are not counted, at a past instant: rows do not tell when in it they came.
    pub in_that_hour: Option<CreditSum>,
    /// What held at the end of that hour, where it is something else.
    pub at_end_of_hour: Option<Level>,
    /// The org's usage of the period up to the instant, by day.
    pub days: Vec<ExplainedDay>,
    /// What would unblock it.
    pub remedies: Vec<Remedy>,
    /// Every other scope of the org that is blocked now.
    pub also_blocked: Vec<LimitDecision>,
    /// How fresh the answer is.
    pub standing: Standing,
}

impl Query {
    /// Why an org, or a value inside it, is blocked or allowed.
    ///
    /// # Errors
    /// When the org is not known here, the instant lies ahead, or the store cannot be read.
    pub fn explain(&self, org: &str, params: &ExplainParams) -> Result<Explanation, QueryError> {
        let (reader, moment) = self.open(org)?;
        let snapshot = reader.snapshot();
        moment.known(&snapshot, org)?;
        let at = params.at.unwrap_or(moment.now);
        if at > moment.now {
            return Err(QueryError::parameter("at", "it lies ahead: ask for what has been"));
        }
        let org_terms = snapshot.org_terms(org)?;
        let terms = Terms { org: &org_terms, default: &self.default };
        let decisions = snapshot.decisions(org)?;
        let value = params.value.as_ref().map(|(dimension, value)| (*dimension, value.as_str()));
        let decision = told(&decisions, value).filter(|decision| decision.decided_at <= at).cloned();

        let period = terms.period(at);
        let (replay, in_that_hour) = replayed(&snapshot, org, terms, period, at, params.at.is_some())?;
        let judged = &replay.turn().judged;
        let is_narrower = decision.as_ref().is_some_and(|decision| decision.scope.budget.is_some());
        let (level, figures) = match &decision {
            Some(decision) if is_narrower => (decision.level.clone(), decision.figures),
            Some(decision) => (decision.level.clone(), judged.figures),
            None => (judged.level.clone(), judged.figures),
        };
        let bound_by = in_force(Some(&org_terms.policies), &self.default, at);
        let unblocked_at =
            if is_narrower { Some(level.period_end) } else { unblocked_at(replay.clone(), level.action) };
        Ok(Explanation {
            org_id: org.to_owned(),
            at,
            remedies: remedies(&level, &figures, bound_by, unblocked_at),
            since: (!is_narrower).then(|| since(&replay, decision.as_ref())),
            policy: policy_of(bound_by),
            in_that_hour,
            at_end_of_hour: in_that_hour.and_then(|credits| at_end_of_hour(replay, at, credits)),
            days: days(&snapshot, org, period, at)?,
            also_blocked: also_blocked(decisions, decision.as_ref()),
            level,
            figures,
            decision,
            standing: moment.standing(&snapshot)?,
        })
    }
}

/// Rows tell the hour; a decision made in it that says the same tells the instant.
fn since(replay: &Replay<'_>, decision: Option<&LimitDecision>) -> (Timestamp, Option<Hour>) {
    let (at, by_usage_of) = replay.since();
    let judged = &replay.turn().judged.level;
    let same = |decision: &&LimitDecision| {
        let level = &decision.level;
        // No row tells when a guard blocked.
        level.reason == DecisionReason::Guard
            || (level.action, level.reason) == (judged.action, judged.reason)
                && by_usage_of.is_some_and(|hour| hour == decision.decided_at.hour())
    };
    decision.filter(same).map_or((at, by_usage_of), |decision| (decision.decided_at, None))
}

fn policy_of(bound_by: InForce<'_>) -> Option<(Option<i64>, OrgPolicy)> {
    match bound_by {
        InForce::Policy(offset, policy) => Some((offset, policy.clone())),
        InForce::Nothing | InForce::Block => None,
    }
}

fn also_blocked(decisions: Vec<LimitDecision>, told: Option<&LimitDecision>) -> Vec<LimitDecision> {
    let other = |decision: &LimitDecision| told.is_none_or(|told| told.scope != decision.scope);
    decisions.into_iter().filter(|decision| decision.level.action == Action::Block && other(decision)).collect()
}

/// The running period replayed to `at` from its hours. A past instant's own hour is not counted, and told apart.
fn replayed<'a>(
    snapshot: &StoreSnapshot<'_>,
    org: &'a str,
    terms: Terms<'a>,
    period: Period,
    at: Timestamp,
    is_past: bool,
) -> Result<(Replay<'a>, Option<CreditSum>), QueryError> {
    let mut replay = Replay::new(org, terms, period.starts_at());
    let mut in_that_hour = CreditSum::ZERO;
    let hours = org_hours(snapshot, org, replay.first_hour())?;
    for (hour, credits) in hours.into_iter().take_while(|(hour, _)| *hour <= at.hour()) {
        if hour < at.hour() {
            replay.add(Step::whole_hour(hour, credits), &mut |_| {});
        } else {
            in_that_hour += credits;
        }
    }
    if !is_past {
        replay.add(Step { known_at: at, hour: at.hour(), credits: in_that_hour }, &mut |_| {});
    }
    replay.pass(at, &mut |_| {});
    Ok((replay, is_past.then_some(in_that_hour)))
}

fn at_end_of_hour(mut replay: Replay<'_>, at: Timestamp, credits: CreditSum) -> Option<Level> {
    let before = replay.turn().judged.level.action;
    replay.add(Step::whole_hour(at.hour(), credits), &mut |_| {});
    let level = &replay.turn().judged.level;
    (level.action != before).then(|| level.clone())
}

/// The first instant at which time alone unblocks.
fn unblocked_at(mut replay: Replay<'_>, action: Action) -> Option<Timestamp> {
    if action == Action::Allow {
        return None;
    }
    for _ in 0..TURNS_AHEAD_MAX {
        let next = replay.until();
        replay.pass(next, &mut |_| {});
        if replay.turn().judged.level.action == Action::Allow {
            return Some(next);
        }
    }
    None
}

/// The period's usage up to and with the hour of `at`, by UTC day and product.
fn days(
    snapshot: &StoreSnapshot<'_>,
    org: &str,
    period: Period,
    at: Timestamp,
) -> Result<Vec<ExplainedDay>, QueryError> {
    let end = Hour(at.hour().0.saturating_add(1)).min(period.end);
    let edges = Bucket::Day.cut(&TimeZone::UTC, period.start, end, &|_| end)?;
    let mut days: BTreeMap<Day, ExplainedDay> = BTreeMap::new();
    let entry = |day| ExplainedDay { day, credits: CreditSum::ZERO, products: BTreeMap::new() };
    read(snapshot, org, &[], &edges, &mut |hour, _, tally| {
        days.entry(hour.day()).or_insert_with(|| entry(hour.day())).credits += tally.credits();
    })?;
    let by_product = read(snapshot, org, &[Dimension::Product], &edges, &mut |hour, product, tally| {
        let day = days.entry(hour.day()).or_insert_with(|| entry(hour.day()));
        *day.products.entry(product.map(str::to_owned)).or_default() += tally.credits();
    });
    match by_product {
        Ok(()) | Err(QueryError::NeedsView { .. }) => Ok(days.into_values().collect()),
        Err(error) => Err(error),
    }
}
