//! `/v1/orgs/{org}/simulate`: what other terms would have made of an org's usage. It is asked by POST because the terms
//! are its question; it writes nothing.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::domain::usage::dimension::Dimension;
use crate::domain::what_if::simulate::{Moment, PeriodOutcome};
use crate::domain::what_if::simulate_budgets::{Reached, ScopeOutcome, ScopePair};
use crate::query::SimulateParams;

use super::dto::{self, credits, text};
use super::guard::check_origin;
use super::json::Json;
use super::object::{Object, object};
use super::problem::Problem;
use super::{ApiState, Org, Params};

/// The question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `terms`, a list of documents")]
pub struct Question {
    /// Documents as `policy apply` takes them.
    terms: Vec<Value>,
}

/// `POST /v1/orgs/{org}/simulate` with `{"terms": [...]}`.
pub async fn simulate(
    State(state): State<ApiState>,
    Org(org): Org,
    Params(raw): Params,
    headers: HeaderMap,
    question: Result<axum::Json<Question>, JsonRejection>,
) -> Result<Response, Problem> {
    check_origin(&headers)?;
    let axum::Json(question) = question.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let params = SimulateParams::parse(&raw)?;
    let name = org.clone();
    let answer = state.ask(move |query| query.simulate(&org, params, &question.terms)).await?;
    let body = object! {
        "org_id": json!(name),
        "from": text(answer.from.start()),
        "to": text(answer.to.start()),
        "simulated": outcome(&answer.simulated),
        "actual": outcome(&answer.actual),
        "budgets": answer.budgets.scopes.iter().map(scope).collect::<Vec<_>>(),
        "budgets_left_out": json!(answer.budgets.left_out),
    };
    Ok(Json(dto::with_standing(body, &answer.standing)).into_response())
}

/// Periods, earliest first.
fn outcome(periods: &[PeriodOutcome]) -> Vec<Object> {
    periods.iter().map(period).collect()
}

/// Rows tell the hour in which usage turned something, not the instant.
fn moment((at, hour): &Moment) -> Value {
    hour.map_or_else(|| text(at), |hour| text(hour.start()))
}

fn period(outcome: &PeriodOutcome) -> Object {
    let blocked = |(from, until): &(_, Option<_>)| {
        object! {"from": moment(from), "until": until.map_or(Value::Null, text)}
    };
    let threshold = |(percent, at): &(i32, _)| object! {"percent": json!(percent), "at": moment(at)};
    object! {
        "period_start": text(outcome.period.starts_at()),
        "period_end": text(outcome.period.ends_at()),
        "used": text(outcome.used),
        "allowance": credits(outcome.allowance),
        "overage": text(outcome.overage),
        "packs": json!(outcome.packs),
        "used_while_blocked": text(outcome.while_blocked),
        "blocked": outcome.blocked.iter().map(blocked).collect::<Vec<_>>(),
        "thresholds": outcome.thresholds.iter().map(threshold).collect::<Vec<_>>(),
    }
}

/// A budget's scope under either terms.
fn scope(pair: &ScopePair) -> Object {
    object! {
        "dimension": json!(pair.scope.dimension.map(Dimension::name)),
        "value": json!(pair.scope.value),
        "budget_id": json!(pair.scope.budget_id),
        "simulated": pair.simulated.as_ref().map(scope_outcome),
        "actual": pair.actual.as_ref().map(scope_outcome),
    }
}

fn scope_outcome(outcome: &ScopeOutcome) -> Object {
    let threshold = |reached: &Reached| {
        object! {"percent": json!(reached.percent), "at": moment(&reached.first), "periods": json!(reached.periods)}
    };
    let first_block = outcome.first_block.as_ref();
    let block = |(from, until): &(_, Option<_>)| {
        object! {"from": moment(from), "until": until.map_or(Value::Null, text)}
    };
    object! {
        "budget_name": json!(outcome.budget_name),
        "period_start": text(outcome.fullest.period.starts_at()),
        "period_end": text(outcome.fullest.period.ends_at()),
        "used": text(outcome.fullest.used),
        "limit": text(outcome.fullest.limit),
        "first_blocked": first_block.map(block),
        "blocks": json!(outcome.blocks),
        "blocked_seconds": json!(outcome.blocked_micros / 1_000_000),
        "used_while_blocked": text(outcome.while_blocked),
        "thresholds": outcome.thresholds.iter().map(threshold).collect::<Vec<_>>(),
    }
}
