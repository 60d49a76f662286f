//! Terms as people write them: YAML or JSON documents of `type: OrgPolicy | Budget | ...` and the record's fields, for
//! `policy apply`. Here decimals may be whole numbers too, and an unknown field is an error that names the nearest one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;

use super::json::sort_fields;
use super::schemas::RecordType;
use super::slots::{Entry, Raw, Slots};
use super::terms::read;
use crate::domain::terms::TermsRecord;
use crate::domain::time::Timestamp;

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

/// Reads every document of a YAML or JSON text. None is taken when one is wrong.
///
/// # Errors
/// The first document at fault.
pub fn parse(text: &str, defaults: &DocumentDefaults) -> Result<Vec<TermsRecord>, DocumentError> {
    let documents: Vec<Document<'_>> = serde_saphyr::from_multiple(text).map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map(|location| location.line());
        DocumentError { document: document_at(text, line), line, message: error.to_string() }
    })?;
    documents
        .into_iter()
        .zip(1..)
        .map(|(document, number)| {
            let place = |(line, message)| DocumentError { document: number, line, message };
            record(document, defaults).map_err(place)
        })
        .collect()
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

type Wrong = (Option<u64>, String);

fn record(document: Document<'_>, defaults: &DocumentDefaults) -> Result<TermsRecord, Wrong> {
    let lines: Vec<(String, u64)> = document.0.iter().map(|entry| (entry.name.to_string(), entry.line)).collect();
    let line_of = |field: &str| {
        let top = field.split('.').next();
        lines.iter().find(|(name, _)| Some(&**name) == top).or(lines.first()).map(|(_, line)| *line)
    };
    let kind = document.0.iter().find(|entry| entry.name == "type").map(|entry| &entry.value);
    let Some(Raw::Text(kind)) = kind else {
        return Err((line_of("type"), format!("`type` is missing; it is one of {TYPES}")));
    };
    let Some(record) = RecordType::from_name(kind) else {
        return Err((line_of("type"), format!("`type` is {kind:?}; it must be one of {TYPES}")));
    };
    let mut slots = Slots::of_document(record.fields());
    let unknown = sort_fields(document.0, &mut slots)
        .map_err(|name| (line_of(&name), format!("`{name}` stands there twice")))?;
    if let Some(entry) = unknown.first() {
        return Err((Some(entry.line), unknown_field(&entry.name, record)));
    }
    for (index, name) in record.fields().iter().enumerate() {
        match *name {
            "effective_at" => slots.set_default(index, Raw::Int(defaults.effective_at.micros())),
            "updated_by" => slots.set_default(index, Raw::Text(defaults.updated_by.clone().into())),
            _ => {}
        }
    }
    match read(record, &mut slots) {
        Some(Ok(terms)) => Ok(terms),
        Some(Err(fault)) => Err((line_of(fault.field), format!("`{}` {}", fault.field, fault.what))),
        None => Err((line_of("type"), format!("`type` is {:?}; it must be one of {TYPES}", record.name()))),
    }
}

const TYPES: &str = "OrgPolicy, Budget, CreditGrant, Label, PurchaseDeclined";

fn unknown_field(name: &str, record: RecordType) -> String {
    let near = record.fields().iter().min_by_key(|field| strsim::levenshtein(field, name));
    let hint = near.map(|field| format!("; did you mean `{field}`?")).unwrap_or_default();
    format!("`{name}` is no field of {}{hint}", record.name())
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
