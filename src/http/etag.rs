//! ETags: what names the content of an answer, and the answer that it has not changed (RFC 9110, 13).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::dto::with_standing;
use super::json::Json;
use super::object::Object;
use crate::query::params::hash;
use crate::query::{QueryError, Standing};

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

/// The answer under this ETag, or that the client has it already.
pub fn respond(headers: &HeaderMap, etag: &str, body: &Object) -> Response {
    if not_modified(headers, etag) {
        return tagged(StatusCode::NOT_MODIFIED.into_response(), etag);
    }
    tagged(Json(body).into_response(), etag)
}

/// An answer that its own content names, and the positions that it follows from. What only tells when it was asked for is
/// left out of the tag: `at` and `as_of`.
pub fn by_content(headers: &HeaderMap, body: Object, standing: Option<&Standing>) -> Result<Response, QueryError> {
    let content: Vec<_> = body.0.iter().filter(|(name, _)| *name != "at").map(|(_, value)| value).collect();
    let bytes = serde_json::to_vec(&content).map_err(|error| QueryError::Internal(error.to_string()))?;
    let from = standing.map(Standing::tag).unwrap_or_default();
    let etag = format!("W/\"{:016x}\"", hash([bytes.as_slice(), from.as_bytes()]));
    let body = match standing {
        Some(standing) => with_standing(body, standing),
        None => body,
    };
    Ok(respond(headers, &etag, &body))
}
