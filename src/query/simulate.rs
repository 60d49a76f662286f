//! `simulate`: what other terms would have made of an org's usage, beside what its own made of it. From the rows, at the
//! grain of an hour; `tallyman simulate --exact` replays the log itself with the same `domain::simulate`.

use std::collections::BTreeSet;

use crate::codec::terms_document::{DocumentDefaults, parse};
use crate::domain::limits::walk::Terms;
use crate::domain::terms::records::TermsRecord;
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;
use crate::domain::what_if::budget_replay::Cycles;
use crate::domain::what_if::replay::Step;
use crate::domain::what_if::simulate::{PeriodOutcome, Simulation, with_terms};
use crate::domain::what_if::simulate_budgets::{BudgetSimulation, SCOPES_MAX, ScopePair, side_by_side};
use crate::store::StoreSnapshot;

use super::overage::{org_hours, value_hours};
use super::params::{check_names, utc_hour};
use super::{Query, QueryError, Standing};

/// The most hours of one simulation: two years.
const HOURS_MAX: i32 = 2 * 366 * 24;
/// The most documents of one simulation.
const DOCUMENTS_MAX: usize = 1000;

/// A range to simulate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimulateParams {
    /// First hour; the running period's first if absent.
    pub from: Option<Hour>,
    /// First hour after; that after the running one if absent.
    pub to: Option<Hour>,
}

impl SimulateParams {
    /// Reads `from` and `to`.
    ///
    /// # Errors
    /// On the first parameter that is unknown, repeated, or not what it must be.
    pub fn parse(raw: &[(String, String)]) -> Result<Self, QueryError> {
        check_names(raw, &["from", "to"], &[])?;
        let get = |name: &'static str| {
            let found = raw.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| utc_hour(name, value)).transpose()
        };
        Ok(Self { from: get("from")?, to: get("to")? })
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct SimulateAnswer {
    /// First hour.
    pub from: Hour,
    /// First hour after.
    pub to: Hour,
    /// Under the other terms.
    pub simulated: Vec<PeriodOutcome>,
    /// Under the org's own.
    pub actual: Vec<PeriodOutcome>,
    /// What budgets made of it.
    pub budgets: SimulatedBudgets,
    /// How fresh the answer is.
    pub standing: Standing,
}

/// What budgets made of a range, under the other terms and under the org's own.
#[derive(Clone, Debug, Default)]
pub struct SimulatedBudgets {
    /// Scopes that reached a threshold or were blocked, the most severe first.
    pub scopes: Vec<ScopePair>,
    /// How many more there are.
    pub left_out: usize,
}

impl Query {
    /// Replays an org's hours under other terms: documents as `policy apply` takes them, each a JSON object. One that
    /// leaves out `effective_at` holds from the range's start, and one that leaves out `org_id` is the org's.
    ///
    /// # Errors
    /// When the org is not known here, a document is no terms record or another org's, the range is empty or too long, or the store
    /// cannot be read.
    pub fn simulate(
        &self,
        org: &str,
        params: SimulateParams,
        documents: &[serde_json::Value],
    ) -> Result<SimulateAnswer, QueryError> {
        let (reader, moment) = self.open(org)?;
        let snapshot = reader.snapshot();
        moment.known(&snapshot, org)?;
        let own = snapshot.org_terms(org)?;
        let own_terms = Terms { org: &own, default: &self.default };
        let to = params.to.unwrap_or(Hour(moment.now.hour().0 + 1));
        let from = params.from.unwrap_or_else(|| own_terms.period(moment.now.min(to.start())).start);
        check_range(from, to)?;
        let records = records(org, documents, from.start())?;
        let other = with_terms(&own, &records);
        let other_terms = Terms { org: &other, default: &self.default };
        let mut simulated = Simulation::of_other_terms(org, other_terms, from.start(), to.start());
        let mut actual = Simulation::new(org, own_terms, from.start(), to.start());
        let first = simulated.first_hour().min(actual.first_hour());
        for (hour, credits) in org_hours(&snapshot, org, first)? {
            let step = Step::whole_hour(hour, credits);
            simulated.add(step);
            actual.add(step);
        }
        Ok(SimulateAnswer {
            from,
            to,
            simulated: simulated.finish(),
            actual: actual.finish(),
            budgets: budgets(&snapshot, org, [other_terms, own_terms], from, to)?,
            standing: moment.standing(&snapshot)?,
        })
    }
}

