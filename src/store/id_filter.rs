//! A filter over the ids of one segment: it says "never seen" or "perhaps", so that a new id, which nearly all are,
//! costs a few memory reads instead of a look-up in RocksDB. It is never wrong when it says "never".
//!
//! A split-block Bloom filter: one cache line an id, one bit in each of its eight words. When the shared memory is used up
//! a new filter is small and says "perhaps" more often (Law 6).

use super::memory::FilterMemory;
use crate::domain::usage::dedupe::IdKey;

const BLOCK_BYTES: usize = 64;
/// Ids a block is meant for: 16 bits an id, about one wrong "perhaps" in a thousand.
const IDS_PER_BLOCK: usize = 32;
/// The least filter, which a segment gets even when no memory is left: 64 KiB, 32,768 ids.
const BLOCKS_MIN: usize = 1024;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block([u64; 8]);

/// The block's number as a share of 2^64, and the bits to set in its words.
#[derive(Clone, Copy)]
pub(super) struct IdHash {
    place: u64,
    bits: u64,
}

impl IdHash {
    #[expect(clippy::cast_possible_truncation, reason = "each takes its half of 128 bits")]
    pub(super) const fn of(id: IdKey) -> Self {
        // The key is a good hash already; the multiplication keeps keys that are not (tests, attacks) apart too.
        let mixed = (id.0 ^ (id.0 >> 64)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let low = mixed as u64;
        Self { place: (mixed >> 64) as u64, bits: low ^ (low >> 29) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the place is below the number of blocks, a usize")]
    const fn block(self, blocks: usize) -> usize {
        ((self.place as u128 * blocks as u128) >> 64) as usize
    }

    const fn mask(self, word: usize) -> u64 {
        1 << ((self.bits >> (16 + 6 * word)) & 63)
    }
}

/// The filter of one segment.
pub(super) struct IdFilter {
    blocks: Box<[Block]>,
    ids: usize,
    /// How many ids it is meant for, also where memory had no room for them.
    capacity: usize,
    /// Whether it stands in the store.
    pub(super) is_stored: bool,
    memory: FilterMemory,
    taken: usize,
}

impl IdFilter {
    /// An empty filter for `capacity` ids.
    pub(super) fn new(capacity: usize, memory: &FilterMemory) -> Self {
        let taken = memory.take(capacity.div_ceil(IDS_PER_BLOCK) * BLOCK_BYTES);
        let blocks = (taken / BLOCK_BYTES).max(BLOCKS_MIN);
        let blocks = vec![Block([0; 8]); blocks].into_boxed_slice();
        Self { blocks, ids: 0, capacity, is_stored: false, memory: memory.clone(), taken }
    }

    /// Adds an id.
    pub(super) fn insert(&mut self, hash: IdHash) {
        let place = hash.block(self.blocks.len());
        for (place, word) in self.blocks[place].0.iter_mut().enumerate() {
            *word |= hash.mask(place);
        }
        self.ids += 1;
    }

    /// Whether the id may have been added; `false` is certain.
    pub(super) fn may_hold(&self, hash: IdHash) -> bool {
        let block = &self.blocks[hash.block(self.blocks.len())];
        let missing = |missing: u64, (place, word): (usize, &u64)| missing | (!word & hash.mask(place));
        block.0.iter().enumerate().fold(0, missing) == 0
    }

    /// How many ids were added.
    pub(super) const fn len(&self) -> usize {
        self.ids
    }

    /// How many ids it is meant for.
    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// It as stored: how many ids it holds, and its words.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let words = self.blocks.iter().flat_map(|block| block.0);
        let words = std::iter::once(self.ids as u64).chain(words);
        words.flat_map(u64::to_le_bytes).collect()
    }

    /// The filter of these bytes; `None` when they are none.
    pub(super) fn from_bytes(bytes: &[u8], memory: &FilterMemory) -> Option<Self> {
        let (ids, words) = bytes.split_first_chunk::<8>()?;
        let (blocks, rest) = words.as_chunks::<BLOCK_BYTES>();
        if blocks.is_empty() || !rest.is_empty() {
            return None;
        }
        let block = |bytes: &[u8; BLOCK_BYTES]| {
            let (words, _) = bytes.as_chunks::<8>();
            Block(std::array::from_fn(|place| u64::from_le_bytes(words[place])))
        };
        let blocks: Box<[Block]> = blocks.iter().map(block).collect();
        let ids = usize::try_from(u64::from_le_bytes(*ids)).ok()?;
        // The memory is needed, whether there is room for it or not: the bound holds for what comes.
        let taken = memory.take(blocks.len() * BLOCK_BYTES);
        Some(Self { blocks, ids, capacity: ids, is_stored: true, memory: memory.clone(), taken })
    }
}

impl Drop for IdFilter {
    fn drop(&mut self) {
        self.memory.give_back(self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u128) -> IdHash {
        IdHash::of(IdKey(number.wrapping_mul(0xd1b5_4a32_d192_ed03_aef1_7502_108e_f2d9)))
    }

    #[test]
    fn an_added_id_is_always_held_and_a_new_one_hardly_ever() {
        let memory = FilterMemory::new(64 << 20);
        let mut filter = IdFilter::new(300_000, &memory);
        (0..300_000).for_each(|number| filter.insert(hash(number)));
        let stored = IdFilter::from_bytes(&filter.to_bytes(), &memory).expect("it is one");
        for filter in [filter, stored] {
            assert_eq!(filter.len(), 300_000);
            assert!((0..300_000).all(|number| filter.may_hold(hash(number))));
            let wrong = (300_000..600_000).filter(|number| filter.may_hold(hash(*number))).count();
            assert!(wrong < 1500, "{wrong} of 300000 new ids may be held");
        }
    }

    #[test]
    fn without_memory_it_stays_right_and_small() {
        let memory = FilterMemory::new(0);
        let mut filter = IdFilter::new(1_000_000, &memory);
        (0..200_000).for_each(|number| filter.insert(hash(number)));
        assert!((0..200_000).all(|number| filter.may_hold(hash(number))));
        assert_eq!(filter.bytes(), BLOCKS_MIN * BLOCK_BYTES);
    }

    #[test]
    fn bytes_that_are_no_filter_are_refused() {
        let memory = FilterMemory::new(1 << 20);
        for bytes in [&[][..], &[0; 8], &[0; 71], &[0; 73]] {
            assert!(IdFilter::from_bytes(bytes, &memory).is_none());
        }
    }

    #[test]
    fn its_memory_is_given_back() {
        let memory = FilterMemory::new(1 << 20);
        let mut filter = IdFilter::new(10_000, &memory);
        (0..400_000).for_each(|number| filter.insert(hash(number)));
        drop(filter);
        assert_eq!(memory.take(usize::MAX), 1 << 20);
    }
}
