//! Ids and dimension values: what their bytes may be (CONTRACT.md, Records).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest `org_id`, `budget_id`, `grant_id`, ... in bytes.
pub const ID_BYTES_MAX: usize = 128;
/// The longest dimension value in bytes.
pub const VALUE_BYTES_MAX: usize = 256;

/// Whether `text` matches `[A-Za-z0-9._:@-]{1,128}`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'@' | b'-');
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(legal)
}

/// Whether `text` can be a dimension's value: 1..256 bytes of UTF-8.
#[must_use]
pub const fn is_value(text: &str) -> bool {
    !text.is_empty() && text.len() <= VALUE_BYTES_MAX
}

/// A checked organisation id; cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrgId(Arc<str>);

impl OrgId {
    /// Checks and takes an id; `None` when it does not match `[A-Za-z0-9._:@-]{1,128}`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        is_id(text).then(|| Self(text.into()))
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for OrgId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_1_to_128_of_the_legal_bytes() {
        assert!(is_id("acme.Corp_1:x@y-z"));
        assert!(is_id(&"a".repeat(128)));
        for bad in ["", "a b", "a/b", "a|b", "\u{e4}", &"a".repeat(129)] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }
}
