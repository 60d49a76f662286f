//! Raw settings: the file and the environment as one flat list of dotted keys, each with the place it came from.
//! Nothing is judged here; `reader.rs` next.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// What the name of an environment variable begins with.
const PREFIX: &str = "TALLYMAN__";
/// What one begins with that is a setting with `_` in the place of `__`, or none of ours, such as those that Kubernetes
/// makes for a service of that name.
const NEAR: &str = "TALLYMAN_";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The config file.
    File {
        /// Its path as given.
        path: String,
        /// 1-based.
        line: usize,
    },
    /// An environment variable.
    Env(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Env(name) => f.write_str(name),
        }
    }
}

/// A value as it was written. Scalars stay texts, so that the file and the environment mean the same and a decimal
/// never passes through a float.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    Scalar(String),
    List(Vec<String>),
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// Every entry by its dotted key; tables of a list are `list[0].name`, ...
pub(super) type Entries = BTreeMap<String, Entry>;

struct File<'a> {
    path: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, at: usize) -> Origin {
        let line = self.text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        Origin::File { path: self.path.to_owned(), line }
    }

    fn table(&self, prefix: &str, table: &DeTable<'_>, entries: &mut Entries) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            let origin = self.origin(name.span().start);
            match value.get_ref() {
                DeValue::Table(inner) => self.table(&key, inner, entries),
                DeValue::Array(items) if items.iter().any(|item| matches!(item.get_ref(), DeValue::Table(_))) => {
                    for (place, item) in items.iter().enumerate() {
                        if let DeValue::Table(inner) = item.get_ref() {
                            self.table(&format!("{key}[{place}]"), inner, entries);
                        }
                    }
                }
                DeValue::Array(items) => {
                    let list = items.iter().map(|item| scalar(item.get_ref())).collect();
                    entries.insert(key, Entry { raw: Raw::List(list), origin });
                }
                value => {
                    entries.insert(key, Entry { raw: Raw::Scalar(scalar(value)), origin });
                }
            }
        }
    }
}

fn scalar(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(switch) => switch.to_string(),
        DeValue::Datetime(instant) => instant.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => "(nested)".to_owned(),
    }
}

/// The file's entries.
pub(super) fn from_file(path: &str, text: &str) -> Result<Entries, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let place = File { path, text }.origin(at).to_string();
        ConfigError::Syntax { place, message: error.message().to_owned() }
    })?;
    let mut entries = Entries::new();
    File { path, text }.table("", table.get_ref(), &mut entries);
    Ok(entries)
}

/// Lays the environment over the entries: `TALLYMAN__KAFKA__GROUP_ID` is `kafka.group_id`. librdkafka's own names have
/// dots where a variable's name cannot: `TALLYMAN__KAFKA__CLIENT__SASL_PASSWORD` is `kafka.client.sasl.password`.
/// Gives back the names that may be misspelt settings.
pub(super) fn overlay(entries: &mut Entries, env: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let mut strays = Vec::new();
    for (name, value) in env {
        let Some(path) = name.strip_prefix(PREFIX) else {
            strays.extend(name.starts_with(NEAR).then_some(name));
            continue;
        };
        let mut key = path.to_lowercase().replace("__", ".");
        if let Some(client) = key.strip_prefix("kafka.client.") {
            let (client, file) = client.strip_suffix("_file").map_or((client, ""), |client| (client, "_file"));
            key = format!("kafka.client.{}{file}", client.replace('_', "."));
        }
        // A secret set in the environment replaces the file that the config names for it, and the other way round.
        let other = key.strip_suffix("_file").map_or_else(|| format!("{key}_file"), str::to_owned);
        entries.remove(&other);
        entries.insert(key, Entry { raw: Raw::Scalar(value), origin: Origin::Env(name) });
    }
    strays
}

/// The variable that a misspelt name means: with two underscores before the section and before the key, where it has them in
/// one of the places, or where its words are those of a known key.
pub(super) fn meant<'k>(stray: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let path = stray.strip_prefix(NEAR)?;
    let words = |text: &str| text.to_lowercase().replace(['.', '_'], "");
    let key = known.into_iter().find(|key| words(key) == words(path));
    let spelt = key.map(|key| key.to_uppercase().replace('.', "__"));
    Some(format!("{PREFIX}{}", spelt.or_else(|| path.contains("__").then(|| path.to_owned()))?))
}
