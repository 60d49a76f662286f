//! HTTP: probes, metrics and the read API (CONTRACT.md, HTTP). The only importer of axum; it renders what `query/`
//! answers and computes nothing of its own.
//!
//! It listens on loopback only, for nobody is asked who they are yet, and takes only requests whose Host names
//! loopback, so that no web page can read it through a name of its own (DNS rebinding). Probes and metrics may have a
//! listener of their own anywhere. Store reads run beside the async threads and a bounded number at once (Law 6).
//!
//! The way of a request: `listener` -> `guard` (Host, deadline, metrics) -> `probes`, `check`, `orgs`, `terms` or `usage` -> `ask` ->
//! `query/`.
//! What an answer is written as: `json`, `etag`, `accept`. Errors: `problem`; what hyper refuses by itself: `door`.

mod accept;
mod check;
mod door;
mod dto;
mod etag;
mod explain;
mod gate;
mod guard;
mod json;
mod listener;
mod object;
mod orgs;
mod probes;
mod problem;
mod simulate;
mod terms;
mod usage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{any, get, post};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use crate::query::{Query, QueryError, Standing};
use crate::telemetry::{Health, TaskState, Telemetry};
pub use check::Gate;
pub use gate::serve_gate;
pub use listener::Listeners;
pub use problem::Problem;

use object::Object;
use probes::Probes;

/// Questions that read stores at the same time; more wait for their turn until their deadline.
const QUESTIONS_MAX: usize = 4;
/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_secs(15);

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address can be reached from other machines, and nobody is asked who they are yet.
    #[error(
        "http.listen = \"{0}\" is beyond loopback, and requests are not authenticated yet: listen on 127.0.0.1 or \
         [::1], and let a proxy that authenticates stand before it"
    )]
    BeyondLoopback(SocketAddr),
    /// The listener failed.
    #[error("the HTTP listener failed: {0}; check http.listen and the limit of open files")]
    Listener(#[from] std::io::Error),
}

/// What every request needs; clones share it.
#[derive(Clone)]
pub struct ApiState {
    query: Arc<Query>,
    telemetry: Telemetry,
    health: Health,
    questions: Arc<Semaphore>,
    gate: Option<Gate>,
    probe_orgs: bool,
}

impl ApiState {
    /// Over these questions, metrics and health.
    #[must_use]
    pub fn new(query: Query, telemetry: Telemetry, health: Health) -> Self {
        let questions = Arc::new(Semaphore::new(QUESTIONS_MAX));
        Self { query: Arc::new(query), telemetry, health, questions, gate: None, probe_orgs: false }
    }

    /// The same, answering checks too.
    #[must_use]
    pub fn with_gate(self, gate: Gate) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// The same; `probe_orgs` is whether the probes' listener names organisations in its metrics.
    #[must_use]
    pub fn with_probe_orgs(self, probe_orgs: bool) -> Self {
        Self { probe_orgs, ..self }
    }

    fn probes(&self, shows_orgs: bool) -> Probes {
        let table = self.gate.as_ref().map(|gate| Arc::clone(&gate.table));
        Probes { telemetry: self.telemetry.clone(), health: Some(self.health.clone()), table, shows_orgs }
    }

    /// Asks the stores, beside the async threads and a bounded number at once.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Query) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, Problem> {
        let internal =
            |what: &str| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{what}; see the log"));
        let turn = Arc::clone(&self.questions).acquire_owned().await.map_err(|_| internal("no turn was given"))?;
        let query = Arc::clone(&self.query);
        let asked = tokio::task::spawn_blocking(move || {
            // Held by the read itself: one whose request gave up counts until it ends.
            let _turn = turn;
            question(&query)
        });
        match asked.await.map_err(|_| internal("the question panicked"))? {
            Err(QueryError::NotHere { org, partition }) => Err(self.not_here(org, partition)),
            other => Ok(other?),
        }
    }

    /// As [`ApiState::ask`], for an answer that its content names: its bytes too are made beside the async threads, which probes
    /// and checks share.
    async fn answer(
        &self,
        headers: HeaderMap,
        question: impl FnOnce(&Query) -> Result<(Object, Option<Standing>), QueryError> + Send + 'static,
    ) -> Result<Response, Problem> {
        self.ask(move |query| {
            let (body, standing) = question(query)?;
            etag::by_content(&headers, body, standing.as_ref())
        })
        .await
    }

    /// What to tell of an org whose partition has no open store here.
    fn not_here(&self, org: String, partition: i32) -> Problem {
        let owned = self.health.tasks().into_iter().find(|(owned, _)| *owned == partition);
        let (detail, seconds) = match owned.map(|(_, task)| task) {
            // It may wait for a person, which takes longer than a restore.
            Some(TaskState::Halted { reason, .. }) => (
                format!(
                    "org `{org}` stands in partition {partition}, which is halted ({reason}): /readyz says why"
                ),
                30,
            ),
            Some(_) => {
                (format!("org `{org}` stands in partition {partition}, which is being restored; ask again"), 2)
            }
            // 421 would send the caller to an owner that nobody can name, and perhaps there is none.
            None if !self.health.is_member() => {
                let detail = format!(
                    "org `{org}` stands in partition {partition}; this instance is not in the group now, so it does not \
                     know who owns that: /readyz says why; ask again"
                );
                (detail, 2)
            }
            None => return QueryError::NotHere { org, partition }.into(),
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).about(partition).retry_after(seconds)
    }
}

