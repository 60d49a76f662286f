//! Liveness, readiness, metrics, and the page that names what there is.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

use super::ApiState;

/// The process runs; says nothing of its tasks, so that a halted one is not restarted in vain.
pub async fn livez() -> &'static str {
    "ok\n"
}

/// 200 when every assigned task has caught up, else 503 with each reason.
pub async fn readyz(State(state): State<ApiState>) -> Response {
    let tasks = state.health.tasks();
    let partitions: serde_json::Map<String, serde_json::Value> =
        tasks.iter().map(|(partition, task)| (partition.to_string(), task.to_string().into())).collect();
    match state.health.ready() {
        Ok(()) => Json(json!({"ready": true, "partitions": partitions})).into_response(),
        Err(reasons) => {
            let body = json!({"ready": false, "reasons": reasons, "partitions": partitions});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

/// Every metric in Prometheus' text format.
pub async fn metrics(State(state): State<ApiState>) -> Response {
    if let Some(gate) = &state.gate {
        state.telemetry.gate_heartbeat_age(gate.table.heartbeat_age_seconds());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.telemetry.render())
        .into_response()
}

/// What there is.
pub async fn index() -> Html<&'static str> {
    Html(include_str!("index.html"))
}
