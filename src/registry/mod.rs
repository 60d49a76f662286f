//! The client of a Confluent-compatible schema registry: schemas by id, cached for good, and registration of our own.
//!
//! A call takes about two seconds at most and never waits for an outage to end: after a failure the registry is left alone
//! for a growing while, in which every call fails at once. The caller holds its records back meanwhile (Law 7).
//! Only the registry's own words deny an id, and only when they stand for a while (`denials`): a wrong path, an ingress or a
//! follower that is behind is no record's fault.
//! Secrets never reach an error or a log. The port that this fills: `codec::schemas::SchemaRegistry`.

mod address;
mod denials;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::Agent;

use self::address::Address;
use self::denials::{BELIEVED_AFTER, Denials, Standing};
pub use crate::codec::schemas::{RegistryError, SchemaRegistry};

const CALL_MAX: Duration = Duration::from_secs(2);
const CONNECT_MAX: Duration = Duration::from_secs(1);
const SILENCE_MIN: Duration = Duration::from_millis(100);
const SILENCE_MAX: Duration = Duration::from_secs(5);
const SCHEMA_BYTES_MAX: u64 = 1 << 20;
/// "Schema not found" in the registry's own JSON.
const SCHEMA_NOT_FOUND: u32 = 40403;
/// The most characters of a foreign answer that are shown.
const SHOWN_MAX: usize = 120;
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
    denials: Denials,
    failures: u32,
    /// What the last call met, while the registry is left alone.
    failed: String,
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

#[derive(Deserialize)]
struct ErrorAnswer {
    error_code: u32,
    #[serde(default)]
    message: String,
}

/// What the registry says.
enum Answer {
    /// What was asked for.
    Given(String),
    /// It has no such schema: its message.
    Denied(String),
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

    /// One call, unless the registry is being left alone.
    fn call(&self, path: &str, body: Option<&str>) -> Result<Answer, RegistryError> {
        {
            let state = self.state();
            let left = state.silent_until.and_then(|until| until.checked_duration_since(Instant::now()));
            if let Some(left) = left {
                let (failed, left) = (&state.failed, left.as_millis());
                return Err(RegistryError(format!("{} {failed}; asked again in {left} ms", self.address)));
            }
        }
        let answer = self.exchange(path, body);
        let mut state = self.state();
        if let Err(what) = &answer {
            self.errors.fetch_add(1, Ordering::Relaxed);
            let silence = SILENCE_MIN.saturating_mul(1 << state.failures.min(8)).min(SILENCE_MAX);
            state.silent_until = Some(Instant::now() + silence);
            state.failures = state.failures.saturating_add(1);
            state.failed.clone_from(what);
        } else {
            (state.failures, state.silent_until) = (0, None);
        }
        drop(state);
        answer.map_err(|what| RegistryError(format!("{} {what}", self.address)))
    }

    fn exchange(&self, path: &str, body: Option<&str>) -> Result<Answer, String> {
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
        let text = response.body_mut().with_config().limit(SCHEMA_BYTES_MAX).read_to_string();
        match status {
            200..=299 => text.map(Answer::Given).map_err(told),
            401 | 403 => {
                Err(format!("refuses our credentials ({status}); set user and password of `registry.url`"))
            }
            409 => Err("refuses the schema as incompatible (409); set its subject's compatibility".to_owned()),
            _ => {
                let text = text.unwrap_or_default();
                match serde_json::from_str(&text) {
                    Ok(ErrorAnswer { error_code: SCHEMA_NOT_FOUND, message })
                        if status == 404 && body.is_none() =>
                    {
                        Ok(Answer::Denied(format!(": {}", shown(&message))))
                    }
                    _ => Err(format!(
                        "answers with status {status} and {:?}; if that is no registry's answer, mend the path of \
                         `registry.url`",
                        shown(&text)
                    )),
                }
            }
        }
    }

    fn schema_text(&self, id: u32) -> Result<Option<String>, RegistryError> {
        match self.call(&format!("/schemas/ids/{id}"), None)? {
            Answer::Given(answer) => {
                let answer: SchemaAnswer = serde_json::from_str(&answer).map_err(|error| self.nonsense(&error))?;
                Ok(Some(answer.schema))
            }
            Answer::Denied(message) => match self.state().denials.hear(id, Instant::now()) {
                Standing::Believed => Ok(None),
                _ => Err(self.denied(id, &message)),
            },
        }
    }

    fn denied(&self, id: u32, message: &str) -> RegistryError {
        let (address, seconds) = (&self.address, BELIEVED_AFTER.as_secs());
        RegistryError(format!(
            "{address} denies schema id {id} (error_code {SCHEMA_NOT_FOUND}{message}); it is asked again for {seconds} s before that is \
             believed"
        ))
    }

    fn nonsense(&self, error: &serde_json::Error) -> RegistryError {
        RegistryError(format!("{} gives no registry's answer ({error}); mend `registry.url`", self.address))
    }
}

/// The beginning of a text in one line.
fn shown(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(SHOWN_MAX).collect()
}

impl SchemaRegistry for Client {
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>, RegistryError> {
        {
            let state = self.state();
            if let Some(schema) = state.schemas.get(&id) {
                return Ok(Some(Arc::clone(schema)));
            }
            match state.denials.standing(id, Instant::now()) {
                Standing::Unknown => {}
                Standing::Denied(_) => return Err(self.denied(id, "")),
                Standing::Believed => return Ok(None),
            }
        }
        let Some(schema) = self.schema_text(id)? else { return Ok(None) };
        let schema: Arc<str> = schema.into();
        let mut state = self.state();
        state.denials.forget(id);
        state.schemas.insert(id, Arc::clone(&schema));
        Ok(Some(schema))
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let body = serde_json::json!({ "schema": schema }).to_string();
        let path = format!("/subjects/{subject}/versions");
        let Answer::Given(answer) = self.call(&path, Some(&body))? else {
            unreachable!("only a question for a schema is denied");
        };
        let answer: IdAnswer = serde_json::from_str(&answer).map_err(|error| self.nonsense(&error))?;
        Ok(answer.id)
    }
}
