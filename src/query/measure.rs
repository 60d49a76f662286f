//! Measures: what of a tally an answer shows, by name. Plain ones are fields of the tally, derived ones follow from
//! several of them; all are computed in integers, so that equal sums give equal texts.

use std::fmt;

use crate::domain::credits::format_decimal;
use crate::domain::cube::field_set::FieldSet;
use crate::domain::cube::histogram;
use crate::domain::cube::tally::{Field, Tally};

use super::error::QueryError;

/// One named number of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A field of the tally, with its name.
    Plain(Field, &'static str),
    /// What follows from several fields.
    Derived(Derived),
}

/// Measures that follow from several fields of a tally. None can be added up: each is computed from a row's own sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derived {
    /// ok / (ok + error); null without either.
    SuccessRate,
    /// Mean latency in milliseconds.
    LatencyAverage,
    /// A percentile of the latency in milliseconds, from the histogram: right to its bucket, a fourth of a doubling.
    LatencyPercentile(u8),
    /// Mean time to the first token in milliseconds.
    FirstTokenAverage,
    /// Mean rating, 1 to 5.
    RatingAverage,
}

const DERIVED: [(Derived, &str); 7] = [
    (Derived::SuccessRate, "success_rate"),
    (Derived::LatencyAverage, "latency_avg_ms"),
    (Derived::LatencyPercentile(50), "latency_p50_ms"),
    (Derived::LatencyPercentile(95), "latency_p95_ms"),
    (Derived::LatencyPercentile(99), "latency_p99_ms"),
    (Derived::FirstTokenAverage, "time_to_first_token_avg_ms"),
    (Derived::RatingAverage, "rating_avg"),
];

/// What is shown when nothing else is asked for.
const DEFAULT: [Field; 7] = [
    Field::CREDITS,
    Field::EVENTS,
    Field::OK,
    Field::ERROR,
    Field::CANCELLED,
    Field::INPUT_TOKENS,
    Field::OUTPUT_TOKENS,
];

/// A measure's value in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// It has none here.
    Null,
    /// A count.
    Count(i128),
    /// An exact decimal: the integer and how many of its digits are decimals. Credits, money, multipliers.
    Decimal(i128, u32),
    /// A ratio or a mean, in millionths.
    Ratio(i128),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Null => Ok(()),
            Self::Count(count) => write!(f, "{count}"),
            Self::Decimal(value, scale) => f.write_str(&format_decimal(value, scale)),
            Self::Ratio(millionths) => {
                let text = format_decimal(millionths, 6);
                f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

impl Measure {
    /// What is shown when nothing else is asked for.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let named = |field: &Field| Field::NAMED.iter().find(|(named, _)| named == field);
        DEFAULT.iter().filter_map(named).map(|&(field, name)| Self::Plain(field, name)).collect()
    }

    /// The measure of that name.
    ///
    /// # Errors
    /// When there is none; the message names the nearest.
    pub fn from_name(name: &str) -> Result<Self, QueryError> {
        let plain = Field::NAMED.iter().find(|(_, known)| *known == name);
        let derived = DERIVED.iter().find(|(_, known)| *known == name);
        match (plain, derived) {
            (Some(&(field, name)), _) => Ok(Self::Plain(field, name)),
            (_, Some(&(derived, _))) => Ok(Self::Derived(derived)),
            _ => {
                let hint = super::params::nearest(name, Self::names());
                Err(QueryError::parameter("measures", format!("there is no measure `{name}`; {hint}")))
            }
        }
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Field::NAMED.iter().map(|(_, name)| *name).chain(DERIVED.iter().map(|(_, name)| *name))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain(_, name) => name,
            Self::Derived(this) => {
                DERIVED.iter().find(|(derived, _)| *derived == this).map_or("", |(_, name)| name)
            }
        }
    }

    /// The fields that it is made of.
    #[must_use]
    pub fn fields(self) -> FieldSet {
        match self {
            Self::Plain(field, _) => FieldSet::of(&[field]),
            Self::Derived(Derived::SuccessRate) => FieldSet::of(&[Field::OK, Field::ERROR]),
            Self::Derived(Derived::LatencyAverage) => FieldSet::of(&[Field::LATENCY_SUM_MS, Field::LATENCY_COUNT]),
            Self::Derived(Derived::FirstTokenAverage) => {
                FieldSet::of(&[Field::FIRST_TOKEN_SUM_MS, Field::FIRST_TOKEN_COUNT])
            }
            Self::Derived(Derived::RatingAverage) => FieldSet::of(&[Field::RATINGS, Field::RATING_SUM]),
            Self::Derived(Derived::LatencyPercentile(_)) => {
                FieldSet::of(&[Field::LATENCY_SUM_MS, Field::latency_bucket(0)])
            }
        }
    }

    /// Its value in a row.
    #[must_use]
    pub fn value(self, tally: &Tally) -> Value {
        let ratio = |part: i128, whole: i128| {
            if whole == 0 { Value::Null } else { Value::Ratio((part * 1_000_000 + whole / 2).div_euclid(whole)) }
        };
        match self {
            Self::Plain(field @ (Field::MULTIPLIER_MIN | Field::MULTIPLIER_MAX), _) => {
                tally.get(field).map_or(Value::Null, |value| Value::Decimal(value, 4))
            }
            Self::Plain(field, _) if field.is_decimal() => Value::Decimal(tally.sum(field), 6),
            Self::Plain(field, _) => Value::Count(tally.sum(field)),
            Self::Derived(derived) => match derived {
                Derived::SuccessRate => {
                    ratio(tally.sum(Field::OK), tally.sum(Field::OK) + tally.sum(Field::ERROR))
                }
                Derived::LatencyAverage => {
                    ratio(tally.sum(Field::LATENCY_SUM_MS), tally.sum(Field::LATENCY_COUNT))
                }
                Derived::FirstTokenAverage => {
                    ratio(tally.sum(Field::FIRST_TOKEN_SUM_MS), tally.sum(Field::FIRST_TOKEN_COUNT))
                }
                Derived::RatingAverage => ratio(tally.sum(Field::RATING_SUM), tally.sum(Field::RATINGS)),
                Derived::LatencyPercentile(percent) => {
                    percentile(tally, percent).map_or(Value::Null, Value::Count)
                }
            },
        }
    }

    /// What rows are ordered by: the value as an integer, `None` (least) where it is null.
    #[must_use]
    pub fn rank(self, tally: &Tally) -> Option<i128> {
        match self.value(tally) {
            Value::Null => None,
            Value::Count(value) | Value::Decimal(value, _) | Value::Ratio(value) => Some(value),
        }
    }
}

