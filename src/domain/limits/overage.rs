//! Which hours and which values of a dimension the uncovered usage of a period belongs to (CONTRACT.md, Meaning:
//! Allowance). The parts sum to the org's to the micro-credit. Beyond-base goes by the same rule: it is what a walk
//! without grants leaves uncovered. How much is uncovered: `walk`.

use std::cmp::Reverse;
use std::collections::VecDeque;

use crate::domain::credits::CreditSum;
use crate::domain::limits::walk::Segment;
use crate::domain::terms::period::Period;
use crate::domain::time::Hour;

/// The part of each hour, above 0, ascending.
pub type Parts = Vec<(Hour, CreditSum)>;

/// The hours to which a period's uncovered usage belongs: its segments as `walk::segments` gives them, and the org's
/// hours, ascending (those of other periods are passed over).
///
/// In a segment base and grants are taken in the order of the hours, so that the later ones are uncovered. What an
/// hour of negative net gives back cancels the oldest uncovered usage of its segment first; what a segment of negative
/// net gives back, and what a later segment's grants cover, goes to the oldest uncovered hours of the period.
#[must_use]
pub fn uncovered(segments: &[Segment], hours: &[(Hour, CreditSum)]) -> Parts {
    let mut uncovered = Queue::default();
    for segment in segments {
        let Some(room) = segment.room else { continue };
        uncovered.cancel(segment.repaid);
        let (mut own, mut used) = (Queue::default(), CreditSum::ZERO);
        let first = hours.partition_point(|(hour, _)| *hour < segment.start);
        for &(hour, net) in hours[first..].iter().take_while(|(hour, _)| *hour < segment.end) {
            let before = (used - room).max(CreditSum::ZERO);
            used += net;
            let after = (used - room).max(CreditSum::ZERO);
            if after > before {
                own.0.push_back((hour, after - before));
            } else {
                own.cancel(before - after);
            }
        }
        uncovered.cancel((-segment.net).max(CreditSum::ZERO));
        uncovered.0.append(&mut own.0);
    }
    uncovered.0.into()
}

/// The hours to which a period's usage beyond `base` belongs, likewise.
#[must_use]
pub fn beyond_base(period: Period, base: CreditSum, hours: &[(Hour, CreditSum)]) -> Parts {
    let inside = hours.iter().filter(|(hour, _)| (period.start..period.end).contains(hour));
    let net = inside.fold(CreditSum::ZERO, |sum, (_, net)| sum + *net);
    let (start, end, repaid) = (period.start, period.end, CreditSum::ZERO);
    uncovered(&[Segment { start, end, repaid, room: Some(base), net }], hours)
}

/// Uncovered hours, oldest first.
#[derive(Default)]
struct Queue(VecDeque<(Hour, CreditSum)>);

impl Queue {
    /// Takes up to `credits` off the oldest.
    fn cancel(&mut self, mut credits: CreditSum) {
        while credits > CreditSum::ZERO
            && let Some((_, part)) = self.0.front_mut()
        {
            let taken = credits.min(*part);
            *part = *part - taken;
            credits = credits - taken;
            if *part == CreditSum::ZERO {
                self.0.pop_front();
            }
        }
    }
}

/// Shares an hour's `part` over the values of a dimension in proportion to their positive nets: by largest remainder,
/// ties to the least value in bytes, absent before all. Gives one share for each of `values`, in their order, and 0
/// where the net is not positive. They sum to `part`, which is at most the sum of the positive nets.
#[must_use]
pub fn share(part: CreditSum, values: &[(Option<&str>, CreditSum)]) -> Vec<CreditSum> {
    let positive = |net: CreditSum| net.0.max(0).unsigned_abs();
    let whole: u128 = values.iter().map(|(_, net)| positive(*net)).sum();
    let mut shares = vec![CreditSum::ZERO; values.len()];
    if whole == 0 {
        return shares;
    }
    let mut missing = part.0;
    let mut remainders = Vec::with_capacity(values.len());
    for (place, (value, net)) in values.iter().enumerate() {
        let (share, remainder) = multiply_divide(positive(part), positive(*net), whole);
        shares[place] = CreditSum(share);
        missing -= share;
        remainders.push((Reverse(remainder), value.map(str::as_bytes), place));
    }
    remainders.sort_unstable();
    // Fewer are missing than there are remainders above 0.
    for (_, _, place) in remainders.into_iter().take(usize::try_from(missing).unwrap_or(0)) {
        shares[place] += CreditSum(1);
    }
    shares
}

