//! `explain`: which scope of an org is blocked or why it is allowed, since when, by which record and terms, from which
//! sums, and what would unblock it. It judges with the decider's own function (`domain::replay`); of the decision that was
//! published last it tells instant and cause.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::domain::credits::CreditSum;
use crate::domain::cube::field_set::FieldSet;
use crate::domain::cube::scan::Question;
use crate::domain::cube::tally::Field;
use crate::domain::id::is_value;
use crate::domain::limits::decision::{Action, Cause, DecisionReason, Figures, Level, LimitDecision};
use crate::domain::limits::scope::{BudgetScope, Scope};
use crate::domain::limits::walk::Terms;
use crate::domain::terms::in_force::InForce;
use crate::domain::terms::in_force::in_force;
use crate::domain::terms::period::Period;
use crate::domain::terms::records::{Budget, OrgPolicy};
use crate::domain::time::{Day, Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;
use crate::domain::what_if::budget_replay::Cycles;
use crate::domain::what_if::explain::{Remedy, remedies, told};
use crate::domain::what_if::replay::{Replay, Step};
use crate::store::StoreSnapshot;

use super::explain_scopes::{Replayed, binding, replayed as replayed_scopes};
use super::overage::org_hours;
use super::params::{check_names, dimension, instant};
use super::{Query, QueryError, Standing};

/// The most turns of time that are looked at for the instant at which waiting helps.
pub(super) const TURNS_AHEAD_MAX: usize = 24;

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
            (Some(_), Some(value)) if !is_value(value) => {
                return Err(QueryError::parameter("value", "a dimension's value has 1 to 256 bytes"));
            }
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
    /// Of each product, by product.
    pub products: BTreeMap<Option<String>, CreditSum>,
}

/// Why a scope is blocked or allowed.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Whose.
    pub org_id: String,
    /// The instant that is explained.
    pub at: Timestamp,
    /// The budget's scope that is told; `None` for the org's own.
    pub scope: Option<BudgetScope>,
    /// The budget's record that binds it, and its offset.
    pub budget: Option<(i64, Budget)>,
    /// What held then, and its numbers: both are of one evaluation.
    pub level: Level,
    /// Its numbers.
    pub figures: Figures,
    /// The published decision that holds, with its scope, version and cause; `None` for an instant before it.
    pub decision: Option<LimitDecision>,
    /// Since when it has been so in its running period: the instant of the last decision, at the latest, where that was
    /// made in the hour of the change; else as far as whole hours tell, with the hour of the usage that made it so. `None`
    /// where nothing tells.
    pub since: Option<(Timestamp, Option<Hour>)>,
    /// The policy that binds the org and its offset; `None` offset for that of `limits.default`.
    pub policy: Option<(Option<i64>, OrgPolicy)>,
    /// The hour up to which usage is counted, of a past instant: rows do not tell when in its hour it came, so that is not
    /// counted, but where the decision that holds was made in it; `None` where all is counted.
    pub counted_to: Option<Hour>,
    /// Credits of the instant's hour that are not counted; `None` where nothing of it is left out.
    pub in_that_hour: Option<CreditSum>,
    /// What held at the end of that hour, or holds now in it, where it is something else.
    pub at_end_of_hour: Option<Level>,
    /// The scope's usage of its period as far as it is counted, by day.
    pub days: Vec<ExplainedDay>,
    /// What would unblock it.
    pub remedies: Vec<Remedy>,
    /// Every other scope of the org that is blocked; of a past instant, those that the value meets.
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
        let published = snapshot.decisions(org)?;
        let value = params.value.as_ref().map(|(dimension, value)| (*dimension, value.as_str()));
        let is_past = params.at.is_some();

        let seen_of = |scope: Option<&BudgetScope>| {
            let past = || Seen::past(at, moment.now, last_word(&published, scope, at));
            if is_past { past() } else { Seen { at, until: ALL_HOURS, now: moment.now } }
        };
        let period = terms.period(at);
        let (replay, in_that_hour) = replayed(&snapshot, org, terms, period, seen_of(None))?;
        let cycles = Cycles::new(terms, at, at);
        let scopes = if is_past {
            binding(&org_terms, value, at)
        } else {
            told(&published, value).and_then(|told| told.scope.budget.clone()).into_iter().collect()
        };
        let scopes = scopes.into_iter().map(|scope| (seen_of(Some(&scope)), scope)).collect();
        let mut scopes = replayed_scopes(&snapshot, (org, &org_terms), &cycles, scopes)?;
        let seen = seen_of(None);
        let candidates = if is_past { held(org, &replay, &scopes, &published, at) } else { published };
        let told = told(&candidates, value).cloned();
        let scope = told.as_ref().and_then(|told| told.scope.budget.clone());
        // What was worked out has no version; what was published has.
        let decision = told.clone().filter(|told| told.version > 0 && told.decided_at <= at);
        let bound_by = in_force(Some(&org_terms.policies), &self.default, at);
        let of = scopes.iter().position(|known| Some(&known.scope) == scope.as_ref());
        let found = match (of.map(|place| scopes.swap_remove(place)), &told) {
            (Some(narrower), _) => of_scope(&narrower, decision.as_ref()),
            (None, Some(told)) if scope.is_some() => Found::published(told, seen),
            _ => of_org(replay, decision.as_ref(), seen, in_that_hour),
        };
        let counted = scope.as_ref().and_then(|scope| Some((scope.dimension?, scope.value.as_deref()?)));
        let level_period = Period { start: found.level.period_start.hour(), end: found.level.period_end.hour() };
        let period = if scope.is_some() { level_period } else { period };
        // To the rest of a `*` budget nothing counts.
        let is_rest = scope.as_ref().is_some_and(|scope| scope.dimension.is_some() && scope.value.is_none());
        let days = if is_rest { Vec::new() } else { days(&snapshot, org, counted, period, found.seen)? };
        Ok(Explanation {
            org_id: org.to_owned(),
            at,
            scope,
            remedies: found.remedies(bound_by),
            budget: found.budget,
            since: found.since,
            policy: policy_of(bound_by),
            counted_to: (found.seen.until < ALL_HOURS).then_some(found.seen.until),
            in_that_hour: found.in_that_hour,
            at_end_of_hour: found.at_end_of_hour,
            days,
            also_blocked: also_blocked(candidates, told.as_ref()),
            level: found.level,
            figures: found.figures,
            decision,
            standing: moment.standing(&snapshot)?,
        })
    }
}

