//! Every decision in memory, by scope, and what they say of a request. Any number of threads ask, none waits: nodes are
//! replaced whole in a concurrent map, and a reader keeps the one it found. One writer at a time, the follower.
//!
//! Scopes are found by 128-bit hashes that a seed of this process keys, so that a check compares no text. What is asked
//! and answered: `verdict`. What the map holds: `node`.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use papaya::{HashMap, LocalGuard};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::held::Held;
use super::key::{Key, budget_at};
use super::node::{Budgets, Node, OrgNode, Slot, of_budget, put, take_out};
use super::verdict::Basis;
pub use super::verdict::{Request, Verdict};
use crate::clock::Clock;
use crate::codec::{DecodeError, Decoder};
use crate::domain::decision::Action;
use crate::domain::dimension::Dimension;
use crate::domain::murmur2::partition_of;
use crate::domain::time::Timestamp;

/// Of scopes that are equally blocked and have equally much left, the first of these is told; the org last.
pub const TOLD_FIRST: [Dimension; Dimension::COUNT] = [
    Dimension::User,
    Dimension::Project,
    Dimension::Workspace,
    Dimension::Department,
    Dimension::OperationDetail,
    Dimension::Operation,
    Dimension::Model,
    Dimension::Provider,
    Dimension::Product,
    Dimension::Category,
    Dimension::Tier,
    Dimension::WorkspaceKind,
];

/// `gate.stale`: what holds while a partition's heartbeat is old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenStale {
    /// The last decisions.
    #[default]
    Keep,
    /// Everything is allowed.
    Allow,
    /// Everything is blocked.
    Block,
}

/// What decisions do not settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `gate.unknown`: of an org without a decision, and of an action that this version does not know.
    pub unknown: Action,
    /// `gate.stale`.
    pub stale: WhenStale,
    /// `gate.stale_after`: the age from which a heartbeat is old.
    pub stale_after: Duration,
}

impl Default for Rules {
    /// Unknown is allowed, decisions are kept, a heartbeat is old after a minute.
    fn default() -> Self {
        Self { unknown: Action::Allow, stale: WhenStale::Keep, stale_after: Duration::from_mins(1) }
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The table says something else now.
    Changed,
    /// It is older than what the table holds, or removes what is not there.
    Outdated,
    /// It speaks of what no request of this version has.
    Unheard,
}

/// The hash is the key: it is one already.
#[derive(Default)]
struct Direct(u64);

impl Hasher for Direct {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the keys are u128");
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of the hash is hash enough for a place")]
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

type Map = HashMap<u128, Node, BuildHasherDefault<Direct>>;

/// Every decision by scope, lock-free for readers.
pub struct Table {
    map: Map,
    seed: u64,
    rules: Rules,
    clock: Arc<dyn Clock>,
    scopes: AtomicUsize,
    /// When each partition's decider was last heard, in microseconds; its length is the partition count.
    heartbeats: OnceLock<Box<[AtomicI64]>>,
    is_ready: AtomicBool,
    ready: Condvar,
    /// Held by who writes.
    writer: Mutex<()>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(rules: Rules, clock: Arc<dyn Clock>) -> Self {
        Self {
            map: HashMap::with_hasher(BuildHasherDefault::default()),
            seed: rand::random(),
            rules,
            clock,
            scopes: AtomicUsize::new(0),
            heartbeats: OnceLock::new(),
            is_ready: AtomicBool::new(false),
            ready: Condvar::new(),
            writer: Mutex::new(()),
        }
    }