/// a x b / c and its remainder, exactly, for a <= c or b <= c, all below 2^127.
fn multiply_divide(a: u128, b: u128, c: u128) -> (i128, u128) {
    let signed = |value: u128| i128::try_from(value).expect("a share is at most its whole");
    if let Some(product) = a.checked_mul(b) {
        return (signed(product / c), product % c);
    }
    // Long multiplication, bit by bit, that divides as it goes: the product would not fit.
    let (mut quotient, mut remainder) = (0_u128, 0_u128);
    let (whole, rest) = (a / c, a % c);
    for bit in (0..u128::BITS).rev() {
        quotient = 2 * quotient + 2 * remainder / c;
        remainder = 2 * remainder % c;
        if b >> bit & 1 == 1 {
            quotient += whole + (remainder + rest) / c;
            remainder = (remainder + rest) % c;
        }
    }
    (signed(quotient), remainder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(part: i128, nets: &[(&str, i128)]) -> Vec<i128> {
        let values: Vec<_> = nets
            .iter()
            .map(|(value, net)| (Some(*value).filter(|value| !value.is_empty()), CreditSum(*net)))
            .collect();
        share(CreditSum(part), &values).into_iter().map(|share| share.0).collect()
    }

    #[test]
    fn an_hours_part_goes_by_largest_remainder_and_ties_by_value_bytes() {
        assert_eq!(shares(10, &[("a", 20), ("b", 20)]), [5, 5]);
        assert_eq!(shares(5, &[("b", 20), ("a", 20)]), [2, 3], "the tie goes to the lesser value");
        assert_eq!(shares(5, &[("a", 20), ("", 20)]), [2, 3], "absent comes before all");
        assert_eq!(shares(5, &[("Z", 20), ("a", 20)]), [3, 2], "bytes, not letters");
        assert_eq!(shares(10, &[("a", 100), ("b", 51), ("c", 49)]), [5, 3, 2], "2.55 is nearer to 3 than 2.45");
        assert_eq!(shares(4, &[("a", 8), ("b", -6), ("c", 0)]), [4, 0, 0], "negative nets have no part");
        assert_eq!(shares(0, &[("a", 8)]), [0]);
    }

    proptest! {
        #[test]
        fn the_parts_sum_to_the_whole_and_none_is_above_its_net(
            nets in prop::collection::vec(-1000..1_000_000_000_000_000_000_000_i128, 1..8),
            percent in 0..=100_i128,
        ) {
            let values: Vec<_> = nets.iter().map(|net| (None, CreditSum(*net))).collect();
            let whole: i128 = nets.iter().map(|net| net.max(&0)).sum();
            let part = whole / 100 * percent;
            let shares = share(CreditSum(part), &values);
            prop_assert_eq!(shares.iter().map(|share| share.0).sum::<i128>(), part);
            for (share, net) in shares.iter().zip(&nets) {
                prop_assert!(share.0 >= 0 && share.0 <= *net.max(&0));
                // Each is its exact share, rounded up or down.
                let exact = share.0 * 100 - net.max(&0) * percent;
                prop_assert!(exact.abs() < 100 * 100, "{} of {}", share.0, net);
            }
        }

        #[test]
        fn a_product_that_does_not_fit_is_divided_like_one_that_does(
            a in 0..=u128::from(u64::MAX), b in 0..=u128::from(u64::MAX), c in 1..=u128::from(u64::MAX),
        ) {
            let (a, b) = (a % (c + 1), b % (c + 1));
            let shift = 60;
            let (quotient, remainder) = multiply_divide(a << shift, b, c << shift);
            prop_assert_eq!((quotient.unsigned_abs(), remainder >> shift), (a * b / c, a * b % c));
        }
    }
}
