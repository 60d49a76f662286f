//! `/v1/orgs/{org}/usage` as JSON or CSV, with an ETag that is known before a row is read.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::query::page::PAGE_SIZE_MAX;
use crate::query::params::UsageParams;
use crate::query::{QueryError, UsageAnswer};

use super::dto::UsageBody;
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

/// Whether CSV is asked for: named, and named before JSON.
fn wants_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types =
        accepted.flat_map(|value| value.split(',')).filter_map(|one| one.split(';').next().map(str::trim));
    types.find(|one| matches!(*one, "text/csv" | "application/json" | "*/*")) == Some("text/csv")
}

/// Whether the client holds what `etag` names.
pub fn not_modified(headers: &HeaderMap, etag: &str) -> bool {
    let held = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    held.flat_map(|value| value.split(',')).any(|tag| tag.trim() == "*" || opaque(tag) == opaque(etag))
}

/// The response with its ETag: it may be kept, and must be asked for again before it is used.
pub fn tagged(mut response: Response, etag: &str) -> Response {
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

fn write_json(answer: &UsageAnswer) -> Result<Vec<u8>, QueryError> {
    serde_json::to_vec(&UsageBody::new(answer)).map_err(|error| QueryError::Internal(error.to_string()))
}

/// Rows as CSV: the columns of the JSON rows in their order, absent values and nulls empty.
fn write_csv(answer: &UsageAnswer) -> Result<Vec<u8>, QueryError> {
    let failed = |error: csv::Error| QueryError::Internal(error.to_string());
    let mut out = csv::Writer::from_writer(Vec::new());
    let start = answer.has_start.then_some("start");
    let dimensions = answer.group_by.iter().map(|dimension| dimension.name());
    let measures = answer.measures.iter().map(|measure| measure.name());
    out.write_record(start.into_iter().chain(dimensions).chain(measures)).map_err(failed)?;
    for row in &answer.rows {
        let start = answer.has_start.then(|| row.start.start().to_string());
        let group = row.group.iter().map(|value| value.clone().unwrap_or_default());
        let measures = answer.measures.iter().map(|measure| measure.value(&row.tally).to_string());
        out.write_record(start.into_iter().chain(group).chain(measures)).map_err(failed)?;
    }
    out.into_inner().map_err(|error| QueryError::Internal(error.to_string()))
}