    /// What was decided for such a request (CONTRACT.md, Meaning: Decision, Gateway): blocked when any matching scope is,
    /// and told is the scope that is blocked, then the one with the least left, then the first of [`TOLD_FIRST`].
    /// Of budgets that are equal in all of it, a value's own goes before a `*` budget's, and those by id.
    ///
    /// The last decision holds also past its `valid_until`: whether its successor is only on its way is what
    /// heartbeats tell, see [`Rules::stale`].
    #[must_use]
    pub fn check(&self, request: &Request<'_>) -> Verdict {
        if self.rules.stale != WhenStale::Keep && self.is_stale(request.org) {
            let block = self.rules.stale == WhenStale::Block;
            return Verdict { action: if block { Action::Block } else { Action::Allow }, basis: Basis::Stale };
        }
        let guard = self.map.guard();
        let org_hash = self.org_hash(request.org);
        let mut told = Told { unknown: self.rules.unknown, best: None };
        let org = match self.map.get(&org_hash, &guard) {
            Some(Node::Org(org)) => Some(org),
            _ => None,
        };
        if let Some(org) = org {
            self.narrower(org, org_hash, request, &guard, &mut told);
        }
        match org.and_then(|org| org.own.as_ref()) {
            Some(own) => told.consider(own),
            None => told.consider_unknown(),
        }
        let wide = org.and_then(|org| org.budgets.as_ref()).map_or([].as_slice(), |budgets| &budgets.wide);
        wide.iter().for_each(|slot| told.consider(slot));
        told.verdict()
    }

    /// Considers what binds the request's values.
    fn narrower<'g>(
        &self,
        org: &'g OrgNode,
        org_hash: u128,
        request: &Request<'_>,
        guard: &'g LocalGuard<'_>,
        told: &mut Told<'g>,
    ) {
        for dimension in TOLD_FIRST {
            let each = org.budgets.as_ref().map_or([].as_slice(), |budgets| &budgets.each[dimension.index()]);
            let has_values = org.has_values(dimension);
            if !has_values && each.is_empty() {
                continue;
            }
            let Some(value) = request.value(dimension) else { continue };
            let hash = if has_values { Some(self.value_hash(org_hash, dimension, value)) } else { None };
            let own = match hash.and_then(|hash| self.map.get(&hash, guard)) {
                Some(Node::Value(slots)) => slots,
                _ => [].as_slice(),
            };
            own.iter().for_each(|slot| told.consider(slot));
            // A budget for exactly this value overrides those for each.
            if own.iter().all(|slot| of_budget(each, slot.held.budget()).is_some()) {
                let without_own = |slot: &&Slot| of_budget(own, slot.held.budget()).is_none();
                each.iter().filter(without_own).for_each(|slot| told.consider(slot));
            }
        }
    }

    fn org_hash(&self, org: &str) -> u128 {
        xxh3_128_with_seed(org.as_bytes(), self.seed)
    }

    fn value_hash(&self, org: u128, dimension: Dimension, value: &str) -> u128 {
        let seed = self.seed.rotate_left(32).wrapping_add(dimension.index() as u64 + 1);
        org.rotate_left(64).wrapping_add(xxh3_128_with_seed(value.as_bytes(), seed))
    }

    /// How many scopes have a decision.
    #[must_use]
    pub fn len(&self) -> usize {
        self.scopes.load(Ordering::Relaxed)
    }

    /// Whether no scope has a decision.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is done where decisions do not settle it.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        self.rules
    }

