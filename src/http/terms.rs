//! An org's terms: `/policy`, `/budgets`, `/grants`, `/labels`, and the history of all of them. What is in force now is
//! told apart from what is scheduled and what has ended.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use crate::domain::terms::change::{effective_at, end_of, entity, updated_by};
use crate::domain::terms::records::TermsRecord;
use crate::query::params::check_names;
use crate::query::{FieldChange, Fields, TermsAnswer, differences, terms_fields};

use super::etag::respond;
use super::object::{Object, object};
use super::problem::Problem;
use super::{ApiState, Org, Params, dto};

type Asked = Result<Response, Problem>;

/// `/v1/orgs/{org}/policy`: the policy in force, its offset, and every policy there is, earliest first. A null policy
/// means that `limits.default` holds.
pub async fn policy(
    State(state): State<ApiState>,
    Org(org): Org,
    headers: HeaderMap,
    Params(raw): Params,
) -> Asked {
    let answer = ask(&state, org, &raw).await?;
    let standing = answer.log.standing("OrgPolicy", answer.now);
    let in_force = standing.in_force.first();
    let mut history: Vec<(i64, &TermsRecord)> =
        answer.log.iter().filter(|(_, record)| matches!(record, TermsRecord::OrgPolicy(_))).collect();
    history.sort_by_key(|(offset, record)| (effective_at(record), *offset));
    let next = standing.scheduled.first().and_then(|(_, record)| effective_at(record));
    let entry = |(offset, record): (i64, &TermsRecord)| {
        let state = match (effective_at(record) > Some(answer.now), in_force) {
            (true, _) => "scheduled",
            (false, Some((current, _))) if *current == offset => "in_force",
            (false, _) => "past",
        };
        object! {"offset": json!(offset), "state": json!(state), "policy": terms_fields(record)}
    };
    let body = object! {
        "policy": in_force.map(|(_, policy)| terms_fields(policy)),
        "offset": json!(in_force.map(|(offset, _)| offset)),
        "next_change_at": json!(next.map(|at| at.to_string())),
        "history": history.into_iter().map(entry).collect::<Vec<_>>(),
    };
    Ok(told(&headers, body, &answer))
}

/// `/v1/orgs/{org}/budgets`.
pub async fn budgets(
    State(state): State<ApiState>,
    Org(org): Org,
    headers: HeaderMap,
    Params(raw): Params,
) -> Asked {
    Ok(list(&headers, &ask(&state, org, &raw).await?, "budgets", "Budget"))
}

/// `/v1/orgs/{org}/grants`, each with the whole hour at which it ends.
pub async fn grants(
    State(state): State<ApiState>,
    Org(org): Org,
    headers: HeaderMap,
    Params(raw): Params,
) -> Asked {
    Ok(list(&headers, &ask(&state, org, &raw).await?, "grants", "CreditGrant"))
}

/// `/v1/orgs/{org}/labels`: the name that people see for a dimension's value.
pub async fn labels(
    State(state): State<ApiState>,
    Org(org): Org,
    headers: HeaderMap,
    Params(raw): Params,
) -> Asked {
    Ok(list(&headers, &ask(&state, org, &raw).await?, "labels", "Label"))
}

/// `/v1/orgs/{org}/policy/history`: every record in the order in which it was written, whatever its type: who wrote it,
/// from when on it holds, and what it changed against the record that it follows.
pub async fn history(
    State(state): State<ApiState>,
    Org(org): Org,
    headers: HeaderMap,
    Params(raw): Params,
) -> Asked {
    let answer = ask(&state, org, &raw).await?;
    let change = |(offset, record): (i64, &TermsRecord)| {
        let follows = answer.log.predecessor(offset);
        let changed: Vec<_> = differences(follows.map(|(_, before)| before), record)
            .into_iter()
            .map(|FieldChange { field, from, to }| object! {"field": json!(field), "from": from, "to": to})
            .collect();
        object! {
            "offset": json!(offset),
            "type": json!(record.type_name()),
            "id": json!(entity(record).id),
            "effective_at": json!(effective_at(record).map(|at| at.to_string())),
            "updated_by": json!(updated_by(record)),
            "follows": json!(follows.map(|(offset, _)| offset)),
            "changed": changed,
        }
    };
    let changes: Vec<_> = answer.log.iter().map(change).collect();
    Ok(told(&headers, object! {"changes": changes}, &answer))
}

async fn ask(state: &ApiState, org: String, raw: &[(String, String)]) -> Result<TermsAnswer, Problem> {
    check_names(raw, &[], &[])?;
    state.ask(move |query| query.terms(&org)).await
}

fn list(headers: &HeaderMap, answer: &TermsAnswer, name: &'static str, type_name: &str) -> Response {
    let standing = answer.log.standing(type_name, answer.now);
    let each = |records: Vec<(i64, &TermsRecord)>| records.into_iter().map(entry).collect::<Vec<_>>();
    let mut body = Object(vec![(name, each(standing.in_force).into())]);
    if name != "labels" {
        body.0.push(("scheduled", each(standing.scheduled).into()));
        body.0.push(("ended", each(standing.ended).into()));
    }
    told(headers, body, answer)
}

/// A record with its offset, and a grant with the instant at which it ends.
fn entry((offset, record): (i64, &TermsRecord)) -> Fields {
    let mut fields = terms_fields(record);
    fields.0.insert(0, ("offset".to_owned(), json!(offset)));
    if let TermsRecord::CreditGrant(_) = record {
        let end = end_of(record).map_or(Value::Null, |end| json!(end.to_string()));
        fields.0.push(("ends_at".to_owned(), end));
    }
    fields
}

/// The ETag of terms is their last offset, for `If-Match`, and the next instant at which one of them comes into force or
/// ends, where there is one: from then on the answer is another, without another record.
fn told(headers: &HeaderMap, body: Object, answer: &TermsAnswer) -> Response {
    let offset = answer.log.last_offset().map_or_else(|| "none".to_owned(), |offset| offset.to_string());
    let etag = match answer.next_change() {
        Some(at) => format!("\"{offset}-{}\"", at.micros()),
        None => format!("\"{offset}\""),
    };
    respond(headers, &etag, &dto::with_standing(body, &answer.standing))
}
