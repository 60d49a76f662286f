//! The fixed log-scale latency histogram: which bucket a latency falls into.

/// Buckets of the histogram.
pub const BUCKETS: usize = 64;

/// The bucket of a latency: bucket 0 holds 0 ms, then four buckets per doubling from 1 ms on; the last bucket
/// holds all from 54,000 ms up.
#[must_use]
pub const fn bucket_of(latency_ms: u64) -> usize {
    if latency_ms == 0 {
        return 0;
    }
    let octave = latency_ms.ilog2() as usize;
    let quarter = if octave >= 2 { (latency_ms >> (octave - 2)) & 3 } else { (latency_ms << (2 - octave)) & 3 };
    #[expect(clippy::cast_possible_truncation, reason = "quarter is 0..=3")]
    let bucket = 1 + octave * 4 + quarter as usize;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The least latency in milliseconds that falls into `bucket` (rounded up to a whole millisecond).
#[must_use]
pub const fn lower_bound_ms(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let (octave, quarter) = ((bucket - 1) / 4, ((bucket - 1) % 4) as u64);
    ((4 + quarter) << octave).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_at_or_above_its_buckets_lower_bound_and_below_the_next() {
        for latency in (0..70_000).chain([1 << 40]) {
            let bucket = bucket_of(latency);
            assert!(lower_bound_ms(bucket) <= latency, "{latency}");
            assert!(bucket == BUCKETS - 1 || latency < lower_bound_ms(bucket + 1), "{latency}");
        }
    }
}
