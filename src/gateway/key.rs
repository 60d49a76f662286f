//! Reads the key of a decision back into its scope. [`Scope::key`](crate::domain::limits::scope::Scope::key) writes these keys. A
//! dimension that only a later version knows is no error: no request of this version names it.

use crate::domain::usage::dimension::Dimension;

/// What a key of the decisions topic speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The sign of life of a partition's decider.
    Heartbeat(i32),
    /// The org's own limit.
    Org(String),
    /// A budget of the whole org.
    Wide { org: String },
    /// A `*` budget, for values without their own.
    Each { org: String, dimension: Dimension },
    /// One value of a dimension under one budget.
    Value { org: String, dimension: Dimension, value: String },
    /// A scope of a kind that no request of this version has.
    Unheard,
}

impl Key {
    /// Reads a key; `None` when it is none of ours.
    pub(super) fn read(key: &str) -> Option<Self> {
        if let Some(partition) = key.strip_prefix("!heartbeat|") {
            return partition.parse().ok().map(Self::Heartbeat);
        }
        let mut parts = key.split('|');
        let org = decoded(parts.next()?).filter(|org| !org.is_empty())?;
        let Some(dimension) = parts.next() else { return Some(Self::Org(org)) };
        let (value, budget) = (decoded(parts.next()?)?, parts.next()?);
        if budget.is_empty() || parts.next().is_some() {
            return None;
        }
        if dimension.is_empty() {
            return Some(if value.is_empty() { Self::Wide { org } } else { Self::Unheard });
        }
        let Some(dimension) = Dimension::from_name(dimension) else { return Some(Self::Unheard) };
        Some(if value.is_empty() { Self::Each { org, dimension } } else { Self::Value { org, dimension, value } })
    }
}

/// The budget's part of a key, as it stands there; empty for an org's own limit.
pub(super) fn budget_at(key: &str) -> usize {
    if key.contains('|') { key.rfind('|').map_or(key.len(), |bar| bar + 1) } else { key.len() }
}

/// Takes the percent-encoding off; `None` when it is broken or no UTF-8.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (hex, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(hex[0])? * 16 + digit(hex[1])?).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::scope::{BudgetScope, Scope};

    fn budget(dimension: Option<Dimension>, value: Option<&str>) -> String {
        let budget = BudgetScope { dimension, value: value.map(Into::into), budget_id: "b:1".into() };
        Scope { org_id: "a@x".into(), budget: Some(budget) }.key()
    }

    #[test]
    fn a_key_is_read_as_the_scope_that_wrote_it() {
        let (org, dimension) = ("a@x".to_owned(), Dimension::User);
        assert_eq!(Key::read(&Scope::org("a@x").key()), Some(Key::Org(org.clone())));
        assert_eq!(Key::read(&budget(None, None)), Some(Key::Wide { org: org.clone() }));
        assert_eq!(Key::read(&budget(Some(dimension), None)), Some(Key::Each { org: org.clone(), dimension }));
        let value = "a|b %\u{e9}".to_owned();
        let key = budget(Some(dimension), Some(&value));
        assert_eq!(&key[budget_at(&key)..], "b%3A1");
        assert_eq!(Key::read(&key), Some(Key::Value { org, dimension, value }));
        assert_eq!(Key::read("!heartbeat|3"), Some(Key::Heartbeat(3)));
        assert_eq!(Key::read("acme|moon_phase|full|b1"), Some(Key::Unheard));
        for broken in
            ["", "|user|a|b", "acme|user", "acme|user|a", "acme|user|a|", "acme|user|%4|b", "!heartbeat|x"]
        {
            assert_eq!(Key::read(broken), None, "{broken}");
        }
        assert_eq!(budget_at("acme"), 4);
    }
}
