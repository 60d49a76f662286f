//! The walk written slowly and obviously: hour by hour over every hour, credit by credit (a credit is one micro-credit
//! here), with no memory between two questions. What `tests/decide/walk.rs` holds the real one against.

use std::collections::{BTreeMap, VecDeque};

use tallyman::domain::credits::CreditSum;
use tallyman::domain::limits::walk::Balance;
use tallyman::domain::terms::book::OrgTerms;
use tallyman::domain::terms::period::{Period, period_at};
use tallyman::domain::terms::records::{CreditGrant, DefaultTerms, OrgPolicy};
use tallyman::domain::time::{Hour, Timestamp};

/// Everything that ever happened to an org.
#[derive(Clone, Debug)]
pub struct Story {
    pub policies: Vec<OrgPolicy>,
    pub grants: Vec<CreditGrant>,
    pub default: DefaultTerms,
    pub hours: BTreeMap<Hour, i128>,
}

/// What the model tells.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub balance: Balance,
    pub allowance: Option<CreditSum>,
    pub held: Vec<(String, CreditSum)>,
    pub uncovered: BTreeMap<Hour, i128>,
}

struct Grant<'a> {
    id: &'a str,
    priority: i32,
    start: Timestamp,
    end: Option<Hour>,
    left: i128,
}

impl Grant<'_> {
    fn covers(&self, hour: Hour) -> bool {
        self.start.hour() <= hour && self.end.is_none_or(|end| hour < end)
    }
}

impl Story {
    /// As the partition's terms hold it; a record's offset is its place.
    pub fn terms(&self) -> OrgTerms {
        let mut terms = OrgTerms::default();
        for (offset, policy) in (0..).zip(&self.policies) {
            terms.policies.insert(offset, policy.clone());
        }
        for (offset, grant) in (0..).zip(&self.grants) {
            terms.grants.entry(grant.grant_id.clone()).or_default().insert(offset, grant.clone());
        }
        terms
    }

    pub fn credits(&self) -> Vec<(Hour, CreditSum)> {
        self.hours.iter().map(|(hour, net)| (*hour, CreditSum(*net))).collect()
    }

    pub fn period(&self, at: Timestamp) -> Period {
        period_at(Some(&self.terms().policies), &self.default, at)
    }

    fn base(&self, at: Timestamp) -> Option<i128> {
        let in_force = self
            .policies
            .iter()
            .filter(|policy| policy.effective_at <= at)
            .max_by_key(|policy| policy.effective_at);
        let policy = match (in_force, &self.default) {
            (Some(policy), _) => policy,
            (None, DefaultTerms::Policy(policy)) => policy,
            (None, DefaultTerms::Block) => return Some(0),
            (None, DefaultTerms::Allow) => return None,
        };
        (!policy.unlimited).then(|| policy.base_allocation.micros().into())
    }

    fn grants(&self, at: Timestamp) -> Vec<Grant<'_>> {
        let mut ids: Vec<&str> = self.grants.iter().map(|grant| grant.grant_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut grants = Vec::new();
        for id in ids {
            let records = || self.grants.iter().filter(|grant| grant.grant_id == id);
            let start = records().map(|grant| grant.effective_at).min().unwrap();
            // The last of equals: offsets ascend.
            let now = records().filter(|grant| grant.effective_at <= at).max_by_key(|grant| grant.effective_at);
            if let Some(now) = now {
                let ends = [now.expires_at, now.voided_at].into_iter().flatten().min();
                let end = ends.map(Timestamp::hour_at_or_after);
                grants.push(Grant { id, priority: now.priority, start, end, left: now.credits.micros().into() });
            }
        }
        grants
    }

