//! What one record of terms changes: which earlier record of the same entity it follows, whether it says anything new,
//! and what cannot be meant beside the others. For `policy apply` and `policy history`; decisions never come here. Next:
//! `terms_notes` for what is legal and perhaps not meant, `terms_book` for what is in force.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::domain::terms::book::PolicyHistory;
use crate::domain::terms::records::TermsRecord;
use crate::domain::time::Timestamp;

/// What a record is about inside its org: records of equal type and id follow one another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity<'a> {
    /// The record type's name.
    pub type_name: &'static str,
    /// Empty for the org's policy; `dimension:value` for a label.
    pub id: Cow<'a, str>,
}

/// What the record is about.
#[must_use]
pub fn entity(record: &TermsRecord) -> Entity<'_> {
    let id = match record {
        TermsRecord::OrgPolicy(_) => Cow::Borrowed(""),
        TermsRecord::Budget(budget) => Cow::Borrowed(&*budget.budget_id),
        TermsRecord::CreditGrant(grant) => Cow::Borrowed(&*grant.grant_id),
        TermsRecord::PurchaseDeclined(declined) => Cow::Borrowed(&*declined.purchase_id),
        TermsRecord::Label(label) => Cow::Owned(format!("{}:{}", label.dimension, label.value)),
    };
    Entity { type_name: record.type_name(), id }
}

/// From when on the record holds; `None` for those that hold as soon as they stand there.
#[must_use]
pub const fn effective_at(record: &TermsRecord) -> Option<Timestamp> {
    match record {
        TermsRecord::OrgPolicy(policy) => Some(policy.effective_at),
        TermsRecord::Budget(budget) => Some(budget.effective_at),
        TermsRecord::CreditGrant(grant) => Some(grant.effective_at),
        TermsRecord::PurchaseDeclined(_) | TermsRecord::Label(_) => None,
    }
}

/// When what the record is about ends: a budget at `expires_at`, a grant at the first whole UTC hour at or after the
/// lesser of that and `voided_at` (CONTRACT.md, Meaning: Grants).
#[must_use]
pub fn end_of(record: &TermsRecord) -> Option<Timestamp> {
    match record {
        TermsRecord::Budget(budget) => budget.expires_at,
        TermsRecord::CreditGrant(grant) => {
            let end = grant.expires_at.into_iter().chain(grant.voided_at).min()?;
            Some(end.hour_at_or_after().start())
        }
        _ => None,
    }
}

/// Who wrote it, where the record says so.
#[must_use]
pub fn updated_by(record: &TermsRecord) -> Option<&str> {
    match record {
        TermsRecord::OrgPolicy(policy) => Some(&policy.updated_by),
        TermsRecord::Budget(budget) => Some(&budget.updated_by),
        TermsRecord::CreditGrant(grant) => Some(&grant.updated_by),
        TermsRecord::PurchaseDeclined(_) | TermsRecord::Label(_) => None,
    }
}

fn set(record: &mut TermsRecord, at: Option<Timestamp>, by: Option<&str>) {
    let (effective_at, updated_by) = match record {
        TermsRecord::OrgPolicy(policy) => (&mut policy.effective_at, &mut policy.updated_by),
        TermsRecord::Budget(budget) => (&mut budget.effective_at, &mut budget.updated_by),
        TermsRecord::CreditGrant(grant) => (&mut grant.effective_at, &mut grant.updated_by),
        TermsRecord::PurchaseDeclined(_) | TermsRecord::Label(_) => return,
    };
    *effective_at = at.unwrap_or(*effective_at);
    if let Some(by) = by {
        by.clone_into(updated_by);
    }
}

