//! `tallyman policy`: writes terms into the policies topic (`apply`), and asks a running instance which are in force
//! and who changed what. It computes nothing: what it prints is what `/v1/orgs/...` says.

use std::io::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::apply::{self, ApplyArgs, one_line};
use super::base_url;
use super::query::{Api, cell, org_path, write_fields, write_json};
use super::table::{Output, Table};
use crate::codec::Fields;
use crate::config::Settings;

/// `tallyman policy ...`.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum PolicyCommand {
    /// Write terms: YAML or JSON documents of `type: OrgPolicy | Budget | CreditGrant | Label | PurchaseDeclined`
    Apply(ApplyArgs),
    /// Ask a running instance what is in force for an organisation
    Get(GetArgs),
    /// Ask a running instance who changed an organisation's terms, and how
    History(HistoryArgs),
}

/// Which terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// The policy in force
    #[default]
    Policy,
    /// Budgets: in force, scheduled and ended
    Budgets,
    /// Grants: in force, scheduled and ended
    Grants,
    /// Display names
    Labels,
}

/// Arguments of `tallyman policy get`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct GetArgs {
    /// The organisation's id
    org: String,
    /// Which of its terms
    #[arg(value_enum, default_value_t)]
    kind: Kind,
    #[command(flatten)]
    asking: Asking,
}

/// Arguments of `tallyman policy history`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// The organisation's id
    org: String,
    #[command(flatten)]
    asking: Asking,
}

/// What every reading command takes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Asking {
    /// The instance's address [default: that of http.listen]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

impl Asking {
    /// The instance to ask.
    pub(super) fn api(&self, settings: &Settings) -> Api {
        Api::new(self.url.as_deref().unwrap_or(&base_url(settings)))
    }
}

pub(super) fn run(settings: &Settings, command: &PolicyCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Apply(args) => apply::run(settings, args, out),
        PolicyCommand::Get(args) => get(settings, args, out),
        PolicyCommand::History(args) => history(settings, args, out),
    }
}

fn get(settings: &Settings, args: &GetArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let api = args.asking.api(settings);
    let (list, path) = match args.kind {
        Kind::Policy => return policy(&api, args, out),
        Kind::Budgets => ("budgets", "/budgets"),
        Kind::Grants => ("grants", "/grants"),
        Kind::Labels => ("labels", "/labels"),
    };
    let answer: Fields = api.get(&org_path(&args.org, path)?, &[])?;
    if args.asking.output == Output::Json {
        return Ok(write_json(&answer, out)?);
    }
    let mut rows: Vec<(&str, Fields)> = Vec::new();
    for (state, name) in [("in force", list), ("scheduled", "scheduled"), ("ended", "ended")] {
        let records = answer.get(name).cloned().unwrap_or(Value::Array(Vec::new()));
        let records: Vec<Fields> = serde_json::from_value(records)?;
        rows.extend(records.into_iter().map(|record| (state, record)));
    }
    let Some((_, first)) = rows.first() else {
        writeln!(out, "{} has no {list}", args.org)?;
        return Ok(());
    };
    let told = |name: &&str| !matches!(*name, "type" | "org_id");
    let columns: Vec<&str> = first.0.iter().map(|(name, _)| name.as_str()).filter(told).collect();
    let mut table = Table::new(std::iter::once("state").chain(columns.iter().copied()));
    for (state, record) in &rows {
        let value = |name: &&str| record.get(name).map(cell).unwrap_or_default();
        table.push(std::iter::once((*state).to_owned()).chain(columns.iter().map(value)));
    }
    Ok(if args.asking.output == Output::Csv { table.write_csv(out) } else { table.write(out) }?)
}

fn policy(api: &Api, args: &GetArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        policy: Option<Fields>,
    }
    let answer: Answer = api.get(&org_path(&args.org, "/policy")?, &[])?;
    match answer.policy {
        Some(policy) => Ok(write_fields(&policy, args.asking.output, out)?),
        None => anyhow::bail!("{} has no policy in force: `limits.default` holds", args.org),
    }
}

/// One record and what it changed.
#[derive(Deserialize, Serialize)]
struct Change {
    offset: i64,
    #[serde(rename = "type")]
    kind: String,
    id: String,
    effective_at: Option<String>,
    updated_by: Option<String>,
    follows: Option<i64>,
    changed: Vec<Changed>,
}

#[derive(Deserialize, Serialize)]
struct Changed {
    field: String,
    from: Value,
    to: Value,
}

fn history(settings: &Settings, args: &HistoryArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    #[derive(Deserialize, Serialize)]
    struct Answer {
        changes: Vec<Change>,
    }
    let path = org_path(&args.org, "/policy/history")?;
    let answer: Answer = args.asking.api(settings).get(&path, &[])?;
    if args.asking.output == Output::Json {
        return Ok(write_json(&answer, out)?);
    }
    let header = ["offset", "type", "id", "effective_at", "updated_by", "changed"];
    let mut table = Table::new(header);
    for change in answer.changes {
        let told = |Changed { field, from, to }: &Changed| match change.follows {
            Some(_) => format!("{field}: {} -> {}", one_line(from), one_line(to)),
            None => format!("{field}: {}", one_line(to)),
        };
        let mut changed: Vec<String> =
            change.changed.iter().filter(|changed| changed.field != "effective_at").map(told).collect();
        if changed.is_empty() {
            changed.push("nothing".to_owned());
        }
        table.push([
            change.offset.to_string(),
            change.kind,
            change.id,
            change.effective_at.unwrap_or_default(),
            change.updated_by.unwrap_or_default(),
            changed.join("; "),
        ]);
    }
    Ok(if args.asking.output == Output::Csv { table.write_csv(out) } else { table.write(out) }?)
}
