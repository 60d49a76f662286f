//! Grants: which of an org's grants count at an instant, from when to when, and in which order they are spent
//! (CONTRACT.md, Meaning: Grants, Spending order).
//!
//! It looks at the records of the policies topic alone and knows no usage. Next: `walk` for what usage takes of them.

use std::collections::BTreeMap;

use crate::domain::credits::CreditSum;
use crate::domain::terms::book::History;
use crate::domain::terms::records::CreditGrant;
use crate::domain::time::{Hour, Timestamp};

/// An org's grants with all their records, by grant id.
pub type GrantHistories = BTreeMap<String, History<CreditGrant>>;

/// One grant as its records say it at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its id within the org.
    pub grant_id: String,
    /// How much was granted, zero or greater.
    pub credits: CreditSum,
    /// Lower is spent first.
    pub priority: i32,
    /// When it starts to count: the least effective_at of its records.
    pub starts_at: Timestamp,
    /// The first whole hour in which it can no longer be used: that at or after its expiry or void. [`Grant::NEVER`]
    /// without either.
    pub end: Hour,
}

impl Grant {
    /// The end of a grant that has none.
    pub const NEVER: Hour = Hour(i32::MAX);

    /// The whole UTC hour that it belongs to in the walk from its start on.
    #[must_use]
    pub const fn first_hour(&self) -> Hour {
        self.starts_at.hour()
    }

    /// Whether usage of this hour can be taken from it.
    #[must_use]
    pub fn covers(&self, hour: Hour) -> bool {
        (self.first_hour()..self.end).contains(&hour)
    }

    /// What grants are spent by, least first; no end is the greatest.
    pub(in crate::domain) fn order(&self) -> (i32, Hour, Timestamp, &str) {
        (self.priority, self.end, self.starts_at, &self.grant_id)
    }

    fn of(grant_id: &str, records: &History<CreditGrant>, at: Timestamp) -> Option<Self> {
        let starts_at = records.first()?.effective_at;
        // None before the start: then no record is in force.
        let (_, record) = records.in_force(at)?;
        let end = [record.expires_at, record.voided_at].into_iter().flatten().min();
        let end = end.map_or(Self::NEVER, Timestamp::hour_at_or_after);
        let credits = record.credits.into();
        let grant = Self { grant_id: grant_id.to_owned(), credits, priority: record.priority, starts_at, end };
        (grant.first_hour() < end).then_some(grant)
    }
}

/// Every grant that has started by `at`, those that have ended included, in spending order. One that ends before its
/// first hour never was.
#[must_use]
pub fn grants_at(histories: &GrantHistories, at: Timestamp) -> Vec<Grant> {
    let mut grants: Vec<Grant> = histories.iter().filter_map(|(id, records)| Grant::of(id, records, at)).collect();
    grants.sort_by(|a, b| a.order().cmp(&b.order()));
    grants
}

/// The next instant after `at` at which a grant starts, ends, or another of its records comes into force.
#[must_use]
pub fn next_change_after(histories: &GrantHistories, at: Timestamp) -> Option<Timestamp> {
    let records = histories.values().filter_map(|records| records.next_change_after(at));
    let ends = histories.iter().filter_map(|(id, records)| Grant::of(id, records, at)).map(|grant| grant.end);
    let ends = ends.filter(|end| *end != Grant::NEVER).map(Hour::start).filter(|end| *end > at);
    records.chain(ends).min()
}
