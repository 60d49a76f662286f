//! A tally: the counts and sums of one row, all integers.
//!
//! A tally is sparse: a mask of the fields that any of its events touched, and one number for each. Most events
//! touch ten of the hundred fields, and adding two tallies of the same shape is one loop of additions.
//! Addition is associative and commutative, so any batching gives the same row (Law 2).

use crate::domain::credits::CreditSum;
use crate::domain::cube::histogram;
use crate::domain::usage::event::Outcome;

/// One field of a tally. The numbers are part of the stored format: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field(u8);

/// The first latency bucket's number; the others follow, so that plain fields fit a mask of 64 bits.
const LATENCY_BUCKET_0: u8 = 64;
/// How many fields there can be.
const FIELDS_MAX: usize = LATENCY_BUCKET_0 as usize + histogram::BUCKETS;

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl Field {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// The plain fields (all but the latency buckets) with their names in queries.
            pub const NAMED: &'static [(Self, &'static str)] = &[$((Self::$name, $text),)*];
        }
    };
}

fields! {
    /// Sum of credits in micro-credits, corrections included.
    CREDITS = 0, "credits";
    /// Usage events, plus what corrections add.
    EVENTS = 1, "events";
    /// Corrections.
    ADJUSTMENTS = 2, "adjustments";
    /// Events that ended ok.
    OK = 3, "ok";
    /// Their credits.
    OK_CREDITS = 4, "ok_credits";
    /// Events that failed.
    ERROR = 5, "error";
    /// Their credits.
    ERROR_CREDITS = 6, "error_credits";
    /// Events given up.
    CANCELLED = 7, "cancelled";
    /// Their credits.
    CANCELLED_CREDITS = 8, "cancelled_credits";
    /// Tokens.
    INPUT_TOKENS = 9, "input_tokens";
    /// Tokens.
    OUTPUT_TOKENS = 10, "output_tokens";
    /// Tokens.
    CACHED_INPUT_TOKENS = 11, "cached_input_tokens";
    /// Tokens.
    REASONING_TOKENS = 12, "reasoning_tokens";
    /// Sum of latencies, milliseconds.
    LATENCY_SUM_MS = 13, "latency_sum_ms";
    /// Events with a latency.
    LATENCY_COUNT = 14, "latency_count";
    /// Sum of times to the first token, milliseconds.
    FIRST_TOKEN_SUM_MS = 15, "time_to_first_token_sum_ms";
    /// Events with a time to the first token.
    FIRST_TOKEN_COUNT = 16, "time_to_first_token_count";
    /// Least multiplier, an integer of 10^-4.
    MULTIPLIER_MIN = 17, "multiplier_min";
    /// Greatest multiplier, an integer of 10^-4.
    MULTIPLIER_MAX = 18, "multiplier_max";
    /// Ratings.
    RATINGS = 19, "ratings";
    /// Sum of ratings.
    RATING_SUM = 20, "rating_sum";
    /// Pieces of content, counted where their first event stands.
    CONTENTS = 21, "contents";
    /// Credits of events with a content id.
    CONTENT_CREDITS = 22, "content_credits";
    /// First attempts.
    ATTEMPT_1 = 23, "attempt_1";
    /// Second attempts.
    ATTEMPT_2 = 24, "attempt_2";
    /// Third attempts.
    ATTEMPT_3 = 25, "attempt_3";
    /// Fourth attempts.
    ATTEMPT_4 = 26, "attempt_4";
    /// Fifth and later attempts.
    ATTEMPT_5 = 27, "attempt_5_plus";
    /// Credits of first attempts.
    ATTEMPT_1_CREDITS = 28, "attempt_1_credits";
    /// Credits of second attempts.
    ATTEMPT_2_CREDITS = 29, "attempt_2_credits";
    /// Credits of third attempts.
    ATTEMPT_3_CREDITS = 30, "attempt_3_credits";
    /// Credits of fourth attempts.
    ATTEMPT_4_CREDITS = 31, "attempt_4_credits";
    /// Credits of fifth and later attempts.
    ATTEMPT_5_CREDITS = 32, "attempt_5_plus_credits";
    /// Content accepted after one attempt.
    ACCEPTED_FIRST = 33, "accepted_first_attempt";
    /// Content accepted.
    ACCEPTED = 34, "accepted";
    /// Content rejected.
    REJECTED = 35, "rejected";
    /// Content published.
    PUBLISHED = 36, "published";
    /// Content unused.
    UNUSED = 37, "unused";
    /// Credits of content accepted.
    ACCEPTED_CREDITS = 38, "accepted_credits";
    /// Credits of content rejected.
    REJECTED_CREDITS = 39, "rejected_credits";
    /// Credits of content published.
    PUBLISHED_CREDITS = 40, "published_credits";
    /// Credits of content unused.
    UNUSED_CREDITS = 41, "unused_credits";
    /// Value of content, an integer of 10^-6 of the org's currency.
    VALUE = 42, "value";
    /// Credits that neither base nor grants cover. Answers alone hold it: it follows from terms, so no stored row does.
    OVERAGE = 62, "overage";
    /// Credits beyond the base allocation, likewise in answers alone.
    BEYOND_BASE = 63, "beyond_base";
}

