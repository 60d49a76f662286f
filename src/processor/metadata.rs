//! What a worker writes beside a committed offset, so that a successor knows whom to fence and where terms stood.

use std::fmt;
use std::str::FromStr;

use super::checksum::Checksum;

/// The metadata of a committed offset (Law 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMetadata {
    /// Transactions committed for this partition so far.
    pub transactions: u64,
    /// Next offset of the policies partition; what policies below it caused is published.
    pub policies: i64,
    /// The committer's transactional id.
    pub transactional_id: String,
    /// What the log was up to there; `None` in what the first version wrote.
    pub checksum: Option<Checksum>,
}

/// Without a checksum: `tallyman1 <transactions> <policies> <transactional id>`.
const FIRST: &str = "tallyman1";
/// With one: its fields stand before the transactional id, which comes last since it may hold spaces.
const WITH_CHECKSUM: &str = "tallyman2";

impl fmt::Display for CommitMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transactions, policies, transactional_id, checksum } = self;
        match checksum {
            None => write!(f, "{FIRST} {transactions} {policies} {transactional_id}"),
            Some(checksum) => {
                write!(f, "{WITH_CHECKSUM} {transactions} {policies} {checksum} id={transactional_id}")
            }
        }
    }
}

/// The metadata was written by something else, or by a later version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this version of tallyman did not write the committed offset's metadata {0:?}")]
pub struct ForeignMetadata(pub String);

impl FromStr for CommitMetadata {
    type Err = ForeignMetadata;

    fn from_str(text: &str) -> Result<Self, ForeignMetadata> {
        parse(text).ok_or_else(|| ForeignMetadata(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<CommitMetadata> {
    let mut parts = text.splitn(4, ' ');
    let version = parts.next()?;
    let (transactions, policies) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let rest = parts.next()?;
    let (checksum, transactional_id) = match version {
        FIRST => (None, rest),
        WITH_CHECKSUM => {
            let (checksum, id) = rest.split_once(" id=")?;
            (Some(Checksum::parse(checksum)?), id)
        }
        _ => return None,
    };
    Some(CommitMetadata { transactions, policies, transactional_id: transactional_id.to_owned(), checksum })
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
    use crate::processor::checksum::tests::checksum;

    #[test]
    fn metadata_of_both_versions_is_read_back_and_other_is_foreign() {
        let first = CommitMetadata {
            transactions: 7,
            policies: 12,
            transactional_id: "tallyman/127.0.0.1:80/x 1/0".into(),
            checksum: None,
        };
        assert_eq!("tallyman1 7 12 tallyman/127.0.0.1:80/x 1/0".parse(), Ok(first.clone()));
        let second = CommitMetadata { checksum: Some(checksum()), ..first };
        let text = "tallyman2 7 12 credits=-1208925819614629174706176 dead=2 duplicate=5 folded=90 forwarded=1 \
                    last_policy=- last_usage=101:deadbeef origin=3 partitions=12 policies_origin=0 settings=0a0b0c0d \
                    terms=4 id=tallyman/127.0.0.1:80/x 1/0";
        assert_eq!(second.to_string(), text);
        assert_eq!(text.parse(), Ok(second));
        for foreign in ["", "tallyman1 x 1 t", "tallyman2 1 1 origin=3 id=t", "tallyman3 1 1 t"] {
            assert!(foreign.parse::<CommitMetadata>().is_err(), "{foreign:?}");
        }
    }
}
