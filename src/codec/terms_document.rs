//! Terms as people write them: YAML or JSON documents of `type: OrgPolicy | Budget | ...` and the record's fields, for
//! `policy apply`. Here decimals may be whole numbers too, and an unknown field is an error that names the nearest one.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;

use super::json::sort_fields;
use super::reader::MISSING;
use super::schemas::RecordType;
use super::slots::{Entry, NOT_TEXT, Raw, Slots};
use super::terms::{AUTO_PURCHASE, read};
use crate::domain::terms::records::{OrgPolicy, TermsRecord};
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;

/// What a document may leave out.
#[derive(Clone, Debug)]
pub struct DocumentDefaults {
    /// `effective_at` where absent.
    pub effective_at: Timestamp,
    /// `updated_by` where absent.
    pub updated_by: String,
}

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("document {document}{}: {message}", .line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct DocumentError {
    /// Which document of the text, from 1.
    pub document: usize,
    /// The line in the text, from 1, where it can be told.
    pub line: Option<u64>,
    /// What to mend, naming the field.
    pub message: String,
}

/// All that is wrong with a text, so that a person mends it in one go; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentErrors(pub Vec<DocumentError>);

impl fmt::Display for DocumentErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&told.join("\n"))
    }
}

impl std::error::Error for DocumentErrors {}

/// A document that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermsDocument {
    /// What it says, with the defaults of what it left out.
    pub record: TermsRecord,
    /// Which document of the text, from 1.
    pub number: usize,
    /// Whether it says itself from when on it holds.
    pub says_effective_at: bool,
    /// Whether it says itself who wrote it.
    pub says_updated_by: bool,
    lines: Lines,
}

impl TermsDocument {
    /// What it says, holding from `from` on where it does not say itself from when.
    #[must_use]
    pub fn holding_from(&self, from: Timestamp) -> TermsRecord {
        let mut record = self.record.clone();
        let effective_at = match &mut record {
            TermsRecord::OrgPolicy(policy) => &mut policy.effective_at,
            TermsRecord::Budget(budget) => &mut budget.effective_at,
            TermsRecord::CreditGrant(grant) => &mut grant.effective_at,
            TermsRecord::PurchaseDeclined(_) | TermsRecord::Label(_) => return record,
        };
        if !self.says_effective_at {
            *effective_at = from;
        }
        record
    }

    /// A fault of one of its fields that only shows beside other records.
    #[must_use]
    pub fn error(&self, field: &str, what: &str) -> DocumentError {
        let message = format!("`{field}` {what}");
        DocumentError { document: self.number, line: self.lines.of(field), message }
    }
}

/// Reads every document of a YAML or JSON text. None is taken when one is wrong.
///
/// # Errors
/// Every field at fault, of every document.
pub fn parse(text: &str, defaults: &DocumentDefaults) -> Result<Vec<TermsDocument>, DocumentErrors> {
    // An org may have ten thousand budgets, and a file may hold all of them.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_documents: 100_000, max_events: 10_000_000, max_nodes: 5_000_000 },
    };
    let documents: Vec<Document<'_>> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
            let error = error.without_snippet();
            let line = error.location().map(|location| location.line());
            DocumentErrors(vec![DocumentError {
                document: document_at(text, line),
                line,
                message: plain_words(error, &|| unquoted_line(text, line)),
            }])
        })?;
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    for (document, number) in documents.into_iter().zip(1..) {
        let lines = Lines::of_document(&document, text);
        let mut wrong = |field: &str, message: String| {
            errors.push(DocumentError { document: number, line: lines.of(field), message });
        };
        read.extend(one(document, number, &lines, defaults, &mut wrong));
    }
    if errors.is_empty() { Ok(read) } else { Err(DocumentErrors(errors)) }
}

/// Why a text is none of documents, in the words of those who write them.
fn plain_words(error: &serde_saphyr::Error, unquoted: &dyn Fn() -> Option<String>) -> String {
    use serde_saphyr::Error;
    let words = match error {
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => {
            return plain_words(error, unquoted);
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => return format!("`{key}` stands there twice"),
        Error::DuplicateMappingKey { .. } => "a key stands there twice",
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an alias (`*`) stands inside of what it repeats",
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "it is too large, too deep, or repeats too much by aliases (`*`): split the file, or write out what is repeated"
        }
        other => return unquoted().unwrap_or_else(|| other.to_string()),
    };
    words.to_owned()
}