/// The latency of the event at that percentile (nearest rank): the mean where all are in one bucket of the histogram; else as if
/// the events of a bucket lay evenly in it, but never one that the sum of all latencies rules out.
fn percentile(tally: &Tally, percent: u8) -> Option<i128> {
    let (_, _, touched) = tally.parts();
    let counts: Vec<(usize, i128)> =
        touched.iter().map(|(bucket, count)| (usize::from(*bucket), i128::from(*count).max(0))).collect();
    let sum = tally.sum(Field::LATENCY_SUM_MS);
    let total: i128 = counts.iter().map(|(_, count)| count).sum();
    let rank = (total * i128::from(percent) + 99).div_euclid(100).max(1);
    let mut before = 0;
    for (place, &(bucket, count)) in counts.iter().enumerate() {
        if count > 0 && before + count >= rank {
            let (least, greatest) = bounds_ms(bucket);
            if count == total {
                return Some(((sum + count / 2) / count).clamp(least, greatest));
            }
            let even = least + (greatest + 1 - least) * (2 * (rank - before) - 1) / (2 * count);
            let (from, to) = possible(&counts, place, (before, rank), sum);
            return Some(if from <= to { even.clamp(from, to) } else { even });
        }
        before += count;
    }
    None
}

/// The least and the greatest latency of a bucket.
fn bounds_ms(bucket: usize) -> (i128, i128) {
    let lower = |bucket| i128::from(histogram::lower_bound_ms(bucket));
    (lower(bucket), (lower(bucket + 1) - 1).max(lower(bucket)))
}

