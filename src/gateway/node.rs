//! What stands behind the entries of a shard: of an org its own decision and those of budgets that bind more than one value; of a
//! value the decisions of its budgets. It never changes: a change puts another in its place.

use std::sync::Arc;

use super::dimensions::Dimensions;
use super::held::{Held, Read};
use crate::domain::limits::decision::Action;
use crate::domain::usage::dimension::Dimension;

/// A decision and what ranks it, beside each other: only the one that is told is looked at closer.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) held: Arc<Held>,
    pub(super) remaining: i64,
    /// `None` for an action that this version does not know.
    pub(super) action: Option<Action>,
}

impl Slot {
    /// Whether it is of a limit in force: a scope that is over, and one that another budget overrides, has none.
    pub(super) const fn has_limit(&self) -> bool {
        self.remaining != i64::MAX
    }
}

impl From<Read> for Slot {
    fn from(read: Read) -> Self {
        Self { held: Arc::new(read.held), remaining: read.remaining, action: read.action }
    }
}

/// Decisions of one place by budget. Most places have one, which then stands in the node itself.
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
    /// The dimensions that have had values with decisions.
    pub(super) dimensions: Dimensions,
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
    /// The decisions of the whole org's budgets.
    pub(super) fn wide(&self) -> &[Slot] {
        self.budgets.as_ref().map_or(&[], |budgets| &budgets.wide)
    }

    /// The decisions of a dimension's `*` budgets.
    pub(super) fn each(&self, dimension: Dimension) -> &[Slot] {
        self.budgets.as_ref().map_or(&[], |budgets| &budgets.each[dimension.index()])
    }

    /// The dimensions that have `*` budgets.
    pub(super) fn each_dimensions(&self) -> Dimensions {
        let has = |dimension: &Dimension| !self.each(*dimension).is_empty();
        Dimension::ALL.into_iter().filter(has).fold(Dimensions::NONE, Dimensions::with)
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
    dimensions: Dimensions,
    values: u32,
}

impl OpenOrg {
    /// So many decisions of this dimension's values came, or went.
    pub(super) fn value_came(&mut self, dimension: Dimension, more: isize) -> Option<isize> {
        self.dimensions = self.dimensions.with(dimension);
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
#[derive(Debug)]
pub(super) enum Node {
    Org(Org),
    Value(Slots),
}

impl Node {
    pub(super) const fn org(&self) -> Option<&Org> {
        match self {
            Self::Org(org) => Some(org),
            Self::Value(_) => None,
        }
    }

    /// The decisions of a value.
    pub(super) fn value(&self) -> &[Slot] {
        match self {
            Self::Org(_) => &[],
            Self::Value(slots) => slots.all(),
        }
    }

    /// Every decision.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        let own = self.org().and_then(|org| org.own.as_ref());
        let budgets = self.org().and_then(|org| org.budgets.as_deref());
        let budgets = budgets.into_iter().flat_map(|all| all.wide.iter().chain(all.each.iter().flatten()));
        own.into_iter().chain(budgets).chain(self.value())
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