/// Records of one type with their offsets, told apart by what they are now.
#[derive(Clone, Debug, Default)]
pub struct Standing<'a> {
    /// The record in force of each entity that has not ended, by entity.
    pub in_force: Vec<(i64, &'a TermsRecord)>,
    /// Records that come into force later, the next first.
    pub scheduled: Vec<(i64, &'a TermsRecord)>,
    /// The record in force of each entity that has ended.
    pub ended: Vec<(i64, &'a TermsRecord)>,
}

/// Every terms record of one org with its offset in the policies partition.
#[derive(Clone, Debug, Default)]
pub struct TermsLog {
    records: BTreeMap<i64, TermsRecord>,
    /// The offsets of each entity's records, ascending.
    offsets: BTreeMap<Entity<'static>, BTreeSet<i64>>,
}

impl TermsLog {
    /// Of these records.
    pub fn new(records: impl IntoIterator<Item = (i64, TermsRecord)>) -> Self {
        let mut log = Self::default();
        records.into_iter().for_each(|(offset, record)| log.insert(offset, record));
        log
    }

    /// Takes the record at `offset`; the same offset again changes nothing.
    pub fn insert(&mut self, offset: i64, record: TermsRecord) {
        let Entity { type_name, id } = entity(&record);
        let entity = Entity { type_name, id: Cow::Owned(id.into_owned()) };
        self.offsets.entry(entity).or_default().insert(offset);
        self.records.insert(offset, record);
    }

    /// The records of one entity, in the order in which they were written.
    fn of<'s>(&'s self, entity: &Entity<'_>) -> impl Iterator<Item = (i64, &'s TermsRecord)> + use<'s> {
        let entity = Entity { type_name: entity.type_name, id: Cow::Owned(entity.id.clone().into_owned()) };
        let offsets = self.offsets.get(&entity).into_iter().flatten();
        offsets.filter_map(|offset| Some((*offset, self.records.get(offset)?)))
    }

    /// The last offset.
    #[must_use]
    pub fn last_offset(&self) -> Option<i64> {
        self.records.keys().next_back().copied()
    }

    /// Every record with its offset, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &TermsRecord)> {
        self.records.iter().map(|(&offset, record)| (offset, record))
    }

    /// What is in force at `at` of the entity of `like`, among the records before `offset`.
    fn before(&self, like: &TermsRecord, at: Option<Timestamp>, offset: i64) -> Option<(i64, &TermsRecord)> {
        let earlier = self.of(&entity(like)).take_while(|(other, _)| *other < offset);
        earlier
            .filter(|(_, record)| effective_at(record) <= at)
            .max_by_key(|(offset, record)| (effective_at(record), *offset))
    }

    /// What is in force of the entity of `like` at the instant from which `like` holds: what it follows.
    #[must_use]
    pub fn followed_by(&self, like: &TermsRecord) -> Option<(i64, &TermsRecord)> {
        self.before(like, effective_at(like), i64::MAX)
    }

    /// The record that the one at `offset` followed when it was written.
    #[must_use]
    pub fn predecessor(&self, offset: i64) -> Option<(i64, &TermsRecord)> {
        let record = self.records.get(&offset)?;
        self.before(record, effective_at(record), offset)
    }

    /// The first record of the entity of `like` that comes into force after it.
    #[must_use]
    pub fn follows(&self, like: &TermsRecord) -> Option<(i64, &TermsRecord)> {
        self.of(&entity(like))
            .filter(|(_, record)| effective_at(record) > effective_at(like))
            .min_by_key(|(offset, record)| (effective_at(record), std::cmp::Reverse(*offset)))
    }

    /// What stands of one record type at `now`, by entity.
    #[must_use]
    pub fn standing(&self, type_name: &str, now: Timestamp) -> Standing<'_> {
        let mut standing = Standing::default();
        let mut current: BTreeMap<Entity<'_>, (i64, &TermsRecord)> = BTreeMap::new();
        for (offset, record) in self.iter().filter(|(_, record)| record.type_name() == type_name) {
            if effective_at(record).is_some_and(|at| at > now) {
                standing.scheduled.push((offset, record));
                continue;
            }
            let there = current.entry(entity(record)).or_insert((offset, record));
            if (effective_at(record), offset) >= (effective_at(there.1), there.0) {
                *there = (offset, record);
            }
        }
        standing.scheduled.sort_by_key(|(offset, record)| (effective_at(record), *offset));
        for (offset, record) in current.into_values() {
            let is_over = end_of(record).is_some_and(|end| end <= now);
            let list = if is_over { &mut standing.ended } else { &mut standing.in_force };
            list.push((offset, record));
        }
        standing
    }

    /// The offset of the record that already says all that `record` does at the instant from which it holds. What a
    /// person left out (`says_effective_at`, `says_updated_by`) is not compared.
    #[must_use]
    pub fn says_already(
        &self,
        record: &TermsRecord,
        says_effective_at: bool,
        says_updated_by: bool,
    ) -> Option<i64> {
        let (offset, there) = self.followed_by(record)?;
        let mut same = record.clone();
        let at = effective_at(there).filter(|_| !says_effective_at);
        set(&mut same, at, updated_by(there).filter(|_| !says_updated_by));
        (same == *there).then_some(offset)
    }

    /// What of `record` cannot be valid beside the records that stand there: each field at fault and why.
    #[must_use]
    pub fn faults(&self, record: &TermsRecord) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        // A record that ends what was there is how a budget or grant is ended; a new one would never hold.
        let is_new = self.followed_by(record).is_none();
        let expires_at = match record {
            TermsRecord::Budget(budget) => budget.expires_at,
            TermsRecord::CreditGrant(grant) => grant.expires_at,
            _ => None,
        };
        if let (true, Some(at), Some(ends)) = (is_new, effective_at(record), expires_at)
            && ends <= at
        {
            faults.push(("expires_at", format!("is {ends}, not after `effective_at` {at}: it would never hold")));
        }
        // A grant starts at the least of its records' instants, and its last one holds: an earlier one moves the start.
        let starts_at = self.of(&entity(record)).filter_map(|(_, other)| effective_at(other)).min();
        if let (TermsRecord::CreditGrant(grant), Some(starts_at)) = (record, starts_at)
            && grant.effective_at < starts_at
        {
            let what = format!(
                "is {}, before the grant's start {starts_at}: it would start then, and at {starts_at} what stands \
                 there would take this record's place; write `effective_at: {starts_at}` or later",
                grant.effective_at
            );
            faults.push(("effective_at", what));
        }
        let answered = |type_name, id| self.of(&Entity { type_name, id: Cow::Borrowed(id) }).next();
        match record {
            TermsRecord::PurchaseDeclined(declined) => {
                if let Some((offset, _)) = answered("CreditGrant", &declined.purchase_id) {
                    faults.push(("purchase_id", format!("was granted already, by the record at offset {offset}")));
                }
            }
            TermsRecord::CreditGrant(grant) if grant.kind == "purchase" => {
                if let Some((offset, _)) = answered("PurchaseDeclined", &grant.grant_id) {
                    let what = format!("was declined already, by the record at offset {offset}; grant another id");
                    faults.push(("grant_id", what));
                }
            }
            _ => {}
        }
        faults
    }

    /// The org's policies.
    #[must_use]
    pub fn policies(&self) -> PolicyHistory {
        let mut history = PolicyHistory::default();
        for (offset, record) in self.of(&Entity { type_name: "OrgPolicy", id: Cow::Borrowed("") }) {
            if let TermsRecord::OrgPolicy(policy) = record {
                history.insert(offset, policy.clone());
            }
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::credits::Credits;
    use crate::domain::terms::records::{CreditGrant, PurchaseDeclined};

    fn grant(id: &str, credits: i64, at: i64) -> TermsRecord {
        TermsRecord::CreditGrant(CreditGrant {
            org_id: "acme".into(),
            grant_id: id.into(),
            credits: Credits::from_micros(credits).unwrap(),
            kind: "purchase".into(),
            price: None,
            currency: None,
            effective_at: Timestamp::from_micros(at),
            expires_at: None,
            voided_at: None,
            priority: 0,
            updated_by: "ann".into(),
        })
    }

    #[test]
    fn a_record_follows_what_is_in_force_of_its_own_entity_when_it_takes_effect() {
        let log = TermsLog::new([(1, grant("a", 5, 10)), (2, grant("b", 5, 10)), (3, grant("a", 6, 30))]);
        assert_eq!(log.followed_by(&grant("a", 7, 20)).unwrap().0, 1);
        assert_eq!(log.followed_by(&grant("a", 7, 30)).unwrap().0, 3);
        assert!(log.followed_by(&grant("a", 7, 9)).is_none());
        assert_eq!(log.predecessor(3).unwrap().0, 1);
        assert!(log.predecessor(2).is_none());
        assert_eq!(log.follows(&grant("a", 7, 20)).unwrap().0, 3);
    }

    #[test]
    fn what_a_document_leaves_out_is_not_compared_and_what_it_says_is() {
        let log = TermsLog::new([(1, grant("a", 5, 10)), (3, grant("a", 6, 30))]);
        assert_eq!(log.says_already(&grant("a", 5, 20), false, true), Some(1));
        assert_eq!(log.says_already(&grant("a", 5, 20), true, true), None, "from another instant on");
        assert_eq!(
            log.says_already(&grant("a", 5, 10), true, true),
            Some(1),
            "scheduled or long past: it stands there"
        );
        assert_eq!(log.says_already(&grant("a", 6, 20), false, true), None, "not yet in force");
        let mut bob = grant("a", 5, 20);
        set(&mut bob, None, Some("bob"));
        assert_eq!(log.says_already(&bob, false, true), None);
        assert_eq!(log.says_already(&bob, false, false), Some(1));
    }

    #[test]
    fn a_record_that_would_start_a_scheduled_grant_earlier_is_at_fault_and_one_from_its_start_on_follows_it() {
        let log = TermsLog::new([(1, grant("a", 5, 30)), (2, grant("a", 6, 40))]);
        let void = |at| {
            let TermsRecord::CreditGrant(mut void) = grant("a", 5, at) else { unreachable!() };
            void.voided_at = Some(Timestamp::from_micros(20));
            TermsRecord::CreditGrant(void)
        };
        assert_eq!(log.faults(&void(29))[0].0, "effective_at");
        assert!(log.faults(&void(30)).is_empty() && log.faults(&void(35)).is_empty());
        assert!(log.faults(&grant("b", 5, 1)).is_empty(), "the first record of a grant");
        let mut log = log;
        log.insert(3, void(30));
        assert_eq!(log.predecessor(3).unwrap().0, 1, "history tells it as a change");
    }

    #[test]
    fn a_purchase_has_one_answer() {
        let declined = |id: &str| {
            TermsRecord::PurchaseDeclined(PurchaseDeclined {
                org_id: "acme".into(),
                purchase_id: id.into(),
                reason: "no funds".into(),
            })
        };
        let log = TermsLog::new([(1, grant("a", 5, 10)), (2, declined("b"))]);
        assert_eq!(log.faults(&declined("a"))[0].0, "purchase_id");
        assert_eq!(log.faults(&grant("b", 1, 20))[0].0, "grant_id");
        assert!(log.faults(&declined("c")).is_empty() && log.faults(&grant("c", 1, 20)).is_empty());
    }
}