/// What is wrong with a line whose value is no text to YAML, for it stands there without quotes.
fn unquoted_line(text: &str, line: Option<u64>) -> Option<String> {
    let line = text.lines().nth(usize::try_from(line?).ok()?.checked_sub(1)?)?;
    let (name, value) = line.split_once(": ")?;
    let (name, value) = (name.trim_start_matches(['-', ' ']), value.trim());
    let what = match value.chars().next()? {
        '*' => "an alias",
        '&' => "an anchor",
        '!' => "a tag",
        '%' => "a directive",
        '"' | '\'' | '[' | '{' | '#' => return None,
        _ => "something else than a text",
    };
    Some(format!("`{name}` is {value}, which YAML reads as {what}: quote it, \"{value}\""))
}

/// The parser counts no documents when it fails; their separators above the line do.
fn document_at(text: &str, line: Option<u64>) -> usize {
    let above = text.lines().take(usize::try_from(line.unwrap_or(0)).unwrap_or(usize::MAX));
    let mut seen_content = false;
    let mut number = 1;
    for line in above {
        if line.starts_with("---") {
            number += usize::from(seen_content);
            seen_content = false;
        } else {
            seen_content |= !line.trim().is_empty() && !line.trim_start().starts_with('#');
        }
    }
    number
}

/// The line of each field of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lines(Vec<(String, u64)>);

impl Lines {
    fn of_document(document: &Document<'_>, text: &str) -> Self {
        let mut lines = Vec::new();
        for entry in &document.0 {
            lines.push((entry.name.to_string(), entry.line));
            // The parser tells no lines inside a value: the name stands in that line or below.
            if let Raw::Fields(inner) = &entry.value {
                let below = usize::try_from(entry.line.saturating_sub(1)).unwrap_or(usize::MAX);
                let line = |name: &str| text.lines().skip(below).position(|line| line.contains(name)).unwrap_or(0);
                let inner = inner.iter().map(|field| &*field.name);
                lines.extend(inner.map(|name| (format!("{}.{name}", entry.name), entry.line + line(name) as u64)));
            }
        }
        Self(lines)
    }

    /// The field's line; of one that is not there its object's, else the document's first.
    fn of(&self, field: &str) -> Option<u64> {
        let find = |wanted: &str| self.0.iter().find(|(name, _)| name == wanted);
        let object = field.split('.').next().unwrap_or(field);
        find(field).or_else(|| find(object)).or(self.0.first()).map(|(_, line)| *line)
    }
}

/// Reads one document; tells each fault to `wrong` and gives nothing when there was one.
fn one(
    document: Document<'_>,
    number: usize,
    lines: &Lines,
    defaults: &DocumentDefaults,
    wrong: &mut dyn FnMut(&str, String),
) -> Option<TermsDocument> {
    let kind = document.0.iter().find(|entry| entry.name == "type").map(|entry| &entry.value);
    let Some(Raw::Text(kind)) = kind else {
        wrong("type", format!("`type` is missing; it is one of {TYPES}"));
        return None;
    };
    let known = RecordType::from_name(kind).filter(|record| TYPES.split(", ").any(|name| name == record.name()));
    let Some(record) = known else {
        wrong("type", format!("`type` is {kind:?}; it must be one of {TYPES}"));
        return None;
    };
    let mut faultless = true;
    let mut wrong = |field: &str, message: String| {
        faultless = false;
        wrong(field, message);
    };
    let mut slots = Slots::of_document(record.fields());
    let sorted = sort_fields(document.0, &mut slots);
    let unknown = sorted.unwrap_or_else(|name| {
        wrong(&name, format!("`{name}` stands there twice"));
        Vec::new()
    });
    for entry in &unknown {
        wrong(&entry.name, unknown_field(&entry.name, record.fields(), record.name()));
    }
    let place = |field: &str| record.fields().iter().position(|name| *name == field);
    let says = |field| place(field).is_some_and(|index| *slots.get(index) != Raw::Absent);
    let (says_effective_at, says_updated_by) = (says("effective_at"), says("updated_by"));
    for (field, value) in [
        ("effective_at", Raw::Int(defaults.effective_at.micros())),
        ("updated_by", Raw::Text(defaults.updated_by.clone().into())),
    ] {
        if let Some(index) = place(field) {
            slots.set_default(index, value);
        }
    }
    if let Some(Raw::Fields(inner)) = place("auto_purchase").map(|index| slots.get(index)) {
        for entry in inner {
            let name = format!("auto_purchase.{}", entry.name);
            if !AUTO_PURCHASE.contains(&&*name) {
                wrong(&name, unknown_field(&name, AUTO_PURCHASE, record.name()));
            }
        }
    }
    let stands = |field: &str| lines.0.iter().any(|(name, _)| name == field);
    let read = read_past_faults(record, slots, &stands, &mut wrong)?;
    let document =
        || TermsDocument { record: read, number, says_effective_at, says_updated_by, lines: lines.clone() };
    faultless.then(document)
}

