//! Which of the scopes that match is told: the one that is blocked, then the one with the least left, then the one that was
//! offered first. A verdict keeps the root that it was found in, so that what it tells later is of the same moment, and
//! counts no references of decisions.

use std::sync::Arc;

use arc_swap::Guard;

use super::held::Held;
use super::node::{Node, Slot};
use super::root::Root;
use super::shard::Entry;
use super::verdict::{Basis, Verdict};
use crate::domain::limits::decision::Action;
use crate::domain::usage::dimension::Dimension;

/// Where in a node a decision stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// The org's own.
    Own,
    /// Of a budget of the whole org.
    Wide(usize),
    /// Of a `*` budget.
    Each(Dimension, usize),
    /// Of a value.
    Value(usize),
}

/// A decision in a root that is kept.
pub(super) struct Place {
    root: Guard<Arc<Root>>,
    hash: u128,
    seat: Seat,
}

impl Place {
    pub(super) fn held(&self) -> &Held {
        let node = self.root.entry(self.hash).map(|entry| &*entry.node);
        let slot = node.and_then(|node| match (node, self.seat) {
            (Node::Value(slots), Seat::Value(seat)) => slots.all().get(seat),
            (Node::Org(org), Seat::Own) => org.own.as_ref(),
            (Node::Org(org), Seat::Wide(seat)) => org.wide().get(seat),
            (Node::Org(org), Seat::Each(dimension, seat)) => org.each(dimension).get(seat),
            _ => None,
        });
        &slot.expect("a root never changes, and the seat was found in it").held
    }
}

/// The best scope so far.
struct Best {
    /// Blocked first, then the least left.
    rank: (bool, i64),
    /// The node's hash and the seat in it; `None` for the org that has no decision.
    seat: Option<(u128, Seat)>,
    /// Whether its action is known.
    is_known: bool,
}

/// The scope to tell, as far as it is found.
pub(super) struct Told {
    unknown: Action,
    best: Option<Best>,
}

impl Told {
    /// None yet; an action that is not known counts as `unknown`.
    pub(super) const fn new(unknown: Action) -> Self {
        Self { unknown, best: None }
    }

    #[inline]
    fn rank(&mut self, rank: (bool, i64), seat: Option<(u128, Seat)>, is_known: bool) {
        if self.best.as_ref().is_none_or(|best| rank < best.rank) {
            self.best = Some(Best { rank, seat, is_known });
        }
    }

    /// Offers the decision that stands in this seat of the node of that hash.
    pub(super) fn offer(&mut self, slot: &Slot, hash: u128, seat: Seat) {
        self.offer_ranked((slot.action, slot.remaining), hash, seat);
    }

    /// Offers the decision that an entry itself tells of.
    #[inline]
    pub(super) fn offer_first(&mut self, entry: &Entry, hash: u128, seat: Seat) {
        self.offer_ranked((entry.action, entry.remaining), hash, seat);
    }

    #[inline]
    fn offer_ranked(&mut self, (action, remaining): (Option<Action>, i64), hash: u128, seat: Seat) {
        let is_allowed = action.unwrap_or(self.unknown) == Action::Allow;
        self.rank((is_allowed, remaining), Some((hash, seat)), action.is_some());
    }

    /// The org has no decision of its own.
    #[inline]
    pub(super) fn offer_unknown(&mut self) {
        self.rank((self.unknown == Action::Allow, i64::MAX), None, false);
    }

    /// The verdict; the root is the one that all was found in.
    #[inline]
    pub(super) fn verdict(self, root: Guard<Arc<Root>>) -> Verdict {
        let best = self.best.expect("the org itself was offered");
        let action = if best.rank.0 { Action::Allow } else { Action::Block };
        let place = best.seat.map(|(hash, seat)| Place { root, hash, seat });
        let basis = match place {
            Some(place) if best.is_known => Basis::Decision(place),
            place => Basis::Unknown(place),
        };
        Verdict { action, basis }
    }
}
