//! The client of a Confluent-compatible schema registry: schemas by id, cached for good, and registration of our own.
//!
//! A call takes about two seconds at most and never waits for an outage to end: after a failure the registry is left alone
//! for a growing while, in which every call fails at once. The caller holds its records back meanwhile (Law 7).
//! Secrets never reach an error or a log. The port that this fills: `codec::schemas::SchemaRegistry`.

mod address;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::Agent;

use self::address::Address;
pub use crate::codec::schemas::{RegistryError, SchemaRegistry};

const CALL_MAX: Duration = Duration::from_secs(2);
const CONNECT_MAX: Duration = Duration::from_secs(1);
const SILENCE_MIN: Duration = Duration::from_millis(100);
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long a denied id is denied without asking: it may be given out later.
const DENIED_FOR: Duration = Duration::from_secs(10);
/// Ids that producers made up must not fill the memory (Law 6).
const DENIED_MAX: usize = 10_000;
const SCHEMA_BYTES_MAX: u64 = 1 << 20;
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A registry's client, shared by all workers.
pub struct Client {
    agent: Agent,
    address: Address,
    state: Mutex<State>,
    errors: AtomicU64,
}

#[derive(Default)]
struct State {
    schemas: HashMap<u32, Arc<str>>,
    denied: HashMap<u32, Instant>,
    failures: u32,
    silent_until: Option<Instant>,
}

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
}

#[derive(Deserialize)]
struct IdAnswer {
    id: u32,
}

impl Client {
    /// A client of the registry at `url` (`http://host:8081`, perhaps with a path). Credentials stand in the URL
    /// (`http://user:password@host`), or in `credentials`, which win. Nothing is asked yet.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn new(url: &str, credentials: Option<(&str, &str)>) -> Result<Self, RegistryError> {
        let config = Agent::config_builder()
            .timeout_global(Some(CALL_MAX))
            .timeout_connect(Some(CONNECT_MAX))
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        let address = Address::new(url, credentials).map_err(RegistryError)?;
        Ok(Self { agent: config.into(), address, state: Mutex::default(), errors: AtomicU64::new(0) })
    }

    /// How many calls have failed so far: `tallyman_registry_errors_total`.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call, unless the registry is being left alone. `None` is a 404.
    fn call(&self, path: &str, body: Option<&str>) -> Result<Option<String>, RegistryError> {
        let silent_for = self.state().silent_until.and_then(|until| until.checked_duration_since(Instant::now()));
        if let Some(left) = silent_for {
            let message = format!("{} failed just now; asked again in {} ms", self.address, left.as_millis());
            return Err(RegistryError(message));
        }
        let answer = self.exchange(path, body);
        let mut state = self.state();
        if answer.is_ok() {
            (state.failures, state.silent_until) = (0, None);
        } else {
            self.errors.fetch_add(1, Ordering::Relaxed);
            let silence = SILENCE_MIN.saturating_mul(1 << state.failures.min(8)).min(SILENCE_MAX);
            state.silent_until = Some(Instant::now() + silence);
            state.failures = state.failures.saturating_add(1);
        }
        drop(state);
        answer.map_err(|what| RegistryError(format!("{} {what}", self.address)))
    }

    fn exchange(&self, path: &str, body: Option<&str>) -> Result<Option<String>, String> {
        let url = format!("{}{path}", self.address.base);
        let told = |error: ureq::Error| format!("does not answer: {error}");
        let mut response = match body {
            None => {
                let request = self.agent.get(url).header("Accept", CONTENT_TYPE);
                match &self.address.authorization {
                    Some(value) => request.header("Authorization", value),
                    None => request,
                }
                .call()
            }
            Some(body) => {
                let request =
                    self.agent.post(url).header("Accept", CONTENT_TYPE).header("Content-Type", CONTENT_TYPE);
                match &self.address.authorization {
                    Some(value) => request.header("Authorization", value),
                    None => request,
                }
                .send(body)
            }
        }
        .map_err(told)?;
        let status = response.status().as_u16();
        match status {
            200..=299 => {
                response.body_mut().with_config().limit(SCHEMA_BYTES_MAX).read_to_string().map(Some).map_err(told)
            }
            // An id that the registry cannot even have is denied like one that it does not have.
            400 | 404 | 410 | 422 if body.is_none() => Ok(None),
            401 | 403 => {
                Err(format!("refuses our credentials ({status}); set user and password of `registry.url`"))
            }
            409 => Err("refuses the schema as incompatible (409); set its subject's compatibility".to_owned()),
            _ => Err(format!("answers with status {status}")),
        }
    }
}

impl SchemaRegistry for Client {
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>, RegistryError> {
        {
            let state = self.state();
            if let Some(schema) = state.schemas.get(&id) {
                return Ok(Some(Arc::clone(schema)));
            }
            if state.denied.get(&id).is_some_and(|at| at.elapsed() < DENIED_FOR) {
                return Ok(None);
            }
        }
        let Some(answer) = self.call(&format!("/schemas/ids/{id}"), None)? else {
            let mut state = self.state();
            if state.denied.len() >= DENIED_MAX {
                state.denied.clear();
            }
            state.denied.insert(id, Instant::now());
            return Ok(None);
        };
        let answer: SchemaAnswer = serde_json::from_str(&answer).map_err(|error| self.nonsense(&error))?;
        let schema: Arc<str> = answer.schema.into();
        self.state().schemas.insert(id, Arc::clone(&schema));
        Ok(Some(schema))
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let body = serde_json::json!({ "schema": schema }).to_string();
        let answer = self.call(&format!("/subjects/{subject}/versions"), Some(&body))?;
        let missing = || RegistryError(format!("{} has no API at this path; mend `registry.url`", self.address));
        let answer: IdAnswer =
            serde_json::from_str(&answer.ok_or_else(missing)?).map_err(|error| self.nonsense(&error))?;
        Ok(answer.id)
    }
}

impl Client {
    fn nonsense(&self, error: &serde_json::Error) -> RegistryError {
        RegistryError(format!("{} gives no registry's answer ({error}); mend `registry.url`", self.address))
    }
}
