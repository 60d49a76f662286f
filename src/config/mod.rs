//! Settings: one TOML file laid over the defaults, the environment laid over the file, all of it checked before
//! anything starts. Nothing here opens a socket; the only files read are the config and those that `*_file` names.
//!
//! The way of a setting: `entries.rs` (flat, raw) -> `reader.rs` (taken, parsed, unknown ones told) -> [`Settings`].
//! Every key with its default and meaning: `config/tallyman.toml`.

mod entries;
mod limits;
mod read;
mod reader;
mod units;
mod zones;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use entries::Origin;
pub use units::duration;

use crate::codec::OutputEncoding;
use crate::domain::terms::records::DefaultTerms;
use crate::gateway::table::Rules;
use crate::kafka::KafkaSettings;
use crate::telemetry::log::LogFormat;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file cannot be read.
    #[error("cannot read the config file {path}: {source}; name another with --config or TALLYMAN_CONFIG")]
    Unreadable {
        /// The path as given.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: not valid TOML: {message}")]
    Syntax {
        /// File and line.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// Settings are unknown or out of bounds.
    #[error("the configuration cannot be used:\n  {}", .0.join("\n  "))]
    Invalid(Vec<String>),
    /// `run` was asked for without saying what an org without a policy gets.
    #[error(
        "`limits.default` is not set: say what an organisation without a policy gets.\n  In the config file:  \
         [limits]\n                       default = \"allow\"   # or \"block\", or a table with an OrgPolicy's \
         fields\n  Or in the environment:  TALLYMAN__LIMITS__DEFAULT=allow"
    )]
    NoDefaultLimits,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Whether librdkafka's setting of that name holds a secret.
fn is_secret(name: &str) -> bool {
    ["password", "secret", "key.pem", "ssl_key", "oauthbearer.config", "token"]
        .iter()
        .any(|part| name.contains(part))
}

/// `[registry]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Base address of a Confluent-compatible schema registry, such as `http://127.0.0.1:8081`.
    pub url: Option<String>,
    /// User of its basic authentication.
    pub username: Option<String>,
    /// Password of its basic authentication.
    pub password: Option<Secret>,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Directory of the stores, one folder a partition.
    pub dir: PathBuf,
}

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to listen; loopback. Port 0 picks one.
    pub listen: SocketAddr,
    /// How other instances reach this one, `host:port`; `None` = the address it listens on.
    pub advertise: Option<String>,
    /// Where probes and metrics are served alone, which may be beyond loopback; `None` = nowhere else.
    pub probe_listen: Option<SocketAddr>,
}

/// `[gate]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Where `tallyman gate` listens; loopback. Port 0 picks one.
    pub listen: SocketAddr,
    /// Where `tallyman gate` serves probes and metrics alone, which may be beyond loopback; `None` = nowhere else.
    pub probe_listen: Option<SocketAddr>,
    /// What decisions do not settle.
    pub rules: Rules,
    /// The status of a block: 403, 402 or 429.
    pub block_status: u16,
}

/// `[time]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeBounds {
    /// How far `occurred_at` may lie past the record's own time.
    pub max_future: Duration,
    /// How far a UsageEvent's `occurred_at` may lie before it.
    pub max_age: Duration,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A filter, such as `info` or `tallyman=debug,warn`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// One setting in effect, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Its dotted key.
    pub key: String,
    /// Its value; `(secret)` for a secret.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The cluster and its topics.
    pub kafka: KafkaSettings,
    /// Run although a topic has other settings than CONTRACT.md's.
    pub accept_topic_settings: bool,
    /// How decisions and alerts are written.
    pub output_encoding: OutputEncoding,
    /// The schema registry.
    pub registry: Registry,
    /// The stores.
    pub store: Store,
    /// What caches and write buffers may take together, at least 64 MiB.
    pub memory_limit_bytes: u64,
    /// The HTTP interface.
    pub http: Http,
    /// What checks are answered with.
    pub gate: Gate,
    /// What an org without a policy gets, see [`Settings::default_terms`].
    pub limits_default: Option<DefaultTerms>,
    /// How far ahead limits are guarded; `None` without a guard.
    pub limits_guard: Option<Duration>,
    /// For how long of log time an id is remembered.
    pub dedupe_window: Duration,
    /// What ages of records are taken.
    pub time: TimeBounds,
    /// Orgs with gauges of their own, 0..=1000.
    pub top_orgs: usize,
    /// Whether the metrics at `http.probe_listen` name organisations too.
    pub probe_orgs: bool,
    /// Log lines.
    pub log: Log,
    /// Every setting as it came out, with its origin, for `check-config`.
    pub effective: Vec<Effective>,
}

impl Settings {
    /// Bytes that read caches, write buffers and filters of all stores may take together: half of `memory.limit`. A quarter is
    /// for rows that wait for a flush, the rest for what is fetched and on its way.
    #[must_use]
    pub const fn store_memory_bytes(&self) -> u64 {
        self.memory_limit_bytes / 2
    }

    /// What an org without a policy gets. `run` must know; other commands do not ask.
    ///
    /// # Errors
    /// [`ConfigError::NoDefaultLimits`], which says how to set it.
    pub fn default_terms(&self) -> Result<&DefaultTerms, ConfigError> {
        self.limits_default.as_ref().ok_or(ConfigError::NoDefaultLimits)
    }
}

/// The settings of this process: of `--config`, else of the file that `TALLYMAN_CONFIG` names, else the defaults; the
/// environment's `TALLYMAN__SECTION__KEY` over all.
///
/// # Errors
/// When the file cannot be read or any setting is unknown or out of bounds; every problem is told.
pub fn load(path: Option<&Path>) -> Result<Settings, ConfigError> {
    let named = std::env::var_os("TALLYMAN_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let Some(path) = path.map(Path::to_owned).or(named) else { return resolve(None, environment()) };
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(&path).map_err(|source| ConfigError::Unreadable { path: name.clone(), source })?;
    resolve(Some((&name, &text)), environment())
}

/// What of the environment is text; nothing else can be a setting.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The settings of a file's (path, text) and an environment: what [`load`] does, without touching the process.
///
/// # Errors
/// As [`load`].
pub fn resolve(
    file: Option<(&str, &str)>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let mut entries = file.map(|(path, text)| entries::from_file(path, text)).transpose()?.unwrap_or_default();
    let strays = entries::overlay(&mut entries, env);
    read::settings(reader::Reader::new(entries, strays))
}

#[cfg(test)]
mod tests;
