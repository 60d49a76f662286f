//! `tallyman check-config`: the settings in effect, each with the place that it came from, and whether this machine can
//! hold the stores. Secrets are never shown. It asks nobody else: Kafka is not met.

use std::io::Write;

use super::table::{Output, Table};
use crate::config::{ConfigError, Settings};
use crate::domain::zones;
use crate::store::{self, StoreError};

/// Arguments of `tallyman check-config`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CheckConfigArgs {
    /// How to write the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(settings: &Settings, args: &CheckConfigArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    // What a setting stands for, where that is not the setting's to tell.
    let version = |key: &str| (key == "time.zones").then(zones::version);
    let effective = || settings.effective.iter().map(|set| (&set.key, &set.value, set.origin.to_string()));
    if args.output == Output::Json {
        let all = effective().map(|(key, value, origin)| {
            let mut setting = serde_json::json!({ "value": value, "origin": origin });
            if let Some(version) = version(key) {
                setting["version"] = version.into();
            }
            (key.clone(), setting)
        });
        writeln!(out, "{:#}", serde_json::Value::Object(all.collect()))?;
    } else {
        let mut table = Table::new(["setting", "value", "from"]);
        for (key, value, origin) in effective() {
            let value = version(key).map_or_else(|| value.clone(), |version| format!("{value} ({version})"));
            table.push([key.as_str(), value.as_str(), origin.as_str()]);
        }
        if args.output == Output::Csv { table.write_csv(out)? } else { table.write(out)? }
    }
    if settings.limits_default.is_none() {
        eprintln!("\nThese settings are fine for all commands but `run`. {}", ConfigError::NoDefaultLimits);
    }
    check_machine(settings).map_err(|error| anyhow::anyhow!("`run` would not start here: {error}"))
}

/// What `run` checks before it joins the group, but for the true count of partitions, which Kafka alone knows.
fn check_machine(settings: &Settings) -> Result<(), StoreError> {
    let dir = &settings.store.dir;
    store::check_place(dir, store::space_needed(settings.store_memory_bytes()))?;
    let stored = i32::try_from(store::partitions(dir)?.len()).unwrap_or(i32::MAX);
    store::open_files_of_store(settings.kafka.partitions.max(stored)).map(drop)
}