/// The latencies that `sum` leaves to the event of `rank`, which is in the bucket at `place` with `before` events in lower ones:
/// of all other events the latencies lie within their buckets, and those of the same bucket are in order.
fn possible(counts: &[(usize, i128)], place: usize, (before, rank): (i128, i128), sum: i128) -> (i128, i128) {
    let (mut least_sum, mut greatest_sum) = (0, 0);
    for (_, (bucket, count)) in counts.iter().enumerate().filter(|(other, _)| *other != place) {
        let (least, greatest) = bounds_ms(*bucket);
        least_sum += least * count;
        greatest_sum += greatest * count;
    }
    let (bucket, count) = counts[place];
    let (least, greatest) = bounds_ms(bucket);
    let (up_to, above) = (rank - before, before + count - rank);
    let from = (sum - greatest_sum - above * greatest + up_to - 1).div_euclid(up_to).max(least);
    let to = (sum - least_sum - (up_to - 1) * least).div_euclid(above + 1).min(greatest);
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Measure {
        Measure::from_name(name).unwrap()
    }

    #[test]
    fn every_measure_is_found_by_its_name() {
        for name in Measure::names() {
            assert_eq!(named(name).name(), name);
        }
        let error = Measure::from_name("credit").unwrap_err().to_string();
        assert!(error.contains("did you mean `credits`"), "{error}");
    }

    #[test]
    fn the_success_rate_counts_ok_and_error_only_and_is_null_without_them() {
        let mut tally = Tally::new();
        tally.add(Field::CANCELLED, 5);
        assert_eq!(named("success_rate").value(&tally), Value::Null);
        tally.add(Field::OK, 2);
        tally.add(Field::ERROR, 1);
        assert_eq!(named("success_rate").value(&tally).to_string(), "0.666667");
        tally.add(Field::ERROR, -1);
        assert_eq!(named("success_rate").value(&tally).to_string(), "1");
    }

    #[test]
    fn a_percentile_lies_in_the_bucket_of_its_event() {
        let mut tally = Tally::new();
        assert_eq!(named("latency_p50_ms").value(&tally), Value::Null);
        for latency in 1..=100_u64 {
            tally.add(Field::latency_bucket(histogram::bucket_of(latency)), 1);
        }
        for (name, exact) in [("latency_p50_ms", 50), ("latency_p95_ms", 95), ("latency_p99_ms", 99)] {
            let Value::Count(value) = named(name).value(&tally) else { panic!("a number") };
            let value = u64::try_from(value).unwrap();
            assert_eq!(histogram::bucket_of(value), histogram::bucket_of(exact), "{name} is {value}");
        }
    }

    fn latencies(all: &[u64]) -> Tally {
        let mut tally = Tally::new();
        for &latency in all {
            tally.add(Field::latency_bucket(histogram::bucket_of(latency)), 1);
            tally.add(Field::LATENCY_SUM_MS, latency.into());
            tally.add(Field::LATENCY_COUNT, 1);
        }
        tally
    }

    #[test]
    fn percentiles_of_calls_of_minutes_and_hours_are_right_to_a_fourth() {
        for latency in [1, 49_151, 49_152, 54_000, 120_000, 600_000, 3_600_000, 36_000_000, 1_000_000_000_000] {
            let tally = latencies(&[latency; 100]);
            for name in ["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"] {
                let Value::Count(value) = named(name).value(&tally) else { panic!("a number") };
                assert!(
                    (value - i128::from(latency)).abs() * 4 <= i128::from(latency),
                    "{name} of {latency}: {value}"
                );
            }
        }
    }

    #[test]
    fn a_percentile_never_contradicts_the_mean() {
        let percentiles = |all: &[u64]| {
            let tally = latencies(all);
            [50, 95, 99].map(|percent| percentile(&tally, percent).unwrap())
        };
        assert_eq!(percentiles(&[131_000]), [131_000; 3], "one event is its own mean");
        assert_eq!(percentiles(&[1, 600_000]), [1, 600_000, 600_000], "the slower of two is known by the sum");
        assert_eq!(percentiles(&[655_000; 100]), [655_000; 3], "of one bucket the mean is known");
        let [_, _, p99] = percentiles(&[&[1; 2][..], &[655_000; 98]].concat());
        assert!((654_990..655_360).contains(&p99), "all but one are at most {p99}");
    }

    proptest::proptest! {
        #[test]
        fn a_percentile_lies_in_the_bucket_of_the_event_of_its_rank(
            mut all in proptest::collection::vec(0..4_000_000_u64, 1..60),
            percent in 1..=100_u8,
        ) {
            let told = percentile(&latencies(&all), percent).unwrap();
            all.sort_unstable();
            let rank = (all.len() * usize::from(percent)).div_ceil(100);
            let bucket = |latency| histogram::bucket_of(latency);
            proptest::prop_assert_eq!(bucket(u64::try_from(told).unwrap()), bucket(all[rank - 1]));
        }
    }

    #[test]
    fn amounts_are_exact_decimals_and_counts_are_integers() {
        let mut tally = Tally::new();
        tally.add(Field::CREDITS, -1);
        tally.add(Field::MULTIPLIER_MIN, 15_000);
        assert_eq!(named("credits").value(&tally).to_string(), "-0.000001");
        assert_eq!(named("events").value(&tally).to_string(), "0");
        assert_eq!(named("multiplier_min").value(&tally).to_string(), "1.5000");
        assert_eq!(named("multiplier_max").value(&tally), Value::Null);
    }
}
