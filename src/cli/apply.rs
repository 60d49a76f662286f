//! `tallyman policy apply`: terms out of a file into the policies topic. It reads what stands there first, shows what
//! each document changes, and writes only what does: the same file twice is written once. Nothing is ever overwritten:
//! to apply is to append, and what is wrong with any document keeps all of them out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Read as _, Write};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Usage;
use super::produce::registry_client;
use super::query::cell;
use super::table::shown;
use crate::clock::{Clock as _, SystemClock};
use crate::codec::terms_document::{DocumentDefaults, DocumentError, DocumentErrors, TermsDocument, parse};
use crate::codec::{DecodeError, Decoder, FieldChange, SchemaRegistry, ValueEncoding, differences, encode_terms};
use crate::config::Settings;
use crate::domain::terms::change::{TermsLog, effective_at, entity, updated_by};
use crate::domain::terms::notes::notes;
use crate::domain::terms::records::{DefaultTerms, TermsRecord};
use crate::domain::usage::murmur2::partition_of;
use crate::kafka::{self, Producer, Sent};

/// How long the cluster may take to acknowledge.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(30);

/// Arguments of `tallyman policy apply`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ApplyArgs {
    /// The file; `-` is standard input
    file: String,
    /// Check and show what would change; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// A file as messages name it.
fn named(file: &str) -> &str {
    if file == "-" { "standard input" } else { file }
}

/// What is wrong with a file's documents, each line naming the file.
#[derive(Debug)]
pub(super) struct Refused {
    file: String,
    errors: DocumentErrors,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = named(&self.file);
        for error in &self.errors.0 {
            writeln!(f, "{file}, {error}")?;
        }
        write!(f, "nothing is written")
    }
}

impl std::error::Error for Refused {}

/// Names the file whose documents are at fault.
pub(super) fn refused(file: &str) -> impl Fn(DocumentErrors) -> Refused {
    |errors| Refused { file: file.to_owned(), errors }
}

/// What a document changes.
struct Step<'a> {
    document: &'a TermsDocument,
    /// The offset of what it follows, who wrote that and since when it holds.
    follows: Option<String>,
    /// Empty when what stands there says the same already.
    changes: Vec<FieldChange>,
    notes: Vec<String>,
    is_written: bool,
}

/// The text of a file, or of standard input for `-`.
pub(super) fn read_text(file: &str) -> Result<String, Usage> {
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(drop),
        path => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.map(|()| text).map_err(|error| Usage(format!("cannot read {}: {error}", named(file))))
}

/// The documents of a file; each that leaves out who wrote it or from when on it holds is by this user, from now on.
pub(super) fn read_documents(file: &str) -> anyhow::Result<Vec<TermsDocument>> {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let updated_by = user.unwrap_or_else(|| "policy apply".to_owned());
    let defaults = DocumentDefaults { effective_at: SystemClock.now(), updated_by };
    let documents = parse(&read_text(file)?, &defaults).map_err(refused(file))?;
    if documents.is_empty() {
        return Err(Usage(format!("{} holds no document", named(file))).into());
    }
    Ok(documents)
}

pub(super) fn run(settings: &Settings, args: &ApplyArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let documents = read_documents(&args.file)?;
    let orgs: BTreeSet<&str> = documents.iter().map(|document| document.record.org_id()).collect();
    let logs = terms_of(settings, &orgs)?;
    let default = settings.limits_default.as_ref().unwrap_or(&DefaultTerms::Allow);
    let steps = plan(&documents, logs, default).map_err(refused(&args.file))?;
    for step in &steps {
        show(step, out)?;
    }
    let new: Vec<&TermsRecord> =
        steps.iter().filter(|step| step.is_written).map(|step| &step.document.record).collect();
    let topic = &settings.kafka.topics.policies;
    let count = format!("{} of {} documents", new.len(), documents.len());
    if new.is_empty() {
        writeln!(out, "Nothing to write: all of it stands in {topic} already.")?;
    } else if args.dry_run {
        writeln!(out, "Dry run: {count} would be written to {topic}.")?;
    } else {
        out.flush()?;
        write(settings, &new)?;
        writeln!(out, "{count} written to {topic}.")?;
    }
    Ok(())
}