impl Field {
    /// The field of that stored number; `None` beyond the last.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        if (number as usize) < FIELDS_MAX { Some(Self(number)) } else { None }
    }

    /// Its stored number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The field of a latency bucket, 0..[`histogram::BUCKETS`].
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "asserted to be below BUCKETS, and a constant assertion keeps all numbers below 256"
    )]
    pub const fn latency_bucket(bucket: usize) -> Self {
        assert!(bucket < histogram::BUCKETS, "a latency bucket is below BUCKETS");
        Self(LATENCY_BUCKET_0 + bucket as u8)
    }

    /// The number of its latency bucket, `None` for a plain field.
    #[must_use]
    pub const fn bucket(self) -> Option<u8> {
        self.0.checked_sub(LATENCY_BUCKET_0)
    }

    /// The fields of attempt `attempt` (1 and up): its events and its credits.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=4")]
    pub const fn attempt(attempt: i64) -> (Self, Self) {
        let place = (if attempt < 1 {
            0
        } else if attempt > 5 {
            4
        } else {
            attempt - 1
        }) as u8;
        (Self(Self::ATTEMPT_1.0 + place), Self(Self::ATTEMPT_1_CREDITS.0 + place))
    }

    /// The fields of an outcome: its count and its credits.
    #[must_use]
    pub const fn outcome(outcome: Outcome) -> (Self, Self) {
        let place = outcome as u8;
        (Self(Self::ACCEPTED.0 + place), Self(Self::ACCEPTED_CREDITS.0 + place))
    }

    /// Whether the field is an amount of credits (or of money): an integer of 10^-6.
    #[must_use]
    pub const fn is_decimal(self) -> bool {
        matches!(self.0, 0 | 4 | 6 | 8 | 22 | 28..=32 | 38..=42 | 62 | 63)
    }

    /// The plain field of the lowest bit of a mask of fields.
    #[expect(clippy::cast_possible_truncation, reason = "below 64")]
    pub(in crate::domain) const fn of(bit: u64) -> Self {
        Self(bit.trailing_zeros() as u8)
    }

    /// Two values of the field as one.
    pub(in crate::domain) const fn merge(self, left: i128, right: i128) -> i128 {
        match self {
            Self::MULTIPLIER_MIN => {
                if left < right {
                    left
                } else {
                    right
                }
            }
            Self::MULTIPLIER_MAX => {
                if left > right {
                    left
                } else {
                    right
                }
            }
            _ => left + right,
        }
    }
}

