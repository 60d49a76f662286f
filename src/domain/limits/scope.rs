//! Scopes and the keys of their decisions.

use std::fmt::Write as _;

use crate::domain::usage::dimension::Dimension;

/// What a limit binds: the org, or one value of one dimension inside it under one budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The org.
    pub org_id: String,
    /// `None` for the org's own limit.
    pub budget: Option<BudgetScope>,
}

/// The part of a scope that a budget adds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BudgetScope {
    /// `None` for a budget of the whole org.
    pub dimension: Option<Dimension>,
    /// `None` for a `*` budget's scope of values without their own.
    pub value: Option<String>,
    /// Which budget.
    pub budget_id: String,
}

impl Scope {
    /// The org's own scope.
    #[must_use]
    pub fn org(org_id: &str) -> Self {
        Self { org_id: org_id.to_owned(), budget: None }
    }

    /// The record key: `org`, or `org|dimension|value|budget_id`, each part percent-encoded but for
    /// `A-Za-z0-9._~-` with uppercase hex, null as an empty part (CONTRACT.md, LimitDecision).
    #[must_use]
    pub fn key(&self) -> String {
        let mut key = String::with_capacity(64);
        encode(&mut key, &self.org_id);
        if let Some(budget) = &self.budget {
            key.push('|');
            encode(&mut key, budget.dimension.map_or("", Dimension::name));
            key.push('|');
            encode(&mut key, budget.value.as_deref().unwrap_or(""));
            key.push('|');
            encode(&mut key, &budget.budget_id);
        }
        key
    }
}

fn encode(out: &mut String, part: &str) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes all");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_scope_whatever_its_bytes() {
        assert_eq!(Scope::org("acme@x").key(), "acme%40x");
        let scope = Scope {
            org_id: "acme".into(),
            budget: Some(BudgetScope {
                dimension: Some(Dimension::User),
                value: Some("a|b \u{e9}".into()),
                budget_id: "b1".into(),
            }),
        };
        assert_eq!(scope.key(), "acme|user|a%7Cb%20%C3%A9|b1");
    }
}