/// All terms of these orgs, read from the policies topic itself: what an instance has not taken yet counts too.
pub(super) fn terms_of(settings: &Settings, orgs: &BTreeSet<&str>) -> anyhow::Result<BTreeMap<String, TermsLog>> {
    let kafka = &settings.kafka;
    let count = kafka::cluster_info(kafka)?.partitions;
    let home = |org: &str| partition_of(org.as_bytes(), count);
    let wanted: Vec<i32> = orgs.iter().map(|org| home(org)).collect::<BTreeSet<_>>().into_iter().collect();
    let mut decoder = Decoder::new(registry(settings)?);
    let mut logs: BTreeMap<String, TermsLog> =
        orgs.iter().map(|org| ((*org).to_owned(), TermsLog::default())).collect();
    let mut unavailable = None;
    kafka::read_partitions(kafka, &kafka.topics.policies, &wanted, |record, _, _| {
        match record.value.map(|value| decoder.terms(value)) {
            // A record of another partition's org is forwarded there; one that cannot be read is a dead letter.
            Some(Ok(terms)) if home(terms.org_id()) == record.partition => {
                if let Some(log) = logs.get_mut(terms.org_id()) {
                    log.insert(record.offset, terms);
                }
            }
            Some(Err(DecodeError::Unavailable(error))) => unavailable = Some(error),
            _ => {}
        }
    })?;
    match unavailable {
        Some(error) => Err(anyhow::anyhow!("what is in force cannot be told: {error}")),
        None => Ok(logs),
    }
}

/// The schema registry's client, where one is set.
pub(super) fn registry(settings: &Settings) -> anyhow::Result<Option<Arc<dyn SchemaRegistry>>> {
    Ok(match settings.registry.url {
        Some(_) => Some(Arc::new(registry_client(settings)?)),
        None => None,
    })
}

/// What each document changes, those above it in the file taken as written.
fn plan<'a>(
    documents: &'a [TermsDocument],
    mut logs: BTreeMap<String, TermsLog>,
    default: &DefaultTerms,
) -> Result<Vec<Step<'a>>, DocumentErrors> {
    let now = SystemClock.now();
    let (mut steps, mut errors): (Vec<Step<'_>>, Vec<DocumentError>) = (Vec::new(), Vec::new());
    let mut seen = BTreeMap::new();
    for document in documents {
        let record = &document.record;
        if let Some(other) = seen.insert((record.org_id(), entity(record), effective_at(record)), document.number)
        {
            let what = format!("is that of document {other} from the same instant on: keep one of them");
            errors.push(document.error("type", &what));
            continue;
        }
        let log = logs.entry(record.org_id().to_owned()).or_default();
        errors.extend(log.faults(record).iter().map(|(field, what)| document.error(field, what)));
        let already = log.says_already(record, document.says_effective_at, document.says_updated_by);
        let follows = log.followed_by(record);
        steps.push(Step {
            document,
            follows: follows.map(|(offset, before)| told_of(offset, before)),
            changes: if already.is_some() {
                vec![]
            } else {
                differences(follows.map(|(_, before)| before), record)
            },
            // Of what stands there already nothing is new to say.
            notes: if already.is_some() { vec![] } else { notes(log, record, default, now) },
            is_written: already.is_none(),
        });
        if already.is_none() {
            log.insert(log.last_offset().unwrap_or(-1) + 1, record.clone());
        }
    }
    if errors.is_empty() { Ok(steps) } else { Err(DocumentErrors(errors)) }
}

fn told_of(offset: i64, record: &TermsRecord) -> String {
    let since = effective_at(record).map(|at| format!(" since {at}")).unwrap_or_default();
    let by = updated_by(record).map(|by| format!(", by {by}")).unwrap_or_default();
    format!("offset {offset}{since}{by}")
}

/// One document: what it is about, from when on, and each field that it changes.
fn show(step: &Step<'_>, out: &mut dyn Write) -> std::io::Result<()> {
    let record = &step.document.record;
    let about = entity(record);
    let name = [about.type_name, record.org_id(), &about.id].map(shown).join(" ");
    let name = name.trim_end_matches([' ', '-']);
    let from = effective_at(record).map(|at| format!(" from {at}")).unwrap_or_default();
    match &step.follows {
        Some(follows) if !step.is_written => writeln!(out, "{name}: unchanged ({})", shown(follows))?,
        Some(follows) => writeln!(out, "{name}{from} (now {})", shown(follows))?,
        None => writeln!(out, "{name}{from} (new)")?,
    }
    let width = step.changes.iter().map(|change| change.field.len()).max().unwrap_or(0);
    for FieldChange { field, from, to } in &step.changes {
        match (&step.follows, from) {
            (Some(_), from) => writeln!(out, "  ~ {field:<width$}  {} -> {}", one_line(from), one_line(to))?,
            (None, _) => writeln!(out, "  + {field:<width$}  {}", one_line(to))?,
        }
    }
    for note in &step.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

/// A value as a terminal may show it; null is `none`.
pub(super) fn one_line(value: &Value) -> String {
    if value.is_null() { "none".to_owned() } else { shown(&cell(value)) }
}

fn write(settings: &Settings, records: &[&TermsRecord]) -> anyhow::Result<()> {
    let producer = Producer::new(&settings.kafka, "tallyman-policy")?;
    for record in records {
        let mut value = Vec::new();
        encode_terms(record, ValueEncoding::Json, &mut value);
        let key = record.org_id().as_bytes();
        let sent = Sent { key: Some(key), value: Some(&value), ..Sent::default() };
        producer.send(&settings.kafka.topics.policies, &sent)?;
    }
    Ok(producer.flush(ACKNOWLEDGE_MAX)?)
}
