//! `tallyman check-config`: the settings in effect, each with the place that it came from. Secrets are never shown.

use std::io::Write;

use super::table::{Output, Table};
use crate::config::{ConfigError, Settings};

/// Arguments of `tallyman check-config`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CheckConfigArgs {
    /// How to write the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(settings: &Settings, args: &CheckConfigArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let effective = || settings.effective.iter().map(|set| (&set.key, &set.value, set.origin.to_string()));
    if args.output == Output::Json {
        let all = effective()
            .map(|(key, value, origin)| (key.clone(), serde_json::json!({ "value": value, "origin": origin })));
        writeln!(out, "{:#}", serde_json::Value::Object(all.collect()))?;
    } else {
        let mut table = Table::new(["setting", "value", "from"]);
        for (key, value, origin) in effective() {
            table.push([key.as_str(), value.as_str(), origin.as_str()]);
        }
        if args.output == Output::Csv { table.write_csv(out)? } else { table.write(out)? }
    }
    if settings.limits_default.is_none() {
        eprintln!("\nThese settings are fine for all commands but `run`. {}", ConfigError::NoDefaultLimits);
    }
    Ok(())
}
