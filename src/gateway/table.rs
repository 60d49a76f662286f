//! Every decision in memory, by scope, and what they say of a request. Any number of threads ask, none waits: the small
//! part of it that a change makes anew is put in the old one's place, and a reader keeps the one it found. One writer at
//! a time, the follower.
//!
//! Scopes are found by 128-bit hashes that a seed of this process keys, so that a check compares no text. What is asked
//! and answered: `verdict`. What a part holds: `shard`.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::held::Held;
use super::key::{Key, budget_at};
use super::node::{Change, Node, OpenOrg, Slot, Slots, of_budget};
use super::root::Root;
use super::shard::{Entry, Shard};
use super::told::{Seat, Told};
use super::verdict::Basis;
pub use super::verdict::{Request, Verdict};
use crate::clock::Clock;
use crate::codec::{DecodeError, Decoder};
use crate::domain::limits::decision::Action;
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::murmur2::partition_of;

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

/// When a record of the decisions topic came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// Just now, after all that stood in its partition had been read.
    Now,
    /// It stood in its partition when that was read; written at this time of the topic's own clock.
    Before(Timestamp),
}

/// Offers what a dimension's `*` budgets say of a value with these decisions of its own.
fn offer_each(told: &mut Told, own: &[Slot], (dimension, each): (Dimension, &[Slot]), org_hash: u128) {
    // A budget for exactly this value overrides those for each, as long as it is in force.
    if own.iter().any(|slot| slot.has_limit() && of_budget(each, slot.held.budget()).is_none()) {
        return;
    }
    for (seat, slot) in each.iter().enumerate() {
        if of_budget(own, slot.held.budget()).is_none() {
            told.offer(slot, org_hash, Seat::Each(dimension, seat));
        }
    }
}

/// Every decision by scope, lock-free for readers.
pub struct Table {
    root: ArcSwap<Root>,
    seed: u64,
    rules: Rules,
    clock: Arc<dyn Clock>,
    scopes: AtomicUsize,
    /// When each partition's decider was last heard, in microseconds of [`Clock::elapsed`]; its length is the partition count.
    heartbeats: OnceLock<Box<[AtomicI64]>>,
    is_ready: AtomicBool,
    ready: Condvar,
    /// Held by who writes: the decisions while they are read for the first time, when nobody is answered from them
    /// yet and no part need be made anew for a record.
    writer: Mutex<Option<Root>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(rules: Rules, clock: Arc<dyn Clock>) -> Self {
        Self {
            root: ArcSwap::from_pointee(Root::default()),
            seed: rand::random(),
            rules,
            clock,
            scopes: AtomicUsize::new(0),
            heartbeats: OnceLock::new(),
            is_ready: AtomicBool::new(false),
            ready: Condvar::new(),
            writer: Mutex::new(Some(Root::default())),
        }
    }

