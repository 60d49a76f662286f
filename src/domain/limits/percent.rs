//! Percent thresholds and when one is reached.

use crate::domain::credits::CreditSum;

/// The highest of `thresholds` (whole percent) that `used` of `allowance` reaches, 0 if none: threshold T is
/// reached when 100 x used >= T x allowance (CONTRACT.md, Meaning: Allowance). At an allowance of 0 the first use reaches
/// each; no use reaches none, for zero is no share of anything.
#[must_use]
pub fn level_reached(thresholds: &[i32], used: CreditSum, allowance: CreditSum) -> i32 {
    let reached = |threshold: &&i32| used.0 > 0 && 100 * used.0 >= i128::from(**threshold) * allowance.0;
    thresholds.iter().filter(reached).copied().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_reached_exactly_at_its_share() {
        let level = |used, allowance| level_reached(&[75, 90, 100], CreditSum(used), CreditSum(allowance));
        assert_eq!(level(749, 1000), 0);
        assert_eq!(level(750, 1000), 75);
        assert_eq!(level(999, 1000), 90);
        assert_eq!(level(5000, 1000), 100);
    }

    #[test]
    fn of_an_allowance_of_zero_the_first_use_reaches_all_and_no_use_reaches_none() {
        let level = |used| level_reached(&[75, 90, 100], CreditSum(used), CreditSum::ZERO);
        assert_eq!([-1, 0, 1].map(level), [0, 0, 100]);
    }
}
