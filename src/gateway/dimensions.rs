//! A set of dimensions: which of them a request has, and which of them an org has decisions of. Its bits stand in the order in
//! which scopes are told.

use crate::domain::usage::dimension::Dimension;

/// Which bit is a dimension's, by its number: the bits stand in the order of [`Dimension::TOLD_FIRST`].
const BITS: [u16; Dimension::COUNT] = {
    let mut bits = [0; Dimension::COUNT];
    let mut place = 0;
    while place < Dimension::COUNT {
        bits[Dimension::TOLD_FIRST[place].index()] = 1 << place;
        place += 1;
    }
    bits
};

/// Some dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dimensions(u16);

impl Dimensions {
    pub(super) const NONE: Self = Self(0);

    /// These and this one.
    #[inline]
    pub(super) const fn with(self, dimension: Dimension) -> Self {
        Self(self.0 | BITS[dimension.index()])
    }

    /// These and those.
    pub(super) const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether this is one of them.
    #[inline]
    pub(super) const fn has(self, dimension: Dimension) -> bool {
        self.0 & BITS[dimension.index()] != 0
    }

    /// Whether one of them is one of those.
    #[inline]
    pub(super) const fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Each of them, in the order in which they are told.
    #[inline]
    pub(super) fn in_order(self) -> impl Iterator<Item = Dimension> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let next = Dimension::TOLD_FIRST.get(rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(*next)
        })
    }
}