    /// What was decided for such a request (CONTRACT.md, Meaning: Decision, Gateway): blocked when any matching scope is,
    /// and told is the scope that is blocked, then the one with the least left, then the first of [`Dimension::TOLD_FIRST`].
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
        let org_hash = self.org_hash(request.org);
        let root = self.root.load();
        let org = root.entry(org_hash);
        let mut told = Told::new(self.rules.unknown);
        if let Some(org) = org.filter(|org| org.dimensions.meets(request.dimensions)) {
            self.offer_values(&mut told, request, &root, (org, org_hash));
        }
        match org.filter(|org| org.has_first) {
            Some(org) => told.offer_first(org, org_hash, Seat::Own),
            None => told.offer_unknown(),
        }
        if let Some(org) = org.filter(|org| org.has_more).and_then(|org| org.node.org()) {
            for (seat, slot) in org.wide().iter().enumerate() {
                told.offer(slot, org_hash, Seat::Wide(seat));
            }
        }
        told.verdict(root)
    }

    /// Offers what is decided of the request's values.
    fn offer_values(&self, told: &mut Told, request: &Request<'_>, root: &Root, (org, org_hash): (&Entry, u128)) {
        // It goes by the request's dimensions, which the processor knows while the org's are still on their way out of memory:
        // so it is on its way to the values before the org has come.
        for dimension in request.dimensions.in_order() {
            let Some(value) = request.value(dimension).filter(|_| org.dimensions.has(dimension)) else { continue };
            let hash = self.value_hash(org_hash, dimension, value);
            let value = root.entry(hash);
            if let Some(value) = value {
                told.offer_first(value, hash, Seat::Value(0));
                if value.has_more {
                    for (seat, slot) in value.node.value().iter().enumerate().skip(1) {
                        told.offer(slot, hash, Seat::Value(seat));
                    }
                }
            }
            if org.each.has(dimension)
                && let Some(org) = org.node.org()
            {
                let own = value.map_or(&[][..], |value| value.node.value());
                offer_each(told, own, (dimension, org.each(dimension)), org_hash);
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
        // What is waited for is set under the same lock.
        drop(self.ready.wait_timeout_while(self.writer(), patience, |_| !self.is_ready()));
        self.is_ready()
    }

    fn writer(&self) -> MutexGuard<'_, Option<Root>> {
        // A writer that panicked has left a whole root: it is put in its place in one step.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was read so far, if the end was not reached yet.
    pub(super) fn start_again(&self) {
        if let Some(reading) = self.writer().as_mut() {
            *reading = Root::default();
            self.scopes.store(0, Ordering::Relaxed);
        }
    }

    /// The decisions have been read to their end: from now on checks are answered from them.
    pub fn set_ready(&self) {
        let mut writer = self.writer();
        if let Some(read) = writer.take() {
            self.root.store(Arc::new(read));
        }
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
            Some(at) => self.elapsed().saturating_sub(at) as f64 / 1e6,
        }
    }

    /// Whether the heartbeat of this org's partition is older than `gate.stale_after`, or never came.
    #[must_use]
    pub fn is_stale(&self, org: &str) -> bool {
        let Some(heartbeats) = self.heartbeats.get().filter(|all| !all.is_empty()) else { return true };
        let partition = partition_of(org.as_bytes(), i32::try_from(heartbeats.len()).unwrap_or(i32::MAX));
        let at = usize::try_from(partition).map_or(i64::MIN, |place| heartbeats[place].load(Ordering::Relaxed));
        let age = self.elapsed().saturating_sub(at);
        u128::try_from(age).is_ok_and(|age| age > self.rules.stale_after.as_micros())
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.clock.read().1.as_micros()).unwrap_or(i64::MAX)
    }

    /// Notes a heartbeat. It is as old as the time since it came, by this process's own clock; the clocks of two machines are held
    /// against each other only for one that stood in the topic already, which must not count as fresh.
    fn heard(&self, partition: i32, said: Timestamp, came: Came) {
        let heartbeats = self.heartbeats.get();
        let Some(heard) = heartbeats.and_then(|all| all.get(usize::try_from(partition).ok()?)) else { return };
        let age = match came {
            Came::Now => 0,
            // A topic that keeps no time leaves the decider's word.
            Came::Before(at) if at < Timestamp::default() => self.clock.now().micros_since(said).max(0),
            Came::Before(at) => self.clock.now().micros_since(at).max(0),
        };
        heard.fetch_max(self.elapsed().saturating_sub(age), Ordering::Relaxed);
    }

    /// Takes a record of the decisions topic in. A version never goes backwards; a tombstone removes.
    ///
    /// # Errors
    /// When the value cannot be read ([`DecodeError::Reject`], its own fault) or not now
    /// ([`DecodeError::Unavailable`]: to be tried again).
    pub fn apply(
        &self,
        decoder: &mut Decoder,
        (key, value): (&[u8], Option<&[u8]>),
        came: Came,
    ) -> Result<Applied, DecodeError> {
        let text = std::str::from_utf8(key).ok();
        let Some((text, read)) = text.and_then(|text| Some((text, Key::read(text)?))) else {
            return Ok(Applied::Unheard);
        };
        if let Key::Heartbeat(partition) = read {
            if let Some(heartbeat) = value.map(|value| decoder.heartbeat(value)).transpose()? {
                self.heard(partition, heartbeat.at, came);
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
        let more = match read {
            Key::Value { org, dimension, value } => self.change_value(&org, dimension, &value, change),
            Key::Org(org) => self.change_org(&org, |org| change.of_one(&mut org.own)),
            Key::Wide { org } => self.change_org(&org, |org| change.of(&mut org.budgets.wide)),
            Key::Each { org, dimension } => {
                self.change_org(&org, |org| change.of(&mut org.budgets.each[dimension.index()]))
            }
            Key::Heartbeat(_) | Key::Unheard => return Ok(Applied::Unheard),
        };
        let Some(more) = more else { return Ok(Applied::Outdated) };
        self.scopes.fetch_add(more.cast_unsigned(), Ordering::Relaxed);
        Ok(Applied::Changed)
    }

    /// Changes an org's node; how many decisions more there are then, `None` when the change is outdated.
    fn change_org(&self, org: &str, change: impl FnOnce(&mut OpenOrg) -> Option<isize>) -> Option<isize> {
        let hash = self.org_hash(org);
        self.change(hash, |shard| {
            let mut org = shard.org(hash).cloned().unwrap_or_default().open();
            let more = change(&mut org)?;
            shard.put(hash, org.close().map(Node::Org));
            Some(more)
        })
    }

    /// Changes the decisions of a value, and then where its org says to look.
    fn change_value(&self, org: &str, dimension: Dimension, value: &str, change: Change<'_>) -> Option<isize> {
        let hash = self.value_hash(self.org_hash(org), dimension, value);
        let more = self.change(hash, |shard| {
            let mut slots = shard.value(hash).to_vec();
            let more = change.of(&mut slots)?;
            shard.put(hash, Slots::of(slots).map(Node::Value));
            Some(more)
        })?;
        if more != 0 {
            self.change_org(org, |org| org.value_came(dimension, more));
        }
        Some(more)
    }

    /// Changes a shard, for who asks from then on. What else the table holds is shared with what it was.
    fn change(&self, hash: u128, change: impl FnOnce(&mut Shard) -> Option<isize>) -> Option<isize> {
        match self.writer().as_mut() {
            Some(reading) => change(reading.shard_mut(hash)),
            None => {
                let mut root = Root::clone(&self.root.load());
                let more = change(root.shard_mut(hash))?;
                self.root.store(Arc::new(root));
                Some(more)
            }
        }
    }

    /// The keys of every scope that has a decision and stands in this partition.
    pub(super) fn keys_of(&self, partition: i32) -> Vec<String> {
        let Some(count) = self.heartbeats.get().and_then(|all| i32::try_from(all.len()).ok()) else {
            return Vec::new();
        };
        let is_there = |key: &str| match Key::read(key) {
            Some(Key::Org(org) | Key::Wide { org } | Key::Each { org, .. } | Key::Value { org, .. }) => {
                partition_of(org.as_bytes(), count) == partition
            }
            _ => false,
        };
        let root = self.root.load();
        let keys = root.slots().map(|slot| slot.held.key()).filter(|key| is_there(key));
        keys.map(str::to_owned).collect()
    }
}