/// A field at fault is told and replaced by a legal value, so that those behind it are read too.
fn read_past_faults(
    record: RecordType,
    mut slots: Slots<'_>,
    stands: &dyn Fn(&str) -> bool,
    wrong: &mut dyn FnMut(&str, String),
) -> Option<TermsRecord> {
    let mut told: Vec<&str> = Vec::new();
    loop {
        match read(record, &mut slots.clone())? {
            Ok(terms) => return Some(terms),
            Err(fault) if told.contains(&fault.field) => return None,
            Err(fault) => {
                let known =
                    known_values(fault.field).map(|known| format!("; known are {known}")).unwrap_or_default();
                let place = slots.names().iter().position(|name| *name == fault.field);
                let what = match &*fault.what {
                    NOT_TEXT => place.and_then(|index| unquoted(slots.get(index))).unwrap_or(fault.what),
                    MISSING if stands(fault.field) => NOTHING.into(),
                    _ => fault.what,
                };
                wrong(fault.field, format!("`{}` {what}{known}", fault.field));
                told.push(fault.field);
                replace(&mut slots, fault.field);
            }
        }
    }
}

/// What is wrong with a field that stands there and is null.
const NOTHING: &str =
    "is nothing: YAML reads null, ~, and what begins with #, & or ! as no text; quote a text that does";

/// What is wrong with a text that YAML reads as something else, for it stands there without quotes.
fn unquoted(value: &Raw<'_>) -> Option<Cow<'static, str>> {
    Some(match value {
        Raw::Bool(_) => {
            "is a boolean, and must be text: YAML reads y, yes, on, true, n, no, off and false so; quote it, as \"no\"".into()
        }
        Raw::Int(number) => format!("is a number, and must be text: quote it, \"{number}\"").into(),
        Raw::Float | Raw::HugeInt => "is a number, and must be text: quote it, as \"1.5\"".into(),
        _ => return None,
    })
}

fn replace(slots: &mut Slots<'_>, field: &'static str) {
    let object = field.split('.').next().unwrap_or(field);
    let Some(index) = slots.names().iter().position(|name| *name == object) else { return };
    if let (Some((_, inner)), Raw::Fields(entries)) = (field.split_once('.'), slots.value_mut(index)) {
        entries.retain(|entry| entry.name != inner);
        entries.push(Entry { name: inner.into(), value: legal(inner), line: 0 });
    } else {
        slots.set(index, legal(field));
    }
}

/// All values that the field of that name may have, where they can be listed.
fn known_values(field: &str) -> Option<String> {
    let known = match field {
        "dimension" => return Some(Dimension::ALL.map(Dimension::name).join(", ")),
        "status" => "active, suspended",
        "limit_mode" => "HARD, SOFT",
        "period" => "day, week, month",
        "action" => "BLOCK, WARN",
        "kind" => "pack, promo, goodwill, purchase",
        _ => return None,
    };
    Some(known.to_owned())
}

/// A value that the field of that name may have.
fn legal(field: &str) -> Raw<'static> {
    match field {
        "dimension" => Raw::Text("user".into()),
        "period" => Raw::Text("day".into()),
        "action" => Raw::Text("BLOCK".into()),
        "kind" => Raw::Text("pack".into()),
        "base_allocation" | "limit" | "credits" | "pack_credits" => Raw::Text("1".into()),
        "effective_at" => Raw::Int(0),
        "at_percent" | "max_packs_per_period" => Raw::Int(1),
        "org_id" | "budget_id" | "grant_id" | "purchase_id" | "plan" | "name" | "value" | "reason"
        | "display_name" | "updated_by" => Raw::Text("x".into()),
        _ => Raw::Absent,
    }
}

/// A setting's value: a text, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `"1000.5"`.
    Text(String),
    /// `["75", "100"]`.
    List(Vec<String>),
}

