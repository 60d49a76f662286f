//! A part of the table: some hundred orgs and values at a million scopes, found by hash. What most checks need of one stands in
//! its entry, two to a cache line, and the rest behind it. A shard that readers can see never changes: the writer puts another
//! in its place, so that a reader sees all of one moment and waits for nobody.

use std::sync::Arc;

use super::dimensions::Dimensions;
use super::node::{Node, Org, Slot};
use crate::domain::limits::decision::Action;

/// An org or a value, as far as most checks look.
#[derive(Clone, Debug)]
#[repr(align(32))]
pub(super) struct Entry {
    tag: u64,
    /// Of the org's own decision, or of a value's first, what ranks it: see [`Slot`].
    pub(super) remaining: i64,
    pub(super) action: Option<Action>,
    /// Whether there is that decision: an org may have budgets alone.
    pub(super) has_first: bool,
    /// Whether there are more to be offered beside it: of the whole org, or of the value.
    pub(super) has_more: bool,
    /// Of an org: the dimensions that have `*` budgets.
    pub(super) each: Dimensions,
    /// Of an org: the dimensions that have those, or have had values with decisions.
    pub(super) dimensions: Dimensions,
    /// All of it, in memory that is cold.
    pub(super) node: Arc<Node>,
}

const _: () = assert!(size_of::<Option<Entry>>() == 32, "two entries and their places fill a cache line");

impl Entry {
    fn of(tag: u64, node: Node) -> Self {
        let (first, has_more, each, dimensions) = match &node {
            Node::Org(org) => {
                let each = org.each_dimensions();
                (org.own.as_ref(), !org.wide().is_empty(), each, each.and(org.dimensions))
            }
            Node::Value(slots) => {
                let slots = slots.all();
                (slots.first(), slots.len() > 1, Dimensions::NONE, Dimensions::NONE)
            }
        };
        let (remaining, action) = first.map_or((0, None), |slot| (slot.remaining, slot.action));
        let has_first = first.is_some();
        Self { tag, remaining, action, has_first, has_more, each, dimensions, node: Arc::new(node) }
    }
}

/// The half of a hash that tells the entries of a shard apart. With the 13 bits that chose the shard, two of a million scopes are
/// taken for one another in one of 2^38 processes, for the seed is random.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant; the upper one has found the shard")]
const fn tag(hash: u128) -> u64 {
    hash as u64
}

/// Entries, each where its tag says or in the next free place; two thirds of the places are taken. What a hash table keeps
/// beside its entries would be another read of memory.
#[derive(Clone, Debug)]
pub(super) struct Shard(Arc<[Option<Entry>]>);

impl Default for Shard {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

/// Where an entry of this tag belongs.
#[inline]
fn home(tag: u64, places: usize) -> usize {
    let (_, upper) = tag.carrying_mul(places as u64, 0);
    usize::try_from(upper).expect("it is less than the number of places")
}

impl Shard {
    /// With these entries, each of another tag.
    fn of(entries: Vec<Entry>) -> Self {
        let places = if entries.is_empty() { 0 } else { entries.len() * 3 / 2 + 1 };
        let mut all = vec![None; places];
        for entry in entries {
            let home = home(entry.tag, places);
            let free = (home..places).chain(0..home).find(|at| all[*at].is_none());
            all[free.expect("there are more places than entries")] = Some(entry);
        }
        Self(all.into())
    }

    #[inline]
    pub(super) fn entry(&self, hash: u128) -> Option<&Entry> {
        let tag = tag(hash);
        let (before, from) = self.0.split_at(home(tag, self.0.len()));
        from.iter().chain(before).map_while(Option::as_ref).find(|entry| entry.tag == tag)
    }

    pub(super) fn org(&self, hash: u128) -> Option<&Org> {
        self.entry(hash)?.node.org()
    }

    /// The decisions of a value.
    pub(super) fn value(&self, hash: u128) -> &[Slot] {
        self.entry(hash).map_or(&[], |entry| entry.node.value())
    }

    /// Puts a node in the place of what stands there; `None` takes it out.
    pub(super) fn put(&mut self, hash: u128, node: Option<Node>) {
        let tag = tag(hash);
        let entry = node.map(|node| Entry::of(tag, node));
        let found = self.0.iter().position(|place| place.as_ref().is_some_and(|entry| entry.tag == tag));
        match (found, entry) {
            (Some(at), Some(entry)) => Arc::make_mut(&mut self.0)[at] = Some(entry),
            (None, None) => {}
            // Others may stand where they do because of the one that goes, and there is no room for one more.
            (_, entry) => {
                let all: Vec<Entry> = match Arc::get_mut(&mut self.0) {
                    Some(places) => places.iter_mut().filter_map(Option::take).collect(),
                    None => self.0.iter().flatten().cloned().collect(),
                };
                *self = Self::of(all.into_iter().filter(|other| other.tag != tag).chain(entry).collect());
            }
        }
    }

    /// Every decision.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter().flatten().flat_map(|entry| entry.node.slots())
    }
}