    /// Whether the decisions have been read to their end once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    pub(super) fn wait_until_ready(&self, patience: Duration) -> bool {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // What is waited for is set under the same lock.
        drop(self.ready.wait_timeout_while(writer, patience, |()| !self.is_ready()));
        self.is_ready()
    }

    /// The decisions have been read to their end.
    pub fn set_ready(&self) {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_ready.store(true, Ordering::Release);
        self.ready.notify_all();
    }

    /// The partition count of the decisions topic, once it is known; it never changes.
    pub fn set_partitions(&self, partitions: usize) {
        self.heartbeats.get_or_init(|| (0..partitions).map(|_| AtomicI64::new(i64::MIN)).collect());
    }

    /// How old the oldest partition's heartbeat is, in seconds; infinite where one never came or no partition is
    /// known yet.
    #[must_use]
    pub fn heartbeat_age_seconds(&self) -> f64 {
        let heard = self.heartbeats.get().into_iter().flatten().map(|at| at.load(Ordering::Relaxed)).min();
        match heard {
            None | Some(i64::MIN) => f64::INFINITY,
            Some(at) => self.clock.now().micros_since(Timestamp::from_micros(at)).max(0) as f64 / 1e6,
        }
    }

    /// Whether the heartbeat of this org's partition is older than `gate.stale_after`, or never came.
    #[must_use]
    pub fn is_stale(&self, org: &str) -> bool {
        let Some(heartbeats) = self.heartbeats.get().filter(|all| !all.is_empty()) else { return true };
        let partition = partition_of(org.as_bytes(), i32::try_from(heartbeats.len()).unwrap_or(i32::MAX));
        let at = usize::try_from(partition).map_or(i64::MIN, |place| heartbeats[place].load(Ordering::Relaxed));
        let age = self.clock.now().micros_since(Timestamp::from_micros(at));
        u128::try_from(age).is_ok_and(|age| age > self.rules.stale_after.as_micros())
    }

    /// Takes a record of the decisions topic in. A version never goes backwards; a tombstone removes.
    ///
    /// # Errors
    /// When the value cannot be read ([`DecodeError::Reject`], its own fault) or not now
    /// ([`DecodeError::Unavailable`]: to be tried again).
    pub fn apply(&self, decoder: &mut Decoder, key: &[u8], value: Option<&[u8]>) -> Result<Applied, DecodeError> {
        let text = std::str::from_utf8(key).ok();
        let Some((text, read)) = text.and_then(|text| Some((text, Key::read(text)?))) else {
            return Ok(Applied::Unheard);
        };
        if let Key::Heartbeat(partition) = read {
            let at = value.map(|value| decoder.heartbeat(value)).transpose()?.map(|heartbeat| heartbeat.at);
            let heard = self.heartbeats.get().and_then(|all| all.get(usize::try_from(partition).ok()?));
            if let Some((heard, at)) = heard.zip(at) {
                heard.fetch_max(at.micros(), Ordering::Relaxed);
            }
            return Ok(Applied::Changed);
        }
        if read == Key::Unheard {
            return Ok(Applied::Unheard);
        }
        let change = match value {
            Some(value) => Change::Put(Held::read(decoder, text, value)?.into()),
            None => Change::Remove(&text[budget_at(text)..]),
        };
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match read {
            Key::Value { org, dimension, value } => self.change_value(&org, dimension, &value, change),
            Key::Org(org) => self.change_org(&org, |own, _| change.one(own)),
            Key::Wide { org } => self.change_org(&org, |_, budgets| change.of(&mut budgets.wide)),
            Key::Each { org, dimension } => {
                self.change_org(&org, |_, budgets| change.of(&mut budgets.each[dimension.index()]))
            }
            Key::Heartbeat(_) | Key::Unheard => Applied::Unheard,
        })
    }

    /// Replaces an org's node by one with that change, if it is one.
    fn change_org(
        &self,
        org: &str,
        change: impl FnOnce(&mut Option<Slot>, &mut Budgets) -> Option<isize>,
    ) -> Applied {
        let (guard, hash) = (self.map.guard(), self.org_hash(org));
        let none = OrgNode::default();
        let node = match self.map.get(&hash, &guard) {
            Some(Node::Org(node)) => node,
            _ => &none,
        };
        let (mut own, mut budgets) = (node.own.clone(), node.budgets.clone().unwrap_or_default());
        let Some(more) = change(&mut own, &mut budgets) else { return Applied::Outdated };
        self.scopes.fetch_add(more.cast_unsigned(), Ordering::Relaxed);
        let changed = node.with(own, Some(budgets));
        if changed.is_empty() {
            self.map.remove(&hash, &guard);
        } else {
            self.map.insert(hash, Node::Org(changed), &guard);
        }
        Applied::Changed
    }

    /// Replaces a value's node by one with that change, and keeps its org's count.
    fn change_value(&self, org: &str, dimension: Dimension, value: &str, change: Change<'_>) -> Applied {
        let (guard, org_hash) = (self.map.guard(), self.org_hash(org));
        let hash = self.value_hash(org_hash, dimension, value);
        let mut slots = match self.map.get(&hash, &guard) {
            Some(Node::Value(slots)) => slots.to_vec(),
            _ => Vec::new(),
        };
        let Some(more) = change.of(&mut slots) else { return Applied::Outdated };
        self.scopes.fetch_add(more.cast_unsigned(), Ordering::Relaxed);
        if slots.is_empty() {
            self.map.remove(&hash, &guard);
        } else {
            self.map.insert(hash, Node::Value(slots.into_boxed_slice()), &guard);
        }
        let node = self.map.get_or_insert_with(org_hash, || Node::Org(OrgNode::default()), &guard);
        if let Node::Org(node) = node {
            match more {
                0 => {}
                1 => node.value_came(dimension),
                _ => node.value_went(),
            }
            if node.is_empty() {
                self.map.remove(&org_hash, &guard);
            }
        }
        Applied::Changed
    }

    /// The keys of every scope that has a decision and stands in this partition.
    pub(super) fn keys_of(&self, partition: i32) -> Vec<String> {
        let Some(count) = self.heartbeats.get().and_then(|all| i32::try_from(all.len()).ok()) else {
            return Vec::new();
        };
        let is_there = |slot: &&Slot| match Key::read(slot.held.key()) {
            Some(Key::Org(org) | Key::Wide { org } | Key::Each { org, .. } | Key::Value { org, .. }) => {
                partition_of(org.as_bytes(), count) == partition
            }
            _ => false,
        };
        let guard = self.map.guard();
        let mut keys = Vec::new();
        for node in self.map.values(&guard) {
            let slots: Vec<&Slot> = match node {
                Node::Value(slots) => slots.iter().collect(),
                Node::Org(org) => {
                    let budgets = org.budgets.iter().flat_map(|all| all.wide.iter().chain(all.each.iter().flatten()));
                    org.own.iter().chain(budgets).collect()
                }
            };
            keys.extend(slots.into_iter().filter(is_there).map(|slot| slot.held.key().to_owned()));
        }
        keys
    }
}

