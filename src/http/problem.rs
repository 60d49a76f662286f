//! Errors as RFC 9457 problems: what went wrong, where, and what to do next. The only place that knows HTTP statuses
//! of the query room's errors.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::json::{self, Json};
use crate::query::QueryError;

/// A problem, as `application/problem+json`.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// `about:blank`: the title and status say which problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// The partition that the question is about, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem of that status; `detail` says where and what to do next.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            partition: None,
            retry_after_s: None,
        }
    }

    /// The same, about a partition.
    #[must_use]
    pub const fn about(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The same, worth asking again in so many seconds.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl Problem {
    /// The whole answer as bytes, for a connection that ends with it.
    #[must_use]
    pub(super) fn raw(&self) -> Vec<u8> {
        let body = json::bytes(self).unwrap_or_default();
        let retry = self.retry_after_s.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
        let head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n{retry}\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            self.status,
            self.title,
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let status = match &error {
            QueryError::UnknownOrg { .. } => StatusCode::NOT_FOUND,
            QueryError::NotHere { .. } => StatusCode::MISDIRECTED_REQUEST,
            QueryError::Store(_) | QueryError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let problem = Self::new(status, error.to_string());
        match error {
            QueryError::NotHere { partition, .. } | QueryError::UnknownOrg { partition, .. } => {
                problem.about(partition)
            }
            _ => problem,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after_s;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
