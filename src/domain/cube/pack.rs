//! Numbers of one width, side by side without gaps, the lowest bit first. Reading one costs the same wherever it stands.

/// The widest number that lies within eight bytes at any bit of the first.
const NARROW_MAX: u32 = 57;

/// The bits that numbers up to `max` take; 0 for 0.
#[must_use]
pub const fn width_of(max: u64) -> u32 {
    u64::BITS - max.leading_zeros()
}

/// Appends `values`, each below 2^`width`; `width` is 0 to 64.
pub fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    let (mut held, mut bits) = (0_u128, 0);
    for value in values {
        held |= u128::from(value) << bits;
        bits += width;
        if bits >= u64::BITS {
            out.extend_from_slice(&held.to_le_bytes()[..8]);
            held >>= u64::BITS;
            bits -= u64::BITS;
        }
    }
    out.extend_from_slice(&held.to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// What [`pack`] wrote.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    bytes: &'a [u8],
    width: u32,
    mask: u64,
}

impl<'a> Packed<'a> {
    /// The bytes that `count` numbers of `width` bits take.
    #[must_use]
    pub const fn bytes_of(count: usize, width: u32) -> usize {
        (count * width as usize).div_ceil(8)
    }

    /// Numbers of `width` bits, 0 to 64, in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8], width: u32) -> Self {
        let mask = if width == 0 { 0 } else { u64::MAX >> (u64::BITS - width) };
        Self { bytes, width, mask }
    }

    /// The largest number of that width.
    #[must_use]
    pub const fn max(self) -> u64 {
        self.mask
    }

    /// The number at `place`.
    ///
    /// # Panics
    /// When it begins behind the bytes.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "masked to at most 64 bits")]
    pub fn get(self, place: usize) -> u64 {
        let bit = place * self.width as usize;
        let rest = &self.bytes[bit / 8..];
        // Nearly every number lies within eight bytes, wherever in its first byte it begins.
        if self.width <= NARROW_MAX
            && let Some(window) = rest.first_chunk()
        {
            return u64::from_le_bytes(*window) >> (bit % 8) & self.mask;
        }
        let window = rest.first_chunk::<16>().map_or_else(
            || {
                let mut window = [0; 16];
                window[..rest.len()].copy_from_slice(rest);
                window
            },
            |window| *window,
        );
        (u128::from_le_bytes(window) >> (bit % 8)) as u64 & self.mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_read_at_each_place(
            values in proptest::collection::vec(any::<u64>(), 0..300),
            width in 0_u32..=64,
        ) {
            let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
            let values: Vec<u64> = values.iter().map(|value| value & mask).collect();
            let mut bytes = Vec::new();
            pack(values.iter().copied(), width, &mut bytes);
            prop_assert_eq!(bytes.len(), Packed::bytes_of(values.len(), width));
            let packed = Packed::new(&bytes, width);
            let read: Vec<u64> = (0..values.len()).map(|place| packed.get(place)).collect();
            prop_assert_eq!(read, values);
        }
    }

    #[test]
    fn the_width_is_that_of_the_largest() {
        let widths = [0, 1, 2, 3, 255, 256, u64::MAX].map(width_of);
        assert_eq!(widths, [0, 1, 2, 2, 8, 9, 64]);
    }
}