/// What is told of the scope.
struct Found {
    level: Level,
    figures: Figures,
    since: Option<(Timestamp, Option<Hour>)>,
    budget: Option<(i64, Budget)>,
    seen: Seen,
    in_that_hour: Option<CreditSum>,
    at_end_of_hour: Option<Level>,
    unblocked_at: Option<Timestamp>,
    greatest_blocked_base: Option<CreditSum>,
}

impl Found {
    fn remedies(&self, bound_by: InForce<'_>) -> Vec<Remedy> {
        remedies(&self.level, &self.figures, bound_by, self.unblocked_at, self.greatest_blocked_base)
    }

    /// A decision whose scope neither terms nor rows tell any more.
    fn published(decision: &LimitDecision, seen: Seen) -> Self {
        Self {
            level: decision.level.clone(),
            figures: decision.figures,
            since: None,
            budget: None,
            seen,
            in_that_hour: None,
            at_end_of_hour: None,
            unblocked_at: Some(decision.level.period_end),
            greatest_blocked_base: None,
        }
    }
}

fn of_org(
    replay: Replay<'_>,
    decision: Option<&LimitDecision>,
    seen: Seen,
    in_that_hour: Option<CreditSum>,
) -> Found {
    let judged = &replay.turn().judged;
    let level = guarded(&judged.level, decision).clone();
    Found {
        figures: judged.figures,
        since: Some(exact(replay.since(), &level, decision)),
        budget: None,
        seen,
        in_that_hour,
        unblocked_at: unblocked_at(replay.clone(), level.action),
        greatest_blocked_base: (level.action == Action::Block).then(|| replay.greatest_blocked_base()).flatten(),
        at_end_of_hour: in_that_hour.and_then(|credits| at_end_of_hour(replay, seen, credits)),
        level,
    }
}

fn of_scope(scope: &Replayed<'_>, decision: Option<&LimitDecision>) -> Found {
    let bound = scope.bound().expect("only scopes that are bound are kept");
    let judged = &bound.judged;
    let (offset, budget) = bound.budget;
    Found {
        level: judged.level.clone(),
        figures: judged.figures,
        since: Some(exact(scope.since(), &judged.level, decision)),
        budget: Some((offset, budget.clone())),
        seen: scope.seen,
        in_that_hour: scope.in_that_hour,
        at_end_of_hour: scope.at_end_of_hour(),
        unblocked_at: scope.unblocked_at(),
        greatest_blocked_base: None,
    }
}

/// What was judged, so that level and figures are of one moment; the guard's block, which no row tells, while it is for
/// the same limit of the same period.
fn guarded<'l>(judged: &'l Level, decision: Option<&'l LimitDecision>) -> &'l Level {
    let limit = |level: &Level| (level.allowance, level.extra, level.period_start, level.period_end);
    let published = decision.map(|decision| &decision.level);
    let stays = |held: &&Level| held.reason == DecisionReason::Guard && limit(held) == limit(judged);
    published.filter(stays).unwrap_or(judged)
}

/// What held at a past instant of the scopes that a value meets: as it was published, where that is still the last
/// word, else as it is worked out.
fn held(
    org: &str,
    replay: &Replay<'_>,
    scopes: &[Replayed<'_>],
    published: &[LimitDecision],
    at: Timestamp,
) -> Vec<LimitDecision> {
    let judged = &replay.turn().judged;
    let own = LimitDecision {
        scope: Scope::org(org),
        level: judged.level.clone(),
        figures: judged.figures,
        version: 0,
        decided_at: at,
        cause: Cause::default(),
    };
    let worked_out = scopes.iter().filter_map(|scope| scope.decision(org, at));
    let known =
        |held: LimitDecision| last_word(published, held.scope.budget.as_ref(), at).cloned().unwrap_or(held);
    std::iter::once(own).chain(worked_out).map(known).collect()
}

/// The published decision of a scope, where it was the last word at `at` already.
fn last_word<'d>(
    published: &'d [LimitDecision],
    scope: Option<&BudgetScope>,
    at: Timestamp,
) -> Option<&'d LimitDecision> {
    published.iter().find(|known| known.scope.budget.as_ref() == scope && known.decided_at <= at)
}

