//! The fixed log-scale latency histogram: which bucket a latency falls into.

/// The greatest latency of a record in milliseconds (CONTRACT.md, Records: counts are at most 10^12).
pub const LATENCY_MS_MAX: u64 = 1_000_000_000_000;

/// Buckets of the histogram: the last one holds [`LATENCY_MS_MAX`], so that no latency is cut.
pub const BUCKETS: usize = place_of(LATENCY_MS_MAX) + 1;

/// The bucket of a latency of 0..=[`LATENCY_MS_MAX`]: bucket 0 holds 0 ms, then four buckets per doubling from 1 ms on. The
/// latencies of a bucket differ by less than a fourth of its least one.
#[must_use]
pub const fn bucket_of(latency_ms: u64) -> usize {
    // What a record may not hold is counted with the greatest that it may.
    place_of(if latency_ms > LATENCY_MS_MAX { LATENCY_MS_MAX } else { latency_ms })
}

const fn place_of(latency_ms: u64) -> usize {
    if latency_ms == 0 {
        return 0;
    }
    let octave = latency_ms.ilog2() as usize;
    let quarter = if octave >= 2 { (latency_ms >> (octave - 2)) & 3 } else { (latency_ms << (2 - octave)) & 3 };
    #[expect(clippy::cast_possible_truncation, reason = "quarter is 0..=3")]
    let place = 1 + octave * 4 + quarter as usize;
    place
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
    fn every_latency_that_a_record_may_hold_lies_in_a_bucket_a_fourth_wide() {
        let edges =
            (0..40).flat_map(|octave| [-1, 0, 1].map(|near| (1_u64 << octave).saturating_add_signed(near)));
        for latency in (0..70_000).chain(edges).chain([120_000, 600_000, 3_600_000, LATENCY_MS_MAX]) {
            let bucket = bucket_of(latency);
            let (first, next) = (lower_bound_ms(bucket), lower_bound_ms(bucket + 1));
            assert!(bucket < BUCKETS && first <= latency && latency < next, "{latency}");
            assert!((next - 1 - first) * 4 <= first, "{latency} is in {first}..{next}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
