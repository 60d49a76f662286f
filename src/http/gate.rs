//! What `tallyman gate` serves: checks, probes and metrics, and nothing else. It stands in the way of every request of a
//! gateway, so it does without a router.
//!
//! Host is not looked at: Envoy sends its client's. What a check is: `check`. Its bounds: `listener`.

use std::convert::Infallible;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;

use super::check::Gate;
use super::listener::{self, Listeners};
use super::probes::Probes;
use super::{HttpError, is_check};

/// Serves until `shutdown` is done, then finishes what is under way, three seconds at most.
///
/// # Errors
/// When the address of the main listener is beyond loopback.
pub async fn serve_gate(
    listeners: impl Into<Listeners>,
    gate: Gate,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), HttpError> {
    let (telemetry, table) = (gate.telemetry.clone(), Some(gate.table.clone()));
    let probes = Probes { telemetry, health: None, table, shows_orgs: true };
    let also = probes.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let checked = is_check(request.uri().path()).then(|| gate.answer(request.headers()));
        let probes = probes.clone();
        async move {
            Ok::<_, Infallible>(match checked {
                Some(response) => response,
                None => probes.respond(request.method(), request.uri()).await,
            })
        }
    });
    listener::serve(listeners.into(), service, also, shutdown).await
}
