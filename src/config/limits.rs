//! `limits.default`: what an org without a policy gets. `"allow"`, `"block"`, or a table with an OrgPolicy's fields, which
//! the codec holds to the bounds of CONTRACT.md's record.

use super::reader::Reader;
use crate::codec::terms_document::{Setting, policy_of_settings, policy_settings};
use crate::domain::terms::records::{DefaultTerms, OrgPolicy};

const KEY: &str = "limits.default";

/// Reads it; `None` when nobody set it, which only `run` minds, or when it has a problem.
pub(super) fn read(reader: &mut Reader) -> Option<DefaultTerms> {
    let word = reader.optional(KEY, |raw| match raw {
        "allow" => Ok(DefaultTerms::Allow),
        "block" => Ok(DefaultTerms::Block),
        _ => Err("must be allow, block, or a table [limits.default] with an OrgPolicy's fields".into()),
    });
    if reader.below("limits.default.").is_empty() {
        return word;
    }
    if word.is_some() {
        reader.problem_with(KEY, "is both a word and a table: keep one");
    }
    policy(reader).map(|policy| DefaultTerms::Policy(Box::new(policy)))
}

fn policy(reader: &mut Reader) -> Option<OrgPolicy> {
    let mut settings = Vec::new();
    for field in policy_settings() {
        let key = format!("{KEY}.{field}");
        let setting = match field {
            "thresholds" | "products" => reader.list(&key).map(Setting::List),
            _ => reader.optional(&key, |raw| Ok(raw.trim().to_owned())).map(Setting::Text),
        };
        settings.extend(setting.map(|setting| (field, setting)));
    }
    match policy_of_settings(&settings) {
        Ok(policy) => Some(policy),
        Err(faults) => {
            for (field, what) in faults {
                reader.problem_with(&format!("{KEY}.{field}"), &what);
            }
            None
        }
    }
}
