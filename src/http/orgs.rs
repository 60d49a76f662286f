//! `/v1/orgs`, and what of one org needs no plan: summary, periods, decisions.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::json;

use crate::query::page::{self, PAGE_SIZE_MAX};
use crate::query::params::check_names;
use crate::query::{OrgEntry, decision_fields};

use super::object::{Object, object};
use super::problem::Problem;
use super::{ApiState, Org, Params, dto};

/// Orgs of a page when nothing is asked for.
const ORGS_PAGE: usize = 100;
/// Periods of a page when nothing is asked for, and the most: each is walked on its own.
const PERIODS_PAGE: usize = 12;
const PERIODS_PAGE_MAX: usize = 120;

/// `/v1/orgs`: the orgs of this instance's partitions, by id.
pub async fn list(
    State(state): State<ApiState>,
    headers: HeaderMap,
    Params(raw): Params,
) -> Result<Response, Problem> {
    check_names(&raw, &["page_size", "page_token"], &[])?;
    let get = |name| raw.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let page_size = page::size(get("page_size").as_deref(), ORGS_PAGE)?.min(PAGE_SIZE_MAX / 10);
    let page_token = get("page_token").filter(|token| !token.is_empty());
    state
        .answer(headers, move |query| {
            let page = query.orgs(page_size, page_token.as_deref())?;
            let orgs: Vec<_> = page.orgs.iter().map(org_fields).collect();
            let body = object! {
                "orgs": orgs,
                "next_page_token": json!(page.next_page_token),
                "partitions": json!(page.partitions),
            };
            Ok((body, None))
        })
        .await
}

/// What the list tells of an org.
fn org_fields(org: &OrgEntry) -> Object {
    let level = org.decision.as_ref().map(|decision| &decision.level);
    object! {
        "org_id": json!(org.org_id),
        "plan": json!(org.plan),
        "action": json!(level.map(|level| level.action.name())),
        "reason": json!(level.map(|level| level.reason.name())),
        "level": json!(level.map(|level| level.level)),
        "partition": json!(org.partition),
    }
}

/// `/v1/orgs/{org}`: its running period in numbers.
pub async fn summary(
    State(state): State<ApiState>,
    Org(org): Org,
    headers: HeaderMap,
    Params(raw): Params,
) -> Result<Response, Problem> {
    check_names(&raw, &[], &[])?;
    state
        .answer(headers, move |query| {
            let answer = query.summary(&org)?;
            Ok((dto::summary(&answer), Some(answer.standing)))
        })
        .await
}

/// `/v1/orgs/{org}/periods`: the running one first.
pub async fn periods(
    State(state): State<ApiState>,
    Org(org): Org,
    headers: HeaderMap,
    Params(raw): Params,
) -> Result<Response, Problem> {
    check_names(&raw, &["page_size", "page_token"], &[])?;
    let get = |name| raw.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let page_size = page::size(get("page_size").as_deref(), PERIODS_PAGE)?.min(PERIODS_PAGE_MAX);
    let page_token = get("page_token").filter(|token| !token.is_empty());
    state
        .answer(headers, move |query| {
            let page = query.periods(&org, page_size, page_token.as_deref())?;
            let periods: Vec<_> = page.periods.iter().map(dto::period).collect();
            let body = object! {"periods": periods, "next_page_token": json!(page.next_page_token)};
            Ok((body, Some(page.standing)))
        })
        .await
}

/// `/v1/orgs/{org}/decisions`: the last published one of each scope.
pub async fn decisions(
    State(state): State<ApiState>,
    Org(org): Org,
    headers: HeaderMap,
    Params(raw): Params,
) -> Result<Response, Problem> {
    check_names(&raw, &[], &[])?;
    state
        .answer(headers, move |query| {
            let answer = query.decisions(&org)?;
            let decisions: Vec<_> = answer.decisions.iter().map(decision_fields).collect();
            Ok((object! {"decisions": decisions}, Some(answer.standing)))
        })
        .await
}
