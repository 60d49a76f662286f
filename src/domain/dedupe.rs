//! Duplicates: which ids were seen less than a window of log time ago (CONTRACT.md, Meaning: Duplicate).

use super::time::Timestamp;

/// A record's identity: a 128-bit hash of (org, source, record type, id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdKey(pub u128);

/// What is kept of an accepted record for its id's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Log time when it was first seen.
    pub at: Timestamp,
    /// 64-bit hash of its decoded fields, trace id apart.
    pub fingerprint: u64,
}

/// Ids are kept in buckets of log time, so that old ones go away by the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdBucket(pub u32);