/// What the budgets of two terms made of the hours of the values that they bind.
fn budgets(
    snapshot: &StoreSnapshot<'_>,
    org: &str,
    terms: [Terms<'_>; 2],
    from: Hour,
    to: Hour,
) -> Result<SimulatedBudgets, QueryError> {
    let (from, to) = (from.start(), to.start());
    let cycles = terms.map(|terms| Cycles::new(terms, from, to));
    let [mut simulated, mut actual] =
        [0, 1].map(|side| BudgetSimulation::new(terms[side].org, &cycles[side], from, to));
    let first = cycles.iter().map(Cycles::first_hour).min().unwrap_or(from.hour());
    let dimensions: BTreeSet<Option<Dimension>> = simulated.dimensions().chain(actual.dimensions()).collect();
    for dimension in dimensions {
        let Some(dimension) = dimension else {
            for (hour, credits) in org_hours(snapshot, org, first)? {
                let step = Step::whole_hour(hour, credits);
                simulated.add(None, step);
                actual.add(None, step);
            }
            continue;
        };
        value_hours(snapshot, org, (dimension, None), first..to.hour(), &mut |hour, value, credits| {
            let step = Step::whole_hour(hour, credits);
            simulated.add(Some((dimension, value)), step);
            actual.add(Some((dimension, value)), step);
        })?;
    }
    if simulated.is_full() || actual.is_full() {
        return Err(QueryError::TooLarge { what: "scopes of budgets", limit: SCOPES_MAX });
    }
    let (scopes, left_out) = side_by_side(simulated.finish(), actual.finish());
    Ok(SimulatedBudgets { scopes, left_out })
}

/// Refuses a range that is empty or too long.
///
/// # Errors
/// Naming the parameter to change.
pub fn check_range(from: Hour, to: Hour) -> Result<(), QueryError> {
    if from >= to {
        return Err(QueryError::parameter("to", "the range is half-open: `to` must be later than `from`"));
    }
    if i64::from(to.0) - i64::from(from.0) > i64::from(HOURS_MAX) {
        return Err(QueryError::parameter("from", "a simulation spans two years at most"));
    }
    Ok(())
}

fn records(org: &str, documents: &[serde_json::Value], from: Timestamp) -> Result<Vec<TermsRecord>, QueryError> {
    let wrong = |number: usize, what: &str| QueryError::parameter("terms", format!("document {number}: {what}"));
    if documents.is_empty() || documents.len() > DOCUMENTS_MAX {
        return Err(QueryError::parameter("terms", format!("give 1 to {DOCUMENTS_MAX} documents")));
    }
    let defaults = DocumentDefaults { effective_at: from, updated_by: "simulate".to_owned() };
    let mut records = Vec::with_capacity(documents.len());
    for (document, number) in documents.iter().zip(1..) {
        let mut document = document.clone();
        let fields = document.as_object_mut().ok_or_else(|| wrong(number, "is no object"))?;
        let whose = fields.entry("org_id").or_insert(serde_json::Value::Null);
        if whose.is_null() {
            *whose = org.into();
        }
        if let Some(other) = whose.as_str().filter(|whose| *whose != org) {
            let what = format!("`org_id` is {other:?}, and {org} is simulated: leave it out, or write {org}");
            return Err(wrong(number, &what));
        }
        let read = parse(&document.to_string(), &defaults).map_err(|errors| wrong(number, &told(&errors.0)))?;
        records.extend(read.into_iter().map(|document| document.record));
    }
    Ok(records)
}

fn told(errors: &[crate::codec::terms_document::DocumentError]) -> String {
    errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; ")
}