const _: () = assert!(FIELDS_MAX <= 1 << u8::BITS, "a field's number is a byte");

const EXTREMES: u64 = 1 << Field::MULTIPLIER_MIN.0 | 1 << Field::MULTIPLIER_MAX.0;

/// Counts and sums of one row.
///
/// The plain fields and the latency buckets stand apart: rows of one kind of event then have the same plain mask, and
/// adding one to another is a loop of additions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The touched plain fields.
    mask: u64,
    /// One value for each bit of the mask.
    values: Vec<i128>,
    /// The touched latency buckets by number: a count of events, which no log is long enough to overflow.
    latencies: Vec<(u8, i64)>,
}

impl Tally {
    /// A tally of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { mask: 0, values: Vec::new(), latencies: Vec::new() }
    }

    /// A tally of the plain fields in `mask` (bit n is field number n) with one value for each, by field number, and of
    /// latency buckets by number with their counts; `None` when the values are too few or too many, or the buckets do not
    /// ascend or are none.
    #[must_use]
    pub fn from_parts(mask: u64, values: Vec<i128>, latencies: Vec<(u8, i64)>) -> Option<Self> {
        let known = latencies.last().is_none_or(|(bucket, _)| usize::from(*bucket) < histogram::BUCKETS);
        let ascend = latencies.is_sorted_by(|(one, _), (next, _)| one < next);
        let fits = mask.count_ones() as usize == values.len();
        (fits && known && ascend).then_some(Self { mask, values, latencies })
    }

    /// The touched plain fields (bit n is field number n), their values by field number, and the touched latency buckets
    /// by number with their counts.
    #[must_use]
    pub fn parts(&self) -> (u64, &[i128], &[(u8, i64)]) {
        (self.mask, &self.values, &self.latencies)
    }

    /// Whether nothing was ever added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.mask == 0 && self.latencies.is_empty()
    }

    /// Forgets all, keeping the memory for the next use.
    pub fn clear(&mut self) {
        self.mask = 0;
        self.values.clear();
        self.latencies.clear();
    }

    /// The value of a field; `None` where no event touched it.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<i128> {
        if let Some(bucket) = field.bucket() {
            let (_, count) = self.latencies.iter().find(|(found, _)| *found == bucket)?;
            return Some((*count).into());
        }
        (self.mask >> field.0 & 1 == 1).then(|| self.values[self.place(field)])
    }

    /// The value of a field, 0 where no event touched it.
    #[must_use]
    pub fn sum(&self, field: Field) -> i128 {
        self.get(field).unwrap_or(0)
    }

    /// Sum of credits.
    #[must_use]
    pub fn credits(&self) -> CreditSum {
        CreditSum(self.sum(Field::CREDITS))
    }

    /// Adds `value` to a field (or lets a least or greatest field see it).
    ///
    /// # Panics
    /// When a latency bucket counts more than 2^63 events.
    pub fn add(&mut self, field: Field, value: i128) {
        if let Some(bucket) = field.bucket() {
            self.add_latency(bucket, i64::try_from(value).expect("a count of events"));
            return;
        }
        let place = self.place(field);
        if self.mask >> field.0 & 1 == 1 {
            self.values[place] = field.merge(self.values[place], value);
        } else {
            self.mask |= 1 << field.0;
            self.values.insert(place, value);
        }
    }

    fn add_latency(&mut self, bucket: u8, count: i64) {
        match self.latencies.iter().position(|(found, _)| *found >= bucket) {
            Some(place) if self.latencies[place].0 == bucket => self.latencies[place].1 += count,
            Some(place) => self.latencies.insert(place, (bucket, count)),
            None => self.latencies.push((bucket, count)),
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.mask == 0 {
            self.mask = other.mask;
            self.values.clone_from(&other.values);
        } else if self.mask == other.mask {
            self.merge_same(other);
        } else if other.mask & !self.mask == 0 {
            self.merge_part(other);
        } else {
            self.merge_wider(other);
        }
        for &(bucket, count) in &other.latencies {
            self.add_latency(bucket, count);
        }
    }

    /// The usual case: both hold the same fields.
    fn merge_same(&mut self, other: &Self) {
        let extremes = [Field::MULTIPLIER_MIN, Field::MULTIPLIER_MAX];
        let kept = (self.mask & EXTREMES != 0).then(|| {
            extremes
                .map(|field| self.get(field).map(|left| (self.place(field), field.merge(left, other.sum(field)))))
        });
        for (left, right) in self.values.iter_mut().zip(&other.values) {
            *left += right;
        }
        for (place, value) in kept.into_iter().flatten().flatten() {
            self.values[place] = value;
        }
    }

    /// All that `other` holds is held here too: walks both masks at once.
    fn merge_part(&mut self, other: &Self) {
        let (mut mask, mut wanted) = (self.mask, other.mask);
        let mut right = other.values.iter();
        for left in &mut self.values {
            let bit = mask & mask.wrapping_neg();
            if wanted & bit != 0 {
                let right = *right.next().expect("one value for each bit of the mask");
                *left = if bit & EXTREMES == 0 { *left + right } else { Field::of(bit).merge(*left, right) };
                wanted ^= bit;
                if wanted == 0 {
                    return;
                }
            }
            mask ^= bit;
        }
    }

    fn merge_wider(&mut self, other: &Self) {
        let mut mask = self.mask | other.mask;
        let mut merged = Vec::with_capacity(mask.count_ones() as usize);
        let (mut left, mut right) = (self.values.iter(), other.values.iter());
        while mask != 0 {
            let bit = mask & mask.wrapping_neg();
            let next = |of: u64, values: &mut std::slice::Iter<'_, i128>| {
                (of & bit != 0).then(|| *values.next().expect("one value for each bit of the mask"))
            };
            merged.push(match (next(self.mask, &mut left), next(other.mask, &mut right)) {
                (Some(left), Some(right)) => Field::of(bit).merge(left, right),
                (Some(value), None) | (None, Some(value)) => value,
                (None, None) => unreachable!("the field is in one of the masks"),
            });
            mask ^= bit;
        }
        self.mask |= other.mask;
        self.values = merged;
    }

    /// Every touched field and its value, by field number.
    pub fn iter(&self) -> impl Iterator<Item = (Field, i128)> {
        let mut mask = self.mask;
        let plain = self.values.iter().map(move |value| {
            let field = Field::of(mask);
            mask &= mask - 1;
            (field, *value)
        });
        let latencies = self.latencies.iter();
        plain.chain(latencies.map(|&(bucket, count)| (Field::latency_bucket(bucket.into()), count.into())))
    }

    /// Bytes that this tally holds on the heap.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.values.capacity() * size_of::<i128>() + self.latencies.capacity() * size_of::<(u8, i64)>()
    }

    fn place(&self, field: Field) -> usize {
        (self.mask & ((1 << field.0) - 1)).count_ones() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tally() -> impl Strategy<Value = Tally> {
        proptest::collection::vec((0..225_u8, -1000..1000_i128), 0..20).prop_map(|fields| {
            let mut tally = Tally::new();
            for (number, value) in fields {
                tally.add(Field(number), value);
            }
            tally
        })
    }

    fn merged(left: &Tally, right: &Tally) -> Tally {
        let mut sum = left.clone();
        sum.merge(right);
        sum
    }

    proptest! {
        #[test]
        fn merging_is_commutative_and_associative(a in tally(), b in tally(), c in tally()) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        }

        #[test]
        fn merging_is_adding_each_field(a in tally(), b in tally()) {
            let mut one_by_one = a.clone();
            for (field, value) in b.iter() {
                one_by_one.add(field, value);
            }
            prop_assert_eq!(merged(&a, &b), one_by_one);
        }
    }
}