/// Refuses addresses that other machines can reach.
///
/// # Errors
/// [`HttpError::BeyondLoopback`].
pub const fn check_listen(address: SocketAddr) -> Result<(), HttpError> {
    if address.ip().is_loopback() { Ok(()) } else { Err(HttpError::BeyondLoopback(address)) }
}

/// Whether a gateway asks at this path whether a request may go on.
fn is_check(path: &str) -> bool {
    path.strip_prefix("/v1/check").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Serves until `shutdown` is done, then finishes what is under way, three seconds at most.
///
/// # Errors
/// When the address of the main listener is beyond loopback.
pub async fn serve(
    listeners: impl Into<Listeners>,
    state: ApiState,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), HttpError> {
    let probes = state.probes(state.probe_orgs);
    listener::serve(listeners.into(), TowerToHyperService::new(router(state)), probes, shutdown).await
}

fn router(state: ApiState) -> Router {
    Router::new()
        .route("/", get(probes::index))
        .route("/livez", get(probes::probe))
        .route("/readyz", get(probes::probe))
        .route("/metrics", get(probes::probe))
        .route("/v1/orgs", get(orgs::list))
        .route("/v1/orgs/{org}", get(orgs::summary))
        .route("/v1/orgs/{org}/periods", get(orgs::periods))
        .route("/v1/orgs/{org}/usage", get(usage::usage))
        .route("/v1/orgs/{org}/decisions", get(orgs::decisions))
        .route("/v1/orgs/{org}/policy", get(terms::policy))
        .route("/v1/orgs/{org}/policy/history", get(terms::history))
        .route("/v1/orgs/{org}/explain", get(explain::explain))
        .route("/v1/orgs/{org}/simulate", post(simulate::simulate))
        .route("/v1/orgs/{org}/budgets", get(terms::budgets))
        .route("/v1/orgs/{org}/grants", get(terms::grants))
        .route("/v1/orgs/{org}/labels", get(terms::labels))
        .route("/v1/check", any(check::check))
        .route("/v1/check/", any(check::check))
        .route("/v1/check/{*path}", any(check::check))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "nothing is at this path; / names what there is"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes GET alone, /simulate POST alone")
        })
        .layer(from_fn_with_state(state.clone(), guard::guard))
        .with_state(state)
}

/// A request's query parameters in their order.
struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let params = axum::extract::Query::try_from_uri(&parts.uri);
        let axum::extract::Query(mut params): axum::extract::Query<Vec<(String, String)>> =
            params.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
        // What is no UTF-8 was replaced: it must not be taken for another value.
        let raw = parts.uri.query().unwrap_or_default().to_ascii_uppercase();
        let replaced = |text: &String| text.matches(char::REPLACEMENT_CHARACTER).count();
        let marks: usize = params.iter().map(|(name, value)| replaced(name) + replaced(value)).sum();
        if marks > raw.matches("%EF%BF%BD").count() {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "a parameter is no UTF-8: encode it byte by byte, as %C3%A4",
            ));
        }
        if let Err(other) = json::wants_pretty(&params) {
            let detail = format!("`pretty` is `{other}`: give it without a value, or as true or false");
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        // Every path takes it, and `guard` does it.
        params.retain(|(name, _)| name != "pretty");
        Ok(Self(params))
    }
}

/// The org that a request's path names; checked by the query room.
struct Org(String);

impl<S: Send + Sync> FromRequestParts<S> for Org {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let org = Path::<String>::from_request_parts(parts, state).await;
        let Path(org) = org.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
        Ok(Self(org))
    }
}
