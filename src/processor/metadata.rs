//! What a worker writes beside a committed offset, so that a successor knows whom to fence and where terms stood.

use std::fmt;
use std::str::FromStr;

/// The metadata of a committed offset (Law 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMetadata {
    /// Transactions committed for this partition so far.
    pub transactions: u64,
    /// Next offset of the policies partition; what policies below it caused is published.
    pub policies: i64,
    /// The committer's transactional id.
    pub transactional_id: String,
}

const VERSION: &str = "tallyman1";

impl fmt::Display for CommitMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION} {} {} {}", self.transactions, self.policies, self.transactional_id)
    }
}

/// The metadata was written by something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the committed offset's metadata {0:?} was not written by tallyman; is the group id used by another program?"
)]
pub struct ForeignMetadata(pub String);

impl FromStr for CommitMetadata {
    type Err = ForeignMetadata;

    fn from_str(text: &str) -> Result<Self, ForeignMetadata> {
        let foreign = || ForeignMetadata(text.to_owned());
        let mut parts = text.splitn(4, ' ');
        let mut next = || parts.next().ok_or_else(foreign);
        if next()? != VERSION {
            return Err(foreign());
        }
        Ok(Self {
            transactions: next()?.parse().map_err(|_| foreign())?,
            policies: next()?.parse().map_err(|_| foreign())?,
            transactional_id: next()?.to_owned(),
        })
    }
}

/// The client id of the member that a transactional id belongs to: the id is `<group>/<client id>`, and a group's
/// own name may hold slashes, so the group must be known.
#[must_use]
pub fn client_of<'a>(transactional_id: &'a str, group: &str) -> Option<&'a str> {
    transactional_id.strip_prefix(group)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_back_and_foreign_metadata_is_told() {
        let metadata = CommitMetadata {
            transactions: 7,
            policies: 12,
            transactional_id: "tallyman/127.0.0.1:80/x 1/0".into(),
        };
        assert_eq!(metadata.to_string().parse(), Ok(metadata));
        assert!("".parse::<CommitMetadata>().is_err());
        assert!("tallyman1 x 1 t".parse::<CommitMetadata>().is_err());
    }
}
