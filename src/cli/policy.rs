//! `tallyman policy`: writes terms into the policies topic, and asks a running instance which are in force. Nothing is
//! ever overwritten: to apply is to append, and the latest that is in effect counts.

use std::io::{Read as _, Write};
use std::time::Duration;

use super::Usage;
use super::base_url;
use super::query::{Api, Fields, org_path, write_fields};
use super::table::Output;
use crate::clock::{Clock as _, SystemClock};
use crate::codec::terms_document::{DocumentDefaults, parse};
use crate::codec::{ValueEncoding, encode_terms, terms_json};
use crate::config::Settings;
use crate::domain::terms::TermsRecord;
use crate::kafka::{Producer, Sent};

/// How long the cluster may take to acknowledge.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(30);

/// `tallyman policy ...`.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum PolicyCommand {
    /// Write the terms of a YAML or JSON file: documents of `type: OrgPolicy` and its fields
    Apply(ApplyArgs),
    /// Ask a running instance for an organisation's policy in force
    Get(GetArgs),
}

/// Arguments of `tallyman policy apply`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// The file; `-` is standard input
    file: String,
    /// Check and show the records; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `tallyman policy get`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct GetArgs {
    /// The organisation's id
    org: String,
    /// The instance's address [default: that of http.listen]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(settings: &Settings, command: &PolicyCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Apply(args) => apply(settings, args, out),
        PolicyCommand::Get(args) => get(settings, args, out),
    }
}

fn read(file: &str) -> Result<String, Usage> {
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(drop),
        path => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.map(|()| text).map_err(|error| Usage(format!("cannot read {file}: {error}")))
}

/// All documents are checked before the first is written.
fn apply(settings: &Settings, args: &ApplyArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let updated_by = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let defaults = DocumentDefaults {
        effective_at: SystemClock.now(),
        updated_by: updated_by.unwrap_or_else(|| "policy apply".to_owned()),
    };
    let records = parse(&read(&args.file)?, &defaults)?;
    if records.is_empty() {
        return Err(Usage(format!("{} holds no document", args.file)).into());
    }
    if args.dry_run {
        for record in &records {
            writeln!(out, "{:#}", terms_json(record))?;
        }
        return Ok(());
    }
    let producer = Producer::new(&settings.kafka, "tallyman-policy")?;
    let topic = &settings.kafka.topics.policies;
    for record in &records {
        let mut value = Vec::new();
        encode_terms(record, ValueEncoding::Json, &mut value);
        let key = record.org_id().as_bytes();
        producer.send(topic, &Sent { key: Some(key), value: Some(&value), ..Sent::default() })?;
    }
    producer.flush(ACKNOWLEDGE_MAX)?;
    for record in &records {
        writeln!(out, "{} of {} is written to {topic}{}", record.type_name(), record.org_id(), from_when(record))?;
    }
    Ok(())
}

fn from_when(record: &TermsRecord) -> String {
    let effective_at = match record {
        TermsRecord::OrgPolicy(record) => record.effective_at,
        TermsRecord::Budget(record) => record.effective_at,
        TermsRecord::CreditGrant(record) => record.effective_at,
        TermsRecord::PurchaseDeclined(_) | TermsRecord::Label(_) => return String::new(),
    };
    format!(", in effect from {effective_at}")
}

fn get(settings: &Settings, args: &GetArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let api = Api::new(args.url.as_deref().unwrap_or(&base_url(settings)));
    let answer: Answer = api.get(&org_path(&args.org, "/policy")?, &[])?;
    match answer.policy {
        Some(policy) => Ok(write_fields(&policy, args.output, out)?),
        None => anyhow::bail!("{} has no policy in force: `limits.default` holds", args.org),
    }
}

#[derive(serde::Deserialize)]
struct Answer {
    policy: Option<Fields>,
}
