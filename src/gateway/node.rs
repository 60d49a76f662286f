//! What the table's shards hold: of an org its own decision and those of budgets that bind more than one value; of a value the
//! decisions of its budgets. A shard never changes: the writer puts another in its place, so that a reader sees all of
//! one moment and waits for nobody.

use std::sync::Arc;

use super::held::{Held, Read};
use crate::domain::decision::Action;
use crate::domain::dimension::Dimension;

/// A decision and what ranks it, beside each other: only the one that is told is looked at closer.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) held: Arc<Held>,
    pub(super) remaining: i64,
    /// `None` for an action that this version does not know.
    pub(super) action: Option<Action>,
}

impl From<Read> for Slot {
    fn from(read: Read) -> Self {
        Self { held: Arc::new(read.held), remaining: read.remaining, action: read.action }
    }
}

/// Decisions of one place by budget. Most places have one, which then stands in the shard itself.
#[derive(Clone, Debug)]
pub(super) enum Slots {
    One(Slot),
    Many(Vec<Slot>),
}

impl Slots {
    pub(super) fn all(&self) -> &[Slot] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }

    /// Of these, if there is any.
    pub(super) fn of(mut slots: Vec<Slot>) -> Option<Self> {
        match slots.len() {
            0 => None,
            1 => slots.pop().map(Self::One),
            _ => Some(Self::Many(slots)),
        }
    }
}

/// An org.
#[derive(Clone, Debug, Default)]
pub(super) struct Org {
    pub(super) own: Option<Slot>,
    /// Budgets beside it; most orgs have none.
    pub(super) budgets: Option<Box<Budgets>>,
    /// The dimensions that have had values with decisions, one bit each.
    dimensions: u16,
    /// How many decisions of values there are.
    values: u32,
}

/// The decisions of budgets that bind more than one value, by budget.
#[derive(Clone, Debug, Default)]
pub(super) struct Budgets {
    /// Of the whole org.
    pub(super) wide: Vec<Slot>,
    /// Of `*` budgets, for values without their own.
    pub(super) each: [Vec<Slot>; Dimension::COUNT],
}

impl Budgets {
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.wide.is_empty() && self.each.iter().all(Vec::is_empty)
    }
}

impl Org {
    /// Whether values of this dimension may have decisions.
    pub(super) const fn has_values(&self, dimension: Dimension) -> bool {
        self.dimensions & (1 << dimension.index()) != 0
    }

    /// The decisions of the whole org's budgets.
    pub(super) fn wide(&self) -> &[Slot] {
        self.budgets.as_ref().map_or(&[], |budgets| &budgets.wide)
    }

    /// The decisions of a dimension's `*` budgets.
    pub(super) fn each(&self, dimension: Dimension) -> &[Slot] {
        self.budgets.as_ref().map_or(&[], |budgets| &budgets.each[dimension.index()])
    }

    /// To be changed, and closed again.
    pub(super) fn open(self) -> OpenOrg {
        let Self { own, budgets, dimensions, values } = self;
        OpenOrg { own, budgets: budgets.unwrap_or_default(), dimensions, values }
    }
}

/// An org while it is being changed.
pub(super) struct OpenOrg {
    pub(super) own: Option<Slot>,
    pub(super) budgets: Box<Budgets>,
    dimensions: u16,
    values: u32,
}

impl OpenOrg {
    /// So many decisions of this dimension's values came, or went.
    pub(super) fn value_came(&mut self, dimension: Dimension, more: isize) -> Option<isize> {
        self.dimensions |= 1 << dimension.index();
        self.values = self.values.saturating_add_signed(i32::try_from(more).ok()?);
        Some(more)
    }

    /// The org; `None` when nothing of it is left.
    pub(super) fn close(self) -> Option<Org> {
        let Self { own, budgets, dimensions, values } = self;
        let budgets = Some(budgets).filter(|budgets| !budgets.is_empty());
        let is_something = own.is_some() || values > 0 || budgets.is_some();
        is_something.then_some(Org { own, budgets, dimensions, values })
    }
}

/// What stands under one hash.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Org(Org),
    Value(Slots),
}

/// In a cache line of its own: a look at a cold one is one read of memory, not two.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Entry {
    hash: u128,
    node: Node,
}

const _: () = assert!(size_of::<Option<Entry>>() == 64, "an entry and its place fill a cache line");

