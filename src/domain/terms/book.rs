//! The terms of the orgs of one partition, and which of them are in force at an instant. Nothing is ever overwritten, so
//! that the terms of any past instant can still be told. Next: `decide` for what follows from them.

use std::collections::BTreeMap;

use crate::domain::id::OrgId;
use crate::domain::terms::records::{Budget, CreditGrant, OrgPolicy, PurchaseDeclined, TermsRecord};
use crate::domain::time::Timestamp;

/// A terms record that comes into force at an instant of its own.
pub trait Effective {
    /// From when on it holds.
    fn effective_at(&self) -> Timestamp;
}

impl Effective for OrgPolicy {
    fn effective_at(&self) -> Timestamp {
        self.effective_at
    }
}

impl Effective for Budget {
    fn effective_at(&self) -> Timestamp {
        self.effective_at
    }
}

impl Effective for CreditGrant {
    fn effective_at(&self) -> Timestamp {
        self.effective_at
    }
}

/// The records of one entity (an org's policy, one budget, one grant), ordered by (effective_at, offset).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<T>(BTreeMap<(Timestamp, i64), T>);

/// One org's policies.
pub type PolicyHistory = History<OrgPolicy>;

impl<T> Default for History<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Effective> History<T> {
    /// Takes the record that stands at `offset` of the policies partition; the same offset again changes nothing.
    pub fn insert(&mut self, offset: i64, record: T) {
        self.0.insert((record.effective_at(), offset), record);
    }

    /// The record in force at `at`, with its offset: the greatest (effective_at, offset) with effective_at <= at.
    #[must_use]
    pub fn in_force(&self, at: Timestamp) -> Option<(i64, &T)> {
        let (&(_, offset), record) = self.0.range(..=(at, i64::MAX)).next_back()?;
        Some((offset, record))
    }

    /// The record with the least effective_at.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        self.0.values().next()
    }

    /// The next instant after `at` at which another record comes into force.
    #[must_use]
    pub fn next_change_after(&self, at: Timestamp) -> Option<Timestamp> {
        let (&(effective_at, _), _) = self.0.range((at, i64::MAX)..).find(|((from, _), _)| *from > at)?;
        Some(effective_at)
    }

    /// Every record with its offset, earliest first.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &T)> {
        self.0.iter().map(|(&(_, offset), record)| (offset, record))
    }

    /// How many there are: it grows with each that comes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// All terms of one org.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrgTerms {
    /// Its policies.
    pub policies: PolicyHistory,
    /// Its budgets, by budget id.
    pub budgets: BTreeMap<String, History<Budget>>,
    /// Its grants, by grant id.
    pub grants: BTreeMap<String, History<CreditGrant>>,
    /// Purchases that were declined, by purchase id.
    pub declined: BTreeMap<String, PurchaseDeclined>,
}

impl OrgTerms {
    /// Takes the record at `offset` of the policies partition and tells whether a decision can follow from it: labels
    /// only name things.
    pub fn insert(&mut self, offset: i64, record: TermsRecord) -> bool {
        match record {
            TermsRecord::OrgPolicy(policy) => self.policies.insert(offset, policy),
            TermsRecord::Budget(budget) => {
                self.budgets.entry(budget.budget_id.clone()).or_default().insert(offset, budget);
            }
            TermsRecord::CreditGrant(grant) => {
                self.grants.entry(grant.grant_id.clone()).or_default().insert(offset, grant);
            }
            TermsRecord::PurchaseDeclined(declined) => {
                self.declined.insert(declined.purchase_id.clone(), declined);
            }
            TermsRecord::Label(_) => return false,
        }
        true
    }
}

/// The terms of the orgs of one partition.
#[derive(Clone, Debug, Default)]
pub struct TermsBook {
    orgs: BTreeMap<OrgId, OrgTerms>,
}

impl TermsBook {
    /// Takes the record at `offset` of the policies partition and names the org whose terms changed; `None` for a
    /// record that changes no decision.
    pub fn insert(&mut self, offset: i64, record: TermsRecord) -> Option<OrgId> {
        if matches!(record, TermsRecord::Label(_)) {
            return None;
        }
        let org = OrgId::new(record.org_id())?;
        self.orgs.entry(org.clone()).or_default().insert(offset, record).then_some(org)
    }

    /// An org's terms; `None` when it never had any.
    #[must_use]
    pub fn org(&self, org: &str) -> Option<&OrgTerms> {
        self.orgs.get(org)
    }

    /// An org's policies; `None` when it never had one.
    #[must_use]
    pub fn policies(&self, org: &str) -> Option<&PolicyHistory> {
        self.orgs.get(org).map(|terms| &terms.policies).filter(|policies| !policies.is_empty())
    }

    /// Every org that has terms.
    pub fn orgs(&self) -> impl Iterator<Item = &OrgId> {
        self.orgs.keys()
    }
}
