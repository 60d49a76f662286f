//! What `tallyman gate` serves: checks, probes and metrics, and nothing else. It stands in the way of every request of a
//! gateway, so it does without a router.
//!
//! Host is not looked at: Envoy sends its client's. What a check is: `check`. Its bounds: `listener`.

use std::convert::Infallible;

use axum::Json;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use serde_json::json;
use tokio::net::TcpListener;

use super::HttpError;
use super::check::Gate;
use super::listener;
use super::problem::Problem;

/// Serves until `shutdown` is done, then finishes what is under way, three seconds at most.
///
/// # Errors
/// When the address is beyond loopback.
pub async fn serve_gate(
    tcp: TcpListener,
    gate: Gate,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), HttpError> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = route(&gate, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    listener::serve(tcp, service, shutdown).await
}

fn route(gate: &Gate, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if path.strip_prefix("/v1/check").is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return gate.answer(request.headers());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path is read only: GET it").into_response();
    }
    match path {
        "/livez" => "ok\n".into_response(),
        "/readyz" => ready(gate),
        "/metrics" => {
            gate.telemetry.gate_heartbeat_age(gate.table.heartbeat_age_seconds());
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            (kind, gate.telemetry.render()).into_response()
        }
        _ => {
            let detail = "here are /v1/check/*, /livez, /readyz and /metrics";
            Problem::new(StatusCode::NOT_FOUND, detail).into_response()
        }
    }
}

/// 200 once the decisions have been read to their end. A processor that is silent leaves it ready: `gate.stale` rules.
fn ready(gate: &Gate) -> Response<Body> {
    let is_ready = gate.table.is_ready();
    let age = gate.table.heartbeat_age_seconds();
    let body = json!({
        "ready": is_ready,
        "scopes": gate.table.len(),
        "heartbeat_age_seconds": age.is_finite().then_some(age),
    });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}