    /// Everything about the period of `at`, as of `at`.
    pub fn told(&self, at: Timestamp) -> Told {
        let mut grants = self.grants(at);
        let last = self.period(at).end;
        let first = grants.iter().map(|grant| grant.start.hour()).min().unwrap_or(last).min(at.hour());
        let mut period = self.period(first.start());
        let mut state = Ledger::new(self.base(at.min(period.ends_at().plus_micros(-1))));
        let mut segment: Vec<(Hour, i128)> = Vec::new();
        let mut covering: Vec<bool> = grants.iter().map(|grant| grant.covers(period.start)).collect();
        for hour in (period.start.0..=last.0).map(Hour) {
            let now_covering: Vec<bool> = grants.iter().map(|grant| grant.covers(hour)).collect();
            let turns = hour == period.end;
            if turns || now_covering != covering {
                state.spend(&mut grants, &segment);
                segment.clear();
                covering = now_covering;
            }
            if turns && hour != last {
                period = self.period(hour.start());
                state = Ledger::new(self.base(at.min(period.ends_at().plus_micros(-1))));
            }
            segment.push((hour, self.hours.get(&hour).copied().unwrap_or(0)));
        }
        let mut held: Vec<&Grant<'_>> = grants.iter().filter(|grant| grant.covers(at.hour())).collect();
        held.sort_by_key(|grant| (grant.priority, grant.end.unwrap_or(Hour(i32::MAX)), grant.start, grant.id));
        let grants_left = held.iter().map(|grant| grant.left).sum();
        state.told(grants_left, held.into_iter().map(|grant| (grant.id.to_owned(), CreditSum(grant.left))))
    }
}

/// One period.
struct Ledger {
    base: Option<i128>,
    base_left: i128,
    used: i128,
    from_grants: i128,
    /// An hour for each uncovered credit, oldest first.
    uncovered: VecDeque<Hour>,
}

impl Ledger {
    fn new(base: Option<i128>) -> Self {
        Self { base, base_left: base.unwrap_or(0), used: 0, from_grants: 0, uncovered: VecDeque::new() }
    }

    /// One credit from the first grant in spending order that covers the hour and holds any.
    fn take_one(&mut self, grants: &mut [Grant<'_>], hour: Hour) -> bool {
        let holding = grants.iter_mut().filter(|grant| grant.covers(hour) && grant.left > 0);
        let first = holding
            .min_by_key(|grant| (grant.priority, grant.end.unwrap_or(Hour(i32::MAX)), grant.start, grant.id));
        let Some(grant) = first else { return false };
        grant.left -= 1;
        self.from_grants += 1;
        true
    }

    fn spend(&mut self, grants: &mut [Grant<'_>], segment: &[(Hour, i128)]) {
        let Some(&(start, _)) = segment.first() else { return };
        let net: i128 = segment.iter().map(|(_, net)| net).sum();
        self.used += net;
        if self.base.is_none() {
            return;
        }
        while !self.uncovered.is_empty() && self.take_one(grants, start) {
            self.uncovered.pop_front();
        }
        // Which of its own hours find base and grants empty.
        let covering = grants.iter().filter(|grant| grant.covers(start));
        let mut room = self.base_left + covering.map(|grant| grant.left).sum::<i128>();
        let mut own: VecDeque<Hour> = VecDeque::new();
        for &(hour, net) in segment {
            for _ in 0..net {
                if room > 0 {
                    room -= 1;
                } else {
                    own.push_back(hour);
                }
            }
            for _ in net..0 {
                if own.pop_front().is_none() {
                    room += 1;
                }
            }
        }
        for _ in 0..net - i128::try_from(own.len()).unwrap() {
            if self.base_left > 0 {
                self.base_left -= 1;
            } else {
                assert!(self.take_one(grants, start));
            }
        }
        for _ in net..0 {
            if self.uncovered.pop_front().is_none() {
                self.base_left += 1;
            }
        }
        self.uncovered.append(&mut own);
    }

    fn told(self, grants_left: i128, held: impl Iterator<Item = (String, CreditSum)>) -> Told {
        let balance = Balance {
            used: CreditSum(self.used),
            base: self.base.map(CreditSum),
            base_left: CreditSum(self.base_left),
            uncovered: CreditSum(self.uncovered.len().try_into().unwrap()),
            grants_used: CreditSum(self.from_grants),
            grants_left: CreditSum(grants_left),
        };
        let uncovered_count = i128::try_from(self.uncovered.len()).unwrap();
        let allowance = self.base.map(|_| CreditSum(self.used - uncovered_count + self.base_left + grants_left));
        let mut uncovered = BTreeMap::new();
        for hour in self.uncovered {
            *uncovered.entry(hour).or_default() += 1;
        }
        Told { balance, allowance, held: held.collect(), uncovered }
    }
}