/// The settings of an OrgPolicy that is no record: its fields but those that tell whose it is, since when, by whom.
pub fn policy_settings() -> impl Iterator<Item = &'static str> {
    let fields = RecordType::OrgPolicy.fields().iter().copied();
    let inner = |field| if field == "auto_purchase" { AUTO_PURCHASE } else { &[] };
    let own = |field: &&str| !matches!(*field, "org_id" | "auto_purchase" | "effective_at" | "updated_by");
    fields.clone().filter(own).chain(fields.flat_map(move |field| inner(field).iter().copied()))
}

/// The policy that settings make, held to the bounds of the record: `limits.default`.
///
/// # Errors
/// Each field at fault and what is wrong with it.
pub fn policy_of_settings(settings: &[(&str, Setting)]) -> Result<OrgPolicy, Vec<(String, String)>> {
    let record = RecordType::OrgPolicy;
    let mut slots = Slots::of_document(record.fields());
    let place = |field: &str| record.fields().iter().position(|name| *name == field);
    let always = [("org_id", "default"), ("updated_by", "config")];
    let given = |field: &str| settings.iter().any(|(name, _)| *name == field);
    let plan = (!given("plan")).then_some(("plan", "default"));
    for (field, text) in always.into_iter().chain(plan) {
        slots.set(place(field).expect("an OrgPolicy has it"), Raw::Text(text.into()));
    }
    slots.set(place("effective_at").expect("an OrgPolicy has it"), Raw::Int(0));
    for (field, setting) in settings {
        let value = match setting {
            Setting::Text(text) => plain(field, text),
            Setting::List(list) => Raw::List(list.iter().map(|item| plain(field, item)).collect()),
        };
        let (object, inner) =
            field.split_once('.').map_or((*field, None), |(object, inner)| (object, Some(inner)));
        let Some(index) = place(object) else { continue };
        match (inner, slots.value_mut(index)) {
            (None, slot) => *slot = value,
            (Some(inner), Raw::Fields(entries)) => entries.push(Entry { name: inner.into(), value, line: 0 }),
            (Some(inner), slot) => *slot = Raw::Fields(vec![Entry { name: inner.into(), value, line: 0 }]),
        }
    }
    let mut faults = Vec::new();
    let read = read_past_faults(record, slots, &|_| false, &mut |field, message| {
        let what = message.split_once("` ").map_or(message.as_str(), |(_, what)| what);
        faults.push((field.to_owned(), what.to_owned()));
    });
    match read {
        Some(TermsRecord::OrgPolicy(policy)) if faults.is_empty() => {
            Ok(OrgPolicy { effective_at: Timestamp::MIN, ..policy })
        }
        _ => Err(faults),
    }
}

/// A setting's text as the value that its field takes.
fn plain<'a>(field: &str, text: &'a str) -> Raw<'a> {
    let number = matches!(
        field,
        "anchor_day" | "thresholds" | "auto_purchase.at_percent" | "auto_purchase.max_packs_per_period"
    );
    match (field, text) {
        ("unlimited" | "unlimited_overage", "true") => Raw::Bool(true),
        ("unlimited" | "unlimited_overage", "false") => Raw::Bool(false),
        _ if number => text.parse().map_or(Raw::Text(text.into()), Raw::Int),
        _ => Raw::Text(text.into()),
    }
}

const TYPES: &str = "OrgPolicy, Budget, CreditGrant, Label, PurchaseDeclined";

fn unknown_field(name: &str, fields: &[&str], record: &str) -> String {
    let hint = match near(name, fields) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has {}", fields.join(", ")),
    };
    format!("`{name}` is no field of {record}; {hint}")
}

/// The field that was perhaps meant: of those that differ in a third of their letters at most, the nearest; or one of
/// which the name is a part, or that is a part of it.
fn near<'a>(name: &str, fields: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let is_part = |field: &&&str| name.len() >= 4 && (field.contains(&*name) || name.contains(**field));
    let differs = |field: &&&str| strsim::damerau_levenshtein(field, &name);
    let is_near = |field: &&&str| differs(field) * 3 <= field.chars().count().max(name.chars().count());
    let nearest = fields.iter().filter(is_near).min_by_key(differs);
    nearest.or_else(|| fields.iter().filter(is_part).min_by_key(differs)).copied()
}

/// A mapping with the line of each key.
struct Document<'a>(Vec<Entry<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Document<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Keys<'a> {
            type Value = Document<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of `type` and the record's fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document<'a>, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let value = map.next_value()?;
                    entries.push(Entry { name: key.value.into(), value, line: key.referenced.line() });
                }
                Ok(Document(entries))
            }
        }
        deserializer.deserialize_map(Keys(std::marker::PhantomData))
    }
}
