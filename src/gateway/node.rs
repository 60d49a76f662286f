//! What the table's map holds: of an org its own decision and those of budgets that bind more than one value, of a value the
//! decisions of its budgets. A node never changes: a writer puts another in its place, so that a reader sees all of one
//! moment (the count of an org's values apart, which only says where to look).

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

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

/// What stands under one hash of the map.
pub(super) enum Node {
    Org(OrgNode),
    Value(Box<[Slot]>),
}

/// An org.
#[derive(Debug, Default)]
pub(super) struct OrgNode {
    pub(super) own: Option<Slot>,
    /// Budgets beside it; most orgs have none.
    pub(super) budgets: Option<Box<Budgets>>,
    /// The dimensions that have values with decisions, one bit each.
    dimensions: AtomicU16,
    /// How many decisions of values there are.
    values: AtomicU32,
}

/// The decisions of budgets that bind more than one value, by budget.
#[derive(Clone, Debug, Default)]
pub(super) struct Budgets {
    /// Of the whole org.
    pub(super) wide: Vec<Slot>,
    /// Of `*` budgets, for values without their own.
    pub(super) each: [Vec<Slot>; Dimension::COUNT],
}

impl OrgNode {
    /// Whether values of this dimension may have decisions.
    pub(super) fn has_values(&self, dimension: Dimension) -> bool {
        self.dimensions.load(Ordering::Acquire) & (1 << dimension.index()) != 0
    }

    /// A value of this dimension got a decision. To be called after it can be found.
    pub(super) fn value_came(&self, dimension: Dimension) {
        self.values.fetch_add(1, Ordering::Relaxed);
        self.dimensions.fetch_or(1 << dimension.index(), Ordering::Release);
    }

    /// A value lost one.
    pub(super) fn value_went(&self) {
        self.values.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether nothing of the org is left.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_none() && self.budgets.is_none() && self.values.load(Ordering::Relaxed) == 0
    }

    /// The same org with other decisions of its own and of its budgets. Only one writer at a time may call this:
    /// counts are carried over.
    pub(super) fn with(&self, own: Option<Slot>, budgets: Option<Box<Budgets>>) -> Self {
        let is_empty = |budgets: &Budgets| budgets.wide.is_empty() && budgets.each.iter().all(Vec::is_empty);
        Self {
            own,
            budgets: budgets.filter(|budgets| !is_empty(budgets)),
            dimensions: AtomicU16::new(self.dimensions.load(Ordering::Relaxed)),
            values: AtomicU32::new(self.values.load(Ordering::Relaxed)),
        }
    }
}

/// The decision of this budget.
pub(super) fn of_budget<'a>(slots: &'a [Slot], budget: &str) -> Option<&'a Slot> {
    position(slots, budget).ok().map(|at| &slots[at])
}

fn position(slots: &[Slot], budget: &str) -> Result<usize, usize> {
    slots.binary_search_by(|slot| slot.held.budget().cmp(budget))
}

/// The decisions with this one among them, in the place of its budget's last one.
pub(super) fn put(slots: &mut Vec<Slot>, slot: Slot) {
    match position(slots, slot.held.budget()) {
        Ok(at) => slots[at] = slot,
        Err(at) => slots.insert(at, slot),
    }
}

/// The decisions without this budget's; whether it had one.
pub(super) fn take_out(slots: &mut Vec<Slot>, budget: &str) -> bool {
    position(slots, budget).map(|at| slots.remove(at)).is_ok()
}