/// Rows tell the hour, and not what began and ended within one. A last decision that says the same, made in that hour or,
/// of usage dated ahead, in the one before, tells an instant at which it was so already, and stayed so.
fn exact(
    (at, by_usage_of): (Timestamp, Option<Hour>),
    told: &Level,
    decision: Option<&LimitDecision>,
) -> (Timestamp, Option<Hour>) {
    let (hour, ahead) = by_usage_of.map_or((at.hour(), 0), |hour| (hour, 1));
    let same = |decision: &&LimitDecision| {
        let level = &decision.level;
        (level.action, level.reason) == (told.action, told.reason)
            // No row tells when a guard blocked.
            && (level.reason == DecisionReason::Guard
                || (0..=ahead).contains(&(hour.0 - decision.decided_at.hour().0)))
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

/// Above every hour.
pub(super) const ALL_HOURS: Hour = Hour(i32::MAX);

/// What of a scope's usage is seen at an instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: Timestamp,
    /// The first hour that is not.
    pub(super) until: Hour,
    pub(super) now: Timestamp,
}

impl Seen {
    /// Of a past instant: the hours before its own; with its own where the decision that held was made in it, for what
    /// held then still did at its end.
    fn past(at: Timestamp, now: Timestamp, decision: Option<&LimitDecision>) -> Self {
        let own = decision.is_some_and(|decision| decision.decided_at.hour() == at.hour());
        Self { at, until: Hour(at.hour().0.saturating_add(own.into())), now }
    }

    /// An hour's usage as it is seen; now also what is dated minutes ahead, as the decider counts it.
    pub(super) fn step(self, hour: Hour, credits: CreditSum) -> Option<Step> {
        let whole = hour < self.at.hour();
        let step = if whole { Step::whole_hour(hour, credits) } else { Step { known_at: self.at, hour, credits } };
        (hour < self.until).then_some(step)
    }

    /// Whether an hour is the one of which nothing is seen, though it has begun.
    pub(super) fn hides(self, hour: Hour) -> bool {
        hour == self.at.hour() && hour >= self.until && self.at > hour.start()
    }

    /// The rest of the instant's hour, known at its end, or now where it still runs.
    pub(super) fn rest(self, credits: CreditSum) -> Step {
        let step = Step::whole_hour(self.at.hour(), credits);
        Step { known_at: step.known_at.min(self.now), ..step }
    }
}

/// The running period replayed from its hours, and what of the instant's own hour is not counted.
fn replayed<'a>(
    snapshot: &StoreSnapshot<'_>,
    org: &'a str,
    terms: Terms<'a>,
    period: Period,
    seen: Seen,
) -> Result<(Replay<'a>, Option<CreditSum>), QueryError> {
    let mut replay = Replay::new(org, terms, period.starts_at());
    let mut in_that_hour = None;
    for (hour, credits) in org_hours(snapshot, org, replay.first_hour())? {
        if let Some(step) = seen.step(hour, credits) {
            replay.add(step, &mut |_| {});
        } else if seen.hides(hour) {
            in_that_hour = Some(credits);
        }
    }
    replay.pass(seen.at, &mut |_| {});
    Ok((replay, in_that_hour))
}

fn at_end_of_hour(mut replay: Replay<'_>, seen: Seen, credits: CreditSum) -> Option<Level> {
    let before = replay.turn().judged.level.action;
    replay.add(seen.rest(credits), &mut |_| {});
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

/// The period's usage as far as it is seen, of a value or of the whole org, by UTC day and product.
fn days(
    snapshot: &StoreSnapshot<'_>,
    org: &str,
    value: Option<(Dimension, &str)>,
    period: Period,
    seen: Seen,
) -> Result<Vec<ExplainedDay>, QueryError> {
    let end = seen.until.min(period.end);
    let mut days: BTreeMap<Day, ExplainedDay> = BTreeMap::new();
    let question = Question {
        filter: value.iter().map(|(of, value)| (*of, vec![Some((*value).to_owned())])).collect(),
        group: vec![Dimension::Product],
        fields: FieldSet::of(&[Field::CREDITS]),
    };
    let whole_day = |hour: Hour| hour.day().first_hour();
    snapshot.sums(org, &question, period.start..end, whole_day, &mut |start, product, tally| {
        let day = days.entry(start.day()).or_insert_with(|| ExplainedDay {
            day: start.day(),
            credits: CreditSum::ZERO,
            products: BTreeMap::new(),
        });
        day.credits += tally.credits();
        *day.products.entry(product[0].map(str::to_owned)).or_default() += tally.credits();
        ControlFlow::Continue(())
    })?;
    Ok(days.into_values().collect())
}