/// What a record does to the decisions of its place.
enum Change<'a> {
    Put(Slot),
    /// Of this budget.
    Remove(&'a str),
}

impl Change<'_> {
    /// Makes it; how many decisions more there are then, `None` when it is outdated.
    fn of(self, slots: &mut Vec<Slot>) -> Option<isize> {
        match self {
            Self::Remove(budget) => take_out(slots, budget).then_some(-1),
            Self::Put(slot) => {
                let held = of_budget(slots, slot.held.budget()).map(|held| held.held.version);
                if held.is_some_and(|version| version > slot.held.version) {
                    return None;
                }
                put(slots, slot);
                Some(isize::from(held.is_none()))
            }
        }
    }

    /// The same where there is one at most.
    fn one(self, own: &mut Option<Slot>) -> Option<isize> {
        let mut slots: Vec<Slot> = own.take().into_iter().collect();
        let more = self.of(&mut slots);
        *own = slots.pop();
        more
    }
}

/// The scope to tell, as far as it is found.
struct Told<'g> {
    unknown: Action,
    /// What ranks it, and its decision; `None` stands for the org that has none.
    best: Option<((bool, i64), Option<&'g Slot>)>,
}

impl<'g> Told<'g> {
    fn offer(&mut self, action: Action, remaining: i64, slot: Option<&'g Slot>) {
        let rank = (action == Action::Allow, remaining);
        if self.best.is_none_or(|(best, _)| rank < best) {
            self.best = Some((rank, slot));
        }
    }

    fn consider(&mut self, slot: &'g Slot) {
        self.offer(slot.action.unwrap_or(self.unknown), slot.remaining, Some(slot));
    }

    fn consider_unknown(&mut self) {
        self.offer(self.unknown, i64::MAX, None);
    }

    fn verdict(self) -> Verdict {
        let ((allowed, _), slot) = self.best.expect("the org itself was considered");
        let action = if allowed { Action::Allow } else { Action::Block };
        let basis = match slot {
            None => Basis::Unknown(None),
            Some(slot) if slot.action.is_none() => Basis::Unknown(Some(Arc::clone(&slot.held))),
            Some(slot) => Basis::Decision(Arc::clone(&slot.held)),
        };
        Verdict { action, basis }
    }
}
