//! `/v1/orgs/{org}/usage` as JSON or CSV, with an ETag that is known before a row is read.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::query::page::PAGE_SIZE_MAX;
use crate::query::params::UsageParams;
use crate::query::{QueryError, UsageAnswer, safe_cell};

use super::accept::wants_csv;
use super::dto::UsageBody;
use super::etag::{not_modified, tagged};
use super::json;
use super::problem::Problem;
use super::{ApiState, Org, Params};

/// What gives the next page of a CSV answer, which has no place for it in its rows.
const NEXT_PAGE: &str = "x-tallyman-next-page-token";

/// What was made of an answer beside the async threads.
enum Made {
    NotModified { etag: String },
    Body { etag: String, bytes: Vec<u8>, next_page_token: String },
}

/// `/v1/orgs/{org}/usage`.
pub async fn usage(
    State(state): State<ApiState>,
    Org(org): Org,
    headers: HeaderMap,
    Params(mut raw): Params,
) -> Result<Response, Problem> {
    let csv = wants_csv(&headers);
    if csv && !raw.iter().any(|(name, _)| name == "page_size") {
        // Who saves a file wants all of it: the largest page.
        raw.push(("page_size".to_owned(), PAGE_SIZE_MAX.to_string()));
    }
    let params = UsageParams::parse(&raw)?;
    let made = state
        .ask(move |query| {
            let etag = |tag: &str| format!("W/\"{tag}-{}\"", if csv { "csv" } else { "json" });
            let (tag, answer) = query.usage(&org, params, |tag| not_modified(&headers, &etag(tag)))?;
            let etag = etag(&tag);
            let Some(answer) = answer else { return Ok(Made::NotModified { etag }) };
            let bytes = if csv { write_csv(&answer) } else { write_json(&answer) }?;
            Ok(Made::Body { etag, bytes, next_page_token: answer.next_page_token })
        })
        .await?;
    Ok(match made {
        Made::NotModified { etag } => tagged(StatusCode::NOT_MODIFIED.into_response(), &etag),
        Made::Body { etag, bytes, next_page_token } => {
            let content_type = if csv { "text/csv; charset=utf-8; header=present" } else { "application/json" };
            let mut response = ([(header::CONTENT_TYPE, content_type)], bytes).into_response();
            if let (true, Ok(token)) = (csv, HeaderValue::from_str(&next_page_token)) {
                response.headers_mut().insert(NEXT_PAGE, token);
            }
            tagged(response, &etag)
        }
    })
}

fn write_json(answer: &UsageAnswer) -> Result<Vec<u8>, QueryError> {
    json::bytes(&UsageBody::new(answer)).map_err(|error| QueryError::Internal(error.to_string()))
}

/// Rows as CSV: the columns of the JSON rows in their order, absent values and nulls empty, and no value a formula.
fn write_csv(answer: &UsageAnswer) -> Result<Vec<u8>, QueryError> {
    let failed = |error: csv::Error| QueryError::Internal(error.to_string());
    let mut out = csv::Writer::from_writer(Vec::new());
    let start = answer.has_start.then_some("start");
    let dimensions = answer.group_by.iter().map(|dimension| dimension.name());
    let measures = answer.measures.iter().map(|measure| measure.name());
    out.write_record(start.into_iter().chain(dimensions).chain(measures)).map_err(failed)?;
    for row in &answer.rows {
        let start = answer.has_start.then(|| row.start.start().to_string());
        let group = row.group.iter().map(|value| safe_cell(value.as_deref().unwrap_or_default()).into_owned());
        let measures = answer.measures.iter().map(|measure| measure.value(&row.tally).to_string());
        out.write_record(start.into_iter().chain(group).chain(measures)).map_err(failed)?;
    }
    out.into_inner().map_err(|error| QueryError::Internal(error.to_string()))
}
