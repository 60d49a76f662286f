//! Liveness, readiness and metrics, on the main listener and on the one that is for them alone; and the page that names what
//! there is.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse as _, Response};
use serde_json::json;

use super::ApiState;
use super::json::{Json, prettied};
use super::problem::Problem;
use crate::gateway::table::Table;
use crate::telemetry::{Health, Telemetry};

/// What probes and metrics of a process are answered from; clones share it.
#[derive(Clone)]
pub(super) struct Probes {
    pub(super) telemetry: Telemetry,
    /// Of a processor; a gate is ready by its table alone.
    pub(super) health: Option<Health>,
    pub(super) table: Option<Arc<Table>>,
    /// Whether the metrics name organisations.
    pub(super) shows_orgs: bool,
}

impl Probes {
    /// The answer at a path; `None` where no probe is.
    pub(super) fn answer(&self, path: &str) -> Option<Response> {
        match path {
            // The process runs; it says nothing of its tasks, so that a halted one is not restarted in vain.
            "/livez" => Some("ok\n".into_response()),
            "/readyz" => Some(match (&self.health, &self.table) {
                (Some(health), _) => caught_up(health),
                (None, Some(table)) => has_read(table),
                (None, None) => Json(json!({"ready": true})).into_response(),
            }),
            "/metrics" => Some(self.metrics()),
            _ => None,
        }
    }

    /// Every metric in Prometheus' text format.
    fn metrics(&self) -> Response {
        if let Some(table) = &self.table {
            self.telemetry.gate_heartbeat_age(table.heartbeat_age_seconds());
            self.telemetry.gate_scopes(table.len());
        }
        let text = if self.shows_orgs { self.telemetry.render() } else { self.telemetry.render_without_orgs() };
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
    }

    /// The answer of a listener that has nothing else.
    pub(super) async fn respond(&self, method: &Method, uri: &Uri) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path is read only: GET it").into_response();
        }
        let absent = || Problem::new(StatusCode::NOT_FOUND, "here are /livez, /readyz and /metrics alone");
        let response = self.answer(uri.path()).unwrap_or_else(|| absent().into_response());
        prettied(response, uri.query()).await
    }
}

/// 200 when every assigned task has caught up, else 503 with each reason.
fn caught_up(health: &Health) -> Response {
    let tasks = health.tasks();
    let partitions: serde_json::Map<String, serde_json::Value> =
        tasks.iter().map(|(partition, task)| (partition.to_string(), task.to_string().into())).collect();
    match health.ready() {
        Ok(()) => Json(json!({"ready": true, "partitions": partitions})).into_response(),
        Err(reasons) => {
            let body = json!({"ready": false, "reasons": reasons, "partitions": partitions});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

/// 200 once the decisions have been read to their end. A processor that is silent leaves it ready: `gate.stale` rules.
fn has_read(table: &Table) -> Response {
    let is_ready = table.is_ready();
    let age = table.heartbeat_age_seconds();
    let body = json!({
        "ready": is_ready,
        "scopes": table.len(),
        "heartbeat_age_seconds": age.is_finite().then_some(age),
    });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// The routes of `run`.
pub async fn probe(State(state): State<ApiState>, uri: Uri) -> Response {
    let absent = || Problem::new(StatusCode::NOT_FOUND, "there is no such probe").into_response();
    state.probes(true).answer(uri.path()).unwrap_or_else(absent)
}

/// What there is.
pub async fn index() -> Html<&'static str> {
    Html(include_str!("index.html"))
}
