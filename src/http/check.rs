//! `/v1/check/*`: whether a request may go on, for nginx's `auth_request` and Envoy's `ext_authz` (CONTRACT.md, HTTP). The
//! scopes come from headers alone, which the gateway must overwrite. Bad input and a table that is not read yet are 5xx:
//! nobody is blocked for what is not their fault. Served by `run` beside all else, and by `gate` alone.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::ApiState;
use super::problem::Problem;
use crate::clock::Clock;
use crate::domain::decision::Action;
use crate::domain::dimension::Dimension;
use crate::domain::id::{is_id, is_value};
use crate::gateway::table::{Request, Table, Verdict};
use crate::telemetry::Telemetry;

const ORG: HeaderName = HeaderName::from_static("x-tallyman-org");
const ACTION: HeaderName = HeaderName::from_static("x-tallyman-action");
const REASON: HeaderName = HeaderName::from_static("x-tallyman-reason");
const SCOPE: HeaderName = HeaderName::from_static("x-tallyman-scope");
const VERSION: HeaderName = HeaderName::from_static("x-tallyman-version");

/// The headers of each dimension, in the order of their numbers. Many proxies drop a header with `_` in its name, so that `-`
/// means the same.
const HEADERS: [(Dimension, HeaderName); Dimension::COUNT + 2] = [
    (Dimension::User, HeaderName::from_static("x-tallyman-user")),
    (Dimension::Product, HeaderName::from_static("x-tallyman-product")),
    (Dimension::Model, HeaderName::from_static("x-tallyman-model")),
    (Dimension::Provider, HeaderName::from_static("x-tallyman-provider")),
    (Dimension::Operation, HeaderName::from_static("x-tallyman-operation")),
    (Dimension::OperationDetail, HeaderName::from_static("x-tallyman-operation_detail")),
    (Dimension::OperationDetail, HeaderName::from_static("x-tallyman-operation-detail")),
    (Dimension::Category, HeaderName::from_static("x-tallyman-category")),
    (Dimension::Tier, HeaderName::from_static("x-tallyman-tier")),
    (Dimension::Workspace, HeaderName::from_static("x-tallyman-workspace")),
    (Dimension::WorkspaceKind, HeaderName::from_static("x-tallyman-workspace_kind")),
    (Dimension::WorkspaceKind, HeaderName::from_static("x-tallyman-workspace-kind")),
    (Dimension::Project, HeaderName::from_static("x-tallyman-project")),
    (Dimension::Department, HeaderName::from_static("x-tallyman-department")),
];
/// Where only heartbeats can end a block: the time between two.
const HEARTBEAT_SECONDS: i64 = 10;

/// What answers checks; clones share it.
#[derive(Clone)]
pub struct Gate {
    pub(super) table: Arc<Table>,
    pub(super) telemetry: Telemetry,
    clock: Arc<dyn Clock>,
    block_status: StatusCode,
}

impl Gate {
    /// Over this table; `block_status` is `gate.block_status`, 403 if it is no status.
    #[must_use]
    pub fn new(table: Arc<Table>, telemetry: Telemetry, clock: Arc<dyn Clock>, block_status: u16) -> Self {
        let block_status = StatusCode::from_u16(block_status).unwrap_or(StatusCode::FORBIDDEN);
        Self { table, telemetry, clock, block_status }
    }

    /// Answers a check with these headers.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        if !self.table.is_ready() {
            let detail = "the decisions have not been read to their end yet; ask again";
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1).into_response();
        }
        if let Some(name) = headers.keys().find(|name| is_stray(name)) {
            self.telemetry.gate_stray_header(name.as_str());
        }
        let (request, fault) = match request(headers) {
            Ok(read) => read,
            Err(detail) => return self.refuse(detail),
        };
        let verdict = self.table.check(&request);
        match fault {
            // What the legible scopes say is enough to block; it is not enough to allow.
            Some(detail) if !verdict.is_blocked() => self.refuse(detail),
            _ => self.respond(&verdict),
        }
    }

    fn refuse(&self, detail: String) -> Response {
        self.telemetry.gate_refused(&detail);
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
    }

    fn respond(&self, verdict: &Verdict) -> Response {
        let (action, reason) = (verdict.action(), verdict.reason());
        self.telemetry.gate_check(action, reason);
        let mut body = verdict.decision_json().map_or_else(
            || format!(r#"{{"action":"{}","reason":"{reason}"}}"#, action.name()).into_bytes(),
            std::borrow::Cow::into_owned,
        );
        body.push(b'\n');
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(ACTION, HeaderValue::from_static(action.name()));
        // A reason of a later version may be no header's text: then the body alone tells it.
        headers.extend(HeaderValue::from_str(reason).ok().map(|reason| (REASON, reason)));
        let scope = verdict.scope().and_then(|scope| HeaderValue::from_str(scope).ok());
        headers.extend(scope.map(|scope| (SCOPE, scope)));
        headers.extend(verdict.version().map(|version| (VERSION, HeaderValue::from(version))));
        if action == Action::Block {
            headers.extend(self.retry_after(verdict).map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))));
            *response.status_mut() = self.block_status;
        }
        response
    }

    /// Whole seconds until the block's period ends, at least one.
    fn retry_after(&self, verdict: &Verdict) -> Option<i64> {
        if verdict.reason() == "STALE" {
            return Some(HEARTBEAT_SECONDS);
        }
        let micros = verdict.reset_at()?.micros_since(self.clock.now());
        Some((micros / 1_000_000 + i64::from(micros % 1_000_000 > 0)).max(1))
    }
}

/// Whether a header looks like a scope and names none: a misspelt one would be a limit that is never asked for.
fn is_stray(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-tallyman-") && *name != ORG && HEADERS.iter().all(|(_, known)| known != name)
}

/// What the headers ask for, and what is wrong with the first dimension whose header is not legible; the error says what is
/// wrong with the org.
fn request(headers: &HeaderMap) -> Result<(Request<'_>, Option<String>), String> {
    let org = value(headers, &ORG)?.ok_or("header x-tallyman-org is missing: the gateway must set it")?;
    if !is_id(org) {
        return Err("header x-tallyman-org is no org id: 1 to 128 of A-Z a-z 0-9 . _ : @ -".into());
    }
    let mut request = Request::of(org);
    let mut fault = None;
    let mut last: Option<(Dimension, &HeaderName)> = None;
    for (dimension, name) in &HEADERS {
        let read = match value(headers, name) {
            Ok(None) => continue,
            Ok(Some(value)) if !is_value(value) => Err(format!("header {name} is longer than 256 bytes")),
            read => read,
        };
        let read = match last.filter(|(set, _)| set == dimension) {
            Some((_, other)) => {
                Err(format!("headers {other} and {name} are one dimension: the gateway must set one"))
            }
            None => read,
        };
        match read {
            Ok(Some(value)) => request = request.with(*dimension, value),
            Ok(None) => {}
            Err(detail) => fault = fault.or(Some(detail)),
        }
        last = Some((*dimension, name));
    }
    Ok((request, fault))
}

/// A header's text; an empty one is none.
fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        // One of them is not the gateway's.
        return Err(format!("header {name} stands there twice: the gateway must overwrite it, not add to it"));
    }
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| format!("header {name} is no UTF-8"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The route of `run`.
pub async fn check(State(state): State<ApiState>, headers: HeaderMap) -> Response {
    match &state.gate {
        Some(gate) => gate.answer(&headers),
        None => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no decisions are followed here").into_response(),
    }
}
