//! The whole table at one moment: a tree of two levels over small shards. A change makes one shard and the way to it anew and
//! shares the rest, so a check that holds a root sees all of one moment, however many scopes it looks at.

use std::array;
use std::sync::Arc;

use super::node::Slot;
use super::shard::{Entry, Shard};

/// Branches of the root.
const BRANCHES: usize = 64;
/// Shards of a branch. There are so many shards that each is small, for a change copies one, and so few that where they
/// begin stays in a processor's cache, for every check goes there.
const SHARDS: usize = 128;

/// Every decision at one moment.
#[derive(Clone)]
pub(super) struct Root([Arc<Branch>; BRANCHES]);

#[derive(Clone)]
struct Branch([Shard; SHARDS]);

impl Default for Root {
    fn default() -> Self {
        let shard = Shard::default();
        let branch = Arc::new(Branch(array::from_fn(|_| shard.clone())));
        Self(array::from_fn(|_| Arc::clone(&branch)))
    }
}

/// Which branch, and which of its shards, holds a hash: its upper bits say.
#[expect(clippy::cast_possible_truncation, reason = "the upper half is meant, and reduced")]
const fn place(hash: u128) -> (usize, usize) {
    let upper = (hash >> 64) as usize;
    (upper % BRANCHES, upper / BRANCHES % SHARDS)
}

impl Root {
    #[inline]
    pub(super) fn entry(&self, hash: u128) -> Option<&Entry> {
        let (branch, shard) = place(hash);
        self.0[branch].0[shard].entry(hash)
    }

    /// To be changed: the way to it is made anew where another root shares it.
    pub(super) fn shard_mut(&mut self, hash: u128) -> &mut Shard {
        let (branch, shard) = place(hash);
        &mut Arc::make_mut(&mut self.0[branch]).0[shard]
    }

    /// Every decision.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter().flat_map(|branch| &branch.0).flat_map(Shard::slots)
    }
}
