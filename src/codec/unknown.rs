//! JSON fields that a record does not have. They are ignored (CONTRACT.md, Records), but most are misspelt, so a decoder
//! keeps those of the value that it decoded last, for whoever counts and logs them.

use super::schemas::RecordType;
use super::slots::{Entry, Raw, Slots};
use super::terms::AUTO_PURCHASE;
use crate::domain::usage::dimension::Dimension;

/// The most fields of one value whose names are kept; all are counted (Law 6).
const NAMES_MAX: usize = 8;
/// The most bytes of a name that are kept.
const NAME_BYTES_MAX: usize = 64;
/// From this likeness on (Jaro-Winkler, 0..1) a known name may be what was meant.
const LIKENESS_MIN: f64 = 0.8;

/// The fields of one value that its record does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownFields {
    /// The record; `None` when there are none.
    pub record: Option<RecordType>,
    /// Who sent the value: its `source`, else its `updated_by`; empty when it names neither.
    pub source: String,
    /// How many fields.
    pub count: u64,
    /// The names of the first of them, cut where they are long.
    pub names: Vec<String>,
}

impl UnknownFields {
    /// Forgets what another value had.
    pub(super) fn clear(&mut self) {
        if self.count > 0 {
            *self = Self::default();
        }
    }

    /// Keeps `unknown`, the fields of a `record` that have no slot, and those inside of its objects.
    pub(super) fn note(&mut self, record: RecordType, unknown: &[Entry<'_>], slots: &Slots<'_>) {
        let inner = slots.names().iter().position(|name| *name == "auto_purchase").map(|index| slots.get(index));
        let inner = if let Some(Raw::Fields(entries)) = inner { entries.as_slice() } else { &[] };
        let inner = inner.iter().map(|entry| format!("auto_purchase.{}", entry.name));
        let inner = inner.filter(|name| !AUTO_PURCHASE.contains(&name.as_str()));
        for name in unknown.iter().map(|entry| entry.name.to_string()).chain(inner) {
            self.record = Some(record);
            self.count += 1;
            if self.names.len() < NAMES_MAX {
                self.names.push(name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned());
            }
        }
        if self.count > 0 {
            let text = |name: &str| slots.names().iter().position(|slot| *slot == name).map(|at| slots.get(at));
            let sender = ["source", "updated_by"].into_iter().find_map(text);
            let sender = if let Some(Raw::Text(sender)) = sender { &**sender } else { "" };
            sender[..sender.floor_char_boundary(NAME_BYTES_MAX)].clone_into(&mut self.source);
        }
    }
}

/// The field of `record` that `name` may have meant: the field of the dimension of that name (`user`: `user_id`), the same in
/// another spelling (`userId`), or one that is written much alike.
#[must_use]
pub fn nearest_field(record: RecordType, name: &str) -> Option<&'static str> {
    let known = if name.contains('.') { AUTO_PURCHASE } else { record.fields() };
    let dimension = Dimension::from_name(name).map(Dimension::field);
    if let Some(field) = dimension.filter(|field| known.contains(field)) {
        return Some(field);
    }
    let plain = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let name = plain(name);
    let likeness = |field: &&'static str| (strsim::jaro_winkler(&plain(field), &name), *field);
    let best = known.iter().map(likeness).max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(likeness, _)| *likeness >= LIKENESS_MIN).map(|(_, field)| field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_field_is_the_one_that_was_meant() {
        for (name, field) in [
            ("user", Some("user_id")),
            ("userId", Some("user_id")),
            ("workspace", Some("workspace_id")),
            ("project", Some("project_id")),
            ("input-tokens", Some("input_tokens")),
            ("LatencyMs", Some("latency_ms")),
            ("cached_tokens", Some("cached_input_tokens")),
            ("multiplyer", Some("multiplier")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest_field(RecordType::UsageEvent, name), field, "{name}");
        }
        let inner = nearest_field(RecordType::OrgPolicy, "auto_purchase.atPercent");
        assert_eq!(inner, Some("auto_purchase.at_percent"));
    }
}
