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
use crate::domain::id::{is_id, is_value};
use crate::domain::limits::decision::Action;
use crate::domain::usage::dimension::Dimension;
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
        let Asked { request, others, fault } = match asked(headers) {
            Ok(asked) => asked,
            Err(detail) => return self.refuse(detail),
        };
        let verdict = self.table.check(&request);
        let Some(detail) = fault else { return self.respond(&verdict) };
        // What can be read is enough to block, whichever spelling is the gateway's; it is not enough to allow. So nobody gets past
        // their block with another spelling where a gateway lets a 5xx through.
        let others =
            others.into_iter().map(|(dimension, value)| self.table.check(&request.with(dimension, value)));
        match std::iter::once(verdict).chain(others).find(Verdict::is_blocked) {
            Some(verdict) => self.respond(&verdict),
            None => self.refuse(detail),
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

/// What the headers ask for.
struct Asked<'h> {
    /// The org with the legible values, of two spellings the first.
    request: Request<'h>,
    /// The value of a dimension's other spelling: one of the two is not the gateway's.
    others: Vec<(Dimension, &'h str)>,
    /// What is wrong with a dimension.
    fault: Option<String>,
}

/// Reads the headers; the error is what is wrong with the org.
fn asked(headers: &HeaderMap) -> Result<Asked<'_>, String> {
    let missing = || "header x-tallyman-org is missing: the gateway must set it".to_owned();
    let mut orgs = headers.get_all(&ORG).iter();
    let org = text(&ORG, orgs.next().ok_or_else(missing)?)?;
    match org {
        _ if orgs.next().is_some() => return Err(twice(&ORG)),
        "" => return Err(missing()),
        org if !is_id(org) => {
            return Err("header x-tallyman-org is no org id: 1 to 128 of A-Z a-z 0-9 . _ : @ -".into());
        }
        _ => {}
    }
    let mut asked = Asked { request: Request::of(org), others: Vec::new(), fault: None };
    let mut set: Option<(Dimension, &HeaderName)> = None;
    for (dimension, name) in &HEADERS {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        let read = if values.next().is_some() { Err(twice(name)) } else { text(name, value) };
        match (read, set) {
            (Err(detail), _) => {
                asked.fault.get_or_insert(detail);
            }
            (Ok(""), _) => {}
            (Ok(value), Some((known, other))) if known == *dimension => {
                let both = || format!("headers {other} and {name} are one dimension: the gateway must set one");
                asked.fault.get_or_insert_with(both);
                asked.others.push((*dimension, value));
            }
            (Ok(value), _) => {
                asked.request = asked.request.with(*dimension, value);
                set = Some((*dimension, name));
            }
        }
    }
    Ok(asked)
}

fn twice(name: &HeaderName) -> String {
    format!("header {name} stands there twice: the gateway must overwrite it, not add to it")
}

/// A header's text; an empty one is none.
fn text<'h>(name: &HeaderName, value: &'h HeaderValue) -> Result<&'h str, String> {
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| format!("header {name} is no UTF-8"))?;
    if text.is_empty() || is_value(text) {
        Ok(text)
    } else {
        Err(format!("header {name} is longer than 256 bytes"))
    }
}

/// The route of `run`.
pub async fn check(State(state): State<ApiState>, headers: HeaderMap) -> Response {
    match &state.gate {
        Some(gate) => gate.answer(&headers),
        None => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no decisions are followed here").into_response(),
    }
}
