//! A filter over the ids of one bucket: it says "never seen" or "perhaps", so that a new id, which nearly all are,
//! costs a few memory reads instead of a look-up in RocksDB. It is never wrong when it says "never".
//!
//! A split-block Bloom filter: one cache line an id, one bit in each of its eight words. It grows by segments of
//! doubling size; when the shared memory is used up it stops growing and says "perhaps" more often (Law 6).

use super::memory::FilterMemory;
use crate::domain::dedupe::IdKey;

const BLOCK_BYTES: usize = 64;
/// Ids a block is meant for: 16 bits an id, about one wrong "perhaps" in a thousand.
const IDS_PER_BLOCK: usize = 32;
/// The least segment, which a bucket gets even when no memory is left: 64 KiB, 32,768 ids.
const BLOCKS_MIN: usize = 1024;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block([u64; 8]);

struct Segment {
    blocks: Box<[Block]>,
    ids: usize,
}

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

impl Segment {
    fn new(blocks: usize) -> Self {
        Self { blocks: vec![Block([0; 8]); blocks].into_boxed_slice(), ids: 0 }
    }

    const fn capacity(&self) -> usize {
        self.blocks.len() * IDS_PER_BLOCK
    }

    fn insert(&mut self, hash: IdHash) {
        let block = &mut self.blocks[hash.block(self.blocks.len())];
        for (place, word) in block.0.iter_mut().enumerate() {
            *word |= hash.mask(place);
        }
        self.ids += 1;
    }

    fn may_hold(&self, hash: IdHash) -> bool {
        let block = &self.blocks[hash.block(self.blocks.len())];
        let missing = |missing: u64, (place, word): (usize, &u64)| missing | (!word & hash.mask(place));
        block.0.iter().enumerate().fold(0, missing) == 0
    }
}

/// The filter of one bucket.
pub(super) struct IdFilter {
    segments: Vec<Segment>,
    memory: FilterMemory,
    taken: usize,
}

impl IdFilter {
    /// An empty filter for about `expected` ids.
    pub(super) fn new(expected: usize, memory: &FilterMemory) -> Self {
        let mut filter = Self { segments: Vec::new(), memory: memory.clone(), taken: 0 };
        let blocks = filter.take(expected.div_ceil(IDS_PER_BLOCK));
        filter.segments.push(Segment::new(blocks.max(BLOCKS_MIN)));
        filter
    }

    /// Adds an id.
    pub(super) fn insert(&mut self, hash: IdHash) {
        let last = self.segments.last().expect("a filter has a segment");
        if last.ids >= last.capacity() {
            let doubled = 2 * last.blocks.len();
            let blocks = self.take(doubled);
            // A small piece would only add a cache miss to every look-up.
            if blocks * 4 >= doubled {
                self.segments.push(Segment::new(blocks));
            } else {
                self.give_back(blocks);
            }
        }
        self.segments.last_mut().expect("a filter has a segment").insert(hash);
    }

    /// Adds all that another filter holds. The greatest segment stays the last one, which takes what comes.
    pub(super) fn join(&mut self, mut other: Self) {
        self.segments.splice(0..0, std::mem::take(&mut other.segments));
        self.taken += std::mem::take(&mut other.taken);
    }

    /// Whether the id may have been added; `false` is certain.
    pub(super) fn may_hold(&self, hash: IdHash) -> bool {
        self.segments.iter().rev().any(|segment| segment.may_hold(hash))
    }

    /// How many ids were added.
    pub(super) fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.ids).sum()
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.blocks.len() * BLOCK_BYTES).sum()
    }

    fn take(&mut self, blocks: usize) -> usize {
        let got = self.memory.take(blocks * BLOCK_BYTES);
        self.taken += got;
        got / BLOCK_BYTES
    }

    fn give_back(&mut self, blocks: usize) {
        self.taken -= blocks * BLOCK_BYTES;
        self.memory.give_back(blocks * BLOCK_BYTES);
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
        let mut filter = IdFilter::new(0, &memory);
        (0..300_000).for_each(|number| filter.insert(hash(number)));
        assert!((0..300_000).all(|number| filter.may_hold(hash(number))));
        let wrong = (300_000..600_000).filter(|number| filter.may_hold(hash(*number))).count();
        assert!(wrong < 1500, "{wrong} of 300000 new ids may be held");
        assert!(filter.segments.len() > 2);
    }

    #[test]
    fn without_memory_it_stays_right_and_stops_growing() {
        let memory = FilterMemory::new(0);
        let mut filter = IdFilter::new(1_000_000, &memory);
        (0..200_000).for_each(|number| filter.insert(hash(number)));
        assert!((0..200_000).all(|number| filter.may_hold(hash(number))));
        assert_eq!(filter.bytes(), BLOCKS_MIN * BLOCK_BYTES);
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