/// A part of the table: some hundred nodes at a million scopes, each where its hash says or in the next free place. A
/// power of two of places, at most two thirds of them taken; what a hash table keeps beside its entries would be
/// another read of memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Shard(Box<[Option<Entry>]>);

impl Shard {
    /// With these entries, each of another hash.
    fn of(entries: Vec<Entry>) -> Self {
        let places = if entries.is_empty() { 0 } else { (entries.len() * 3 / 2 + 1).next_power_of_two() };
        let mut shard = Self(vec![None; places].into_boxed_slice());
        for entry in entries {
            if let Some(at) = shard.place_of(entry.hash) {
                shard.0[at] = Some(entry);
            }
        }
        shard
    }

    /// Where the node of a hash stands, else where it would; `None` when there is no place at all.
    fn place_of(&self, hash: u128) -> Option<usize> {
        let mask = self.0.len().checked_sub(1)?;
        // The lower half; the upper one has found the shard.
        let mut at = hash as usize & mask;
        // Ends at a free place: a third of them is.
        while self.0[at].as_ref().is_some_and(|entry| entry.hash != hash) {
            at = (at + 1) & mask;
        }
        Some(at)
    }

    fn get(&self, hash: u128) -> Option<&Node> {
        self.0[self.place_of(hash)?].as_ref().map(|entry| &entry.node)
    }

    pub(super) fn org(&self, hash: u128) -> Option<&Org> {
        match self.get(hash)? {
            Node::Org(org) => Some(org),
            Node::Value(_) => None,
        }
    }

    /// The decisions of a value.
    pub(super) fn value(&self, hash: u128) -> &[Slot] {
        match self.get(hash) {
            Some(Node::Value(slots)) => slots.all(),
            _ => &[],
        }
    }

    /// Puts a node in the place of what stands there; `None` takes it out.
    pub(super) fn put(&mut self, hash: u128, node: Option<Node>) {
        let found = self.place_of(hash).filter(|at| self.0[*at].is_some());
        match (found, node) {
            (Some(at), Some(node)) => self.0[at] = Some(Entry { hash, node }),
            (None, None) => {}
            // Others may stand where they do because of the one that goes, and there may be no room for one more.
            (_, node) => {
                let all = std::mem::take(&mut self.0).into_vec().into_iter().flatten();
                let others = all.filter(|entry| entry.hash != hash);
                *self = Self::of(others.chain(node.map(|node| Entry { hash, node })).collect());
            }
        }
    }

    /// Every decision.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter().flatten().flat_map(|entry| {
            let (own, budgets, values) = match &entry.node {
                Node::Org(org) => (org.own.as_ref(), org.budgets.as_deref(), &[][..]),
                Node::Value(slots) => (None, None, slots.all()),
            };
            let budgets = budgets.into_iter().flat_map(|all| all.wide.iter().chain(all.each.iter().flatten()));
            own.into_iter().chain(budgets).chain(values)
        })
    }
}

/// The decision of this budget.
pub(super) fn of_budget<'a>(slots: &'a [Slot], budget: &str) -> Option<&'a Slot> {
    position(slots, budget).ok().map(|at| &slots[at])
}

fn position(slots: &[Slot], budget: &str) -> Result<usize, usize> {
    slots.binary_search_by(|slot| slot.held.budget().cmp(budget))
}

/// What a record does to the decisions of its place.
pub(super) enum Change<'a> {
    Put(Slot),
    /// Of this budget.
    Remove(&'a str),
}

impl Change<'_> {
    /// Makes it; how many decisions more there are then, `None` when it is outdated.
    pub(super) fn of(self, slots: &mut Vec<Slot>) -> Option<isize> {
        match self {
            Self::Remove(budget) => position(slots, budget).ok().map(|at| {
                slots.remove(at);
                -1
            }),
            Self::Put(slot) => match position(slots, slot.held.budget()) {
                Ok(at) if slots[at].held.version > slot.held.version => None,
                Ok(at) => {
                    slots[at] = slot;
                    Some(0)
                }
                Err(at) => {
                    slots.insert(at, slot);
                    Some(1)
                }
            },
        }
    }

    /// The same where there is one at most.
    pub(super) fn of_one(self, own: &mut Option<Slot>) -> Option<isize> {
        let mut slots: Vec<Slot> = own.take().into_iter().collect();
        let more = self.of(&mut slots);
        *own = slots.pop();
        more
    }
}
