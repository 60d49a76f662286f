//! The listener of `tallyman gate`: checks, probes and metrics, and nothing else. It stands in the way of every request of a
//! gateway, so it is hyper without a router: bounded connections and headers, a deadline for slow ones (Law 6).
//!
//! Host is not looked at: Envoy sends its client's. What a check is: `check`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::check::Gate;
use super::problem::Problem;
use super::{DRAIN_MAX, HttpError, check_listen};

/// Connections at the same time; more wait to be accepted.
pub const CONNECTIONS_MAX: usize = 512;
/// What a connection may hold of a request: above what nginx and Envoy let their own clients send.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// How long a connection may take to send a request's head, or to stay idle: above nginx's keep-alive of 60 s.
const HEAD_MAX: Duration = Duration::from_secs(75);
/// After a failed accept (no file is left to open): others may end meanwhile.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Serves until `shutdown` is done, then finishes what is under way, three seconds at most.
///
/// # Errors
/// When the address is beyond loopback.
pub async fn serve_gate(
    listener: TcpListener,
    gate: Gate,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), HttpError> {
    check_listen(listener.local_addr()?)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopped) = watch::channel(());
    let accept = async {
        // The semaphore is never closed.
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (gate, stopped) = (gate.clone(), stopped.clone());
                    tokio::spawn(async move {
                        connection(stream, gate, stopped).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
    drop(stop);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    // Those that do not end in time are cut off with the process.
    drop(tokio::time::timeout(DRAIN_MAX, slots.acquire_many(all)).await);
    Ok(())
}

async fn connection(stream: TcpStream, gate: Gate, mut stopped: watch::Receiver<()>) {
    // An answer is one small write: it must not wait for more.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let response = route(&gate, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(BUFFER_BYTES_MAX);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    // A client that goes away is no fault of ours.
    tokio::select! {
        _ = serving.as_mut() => {}
        // The sender's end is the signal.
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
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
