//! Instants and the UTC buckets that hold them.

use std::fmt;

mod rfc3339;

const MICROS_PER_HOUR: i64 = 3_600_000_000;
/// 0000-01-01T00:00:00Z.
const YEAR_0: i64 = -62_167_219_200_000_000;
/// jiff's first instant, in year -9999.
const CIVIL_MIN: i64 = -377_705_023_201_000_000;

/// An instant: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The first instant that can be told.
    pub const MIN: Self = Self(i64::MIN);
    /// The last instant that can be told.
    pub const MAX: Self = Self(i64::MAX);

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Milliseconds since the epoch, as Kafka stamps records; saturates at the ends.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// The instant of a text in RFC 3339, or in another form of ISO 8601 that names an offset.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // jiff takes a 60th second anywhere.
        let is_leap = text.get(16..19) == Some(":60");
        let other = || (!is_leap).then(|| text.parse::<jiff::Timestamp>().ok()).flatten();
        rfc3339::parse(text).or_else(|| other().map(|instant| Self(instant.as_microsecond())))
    }

    /// Whether it has a calendar date: it lies within the years -9999..=9999, or on the day after them that RFC
    /// 3339 names by an offset.
    #[must_use]
    pub const fn is_civil(self) -> bool {
        self.0 >= CIVIL_MIN && self.0 <= rfc3339::LAST.0
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This instant moved by so many microseconds; saturates at the ends.
    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this instant; saturates at the ends.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The UTC hour that holds this instant.
    #[must_use]
    pub const fn hour(self) -> Hour {
        #[expect(clippy::cast_possible_truncation, reason = "2^63 us are 2.6e9 hours; saturated below")]
        Hour(clamp(self.0.div_euclid(MICROS_PER_HOUR)) as i32)
    }

    /// The first whole UTC hour at or after this instant (CONTRACT.md, Meaning: Period).
    #[must_use]
    pub const fn hour_at_or_after(self) -> Hour {
        let hour = self.hour();
        if hour.start().0 == self.0 { hour } else { Hour(hour.0.saturating_add(1)) }
    }
}

const fn clamp(hours: i64) -> i64 {
    if hours > i32::MAX as i64 {
        i32::MAX as i64
    } else if hours < i32::MIN as i64 {
        i32::MIN as i64
    } else {
        hours
    }
}

/// A whole UTC hour, counted from the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(pub i32);

impl Hour {
    /// Its first instant.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp((self.0 as i64).saturating_mul(MICROS_PER_HOUR))
    }

    /// The UTC day that holds it.
    #[must_use]
    pub const fn day(self) -> Day {
        Day(self.0.div_euclid(24))
    }
}

/// A whole UTC day, counted from the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// Its first hour.
    #[must_use]
    pub const fn first_hour(self) -> Hour {
        Hour(self.0.saturating_mul(24))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC; whole seconds without a fraction. Instants of the day before or after the years 0000..=9999 carry
    /// the offset that RFC 3339 names them by. Those that it cannot name: a signed year of six digits, then microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_microsecond(self.0);
        match instant {
            Ok(instant) if self.0 >= YEAR_0 => return instant.fmt(f),
            _ => {}
        }
        match (rfc3339::text_at_the_ends(*self), instant) {
            (Some(text), _) => f.write_str(&text),
            (None, Ok(instant)) => instant.fmt(f),
            (None, Err(_)) => write!(f, "{}us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_before_the_epoch_hold_what_lies_in_them() {
        assert_eq!(Timestamp::from_micros(-1).hour(), Hour(-1));
        assert_eq!(Hour(-1).day(), Day(-1));
        assert_eq!(Hour(-24).day(), Day(-1));
        assert_eq!(Hour(-25).day(), Day(-2));
    }

    #[test]
    fn the_whole_hour_at_or_after_an_exact_hour_is_itself() {
        let hour = Hour(482_000);
        assert_eq!(hour.start().hour_at_or_after(), hour);
        assert_eq!(hour.start().plus_micros(1).hour_at_or_after(), Hour(482_001));
    }

    #[test]
    fn the_first_civil_instant_is_the_calendars() {
        assert_eq!(CIVIL_MIN, jiff::Timestamp::MIN.as_microsecond());
        assert!(Timestamp::from_micros(CIVIL_MIN).is_civil() && !Timestamp::from_micros(CIVIL_MIN - 1).is_civil());
        assert!(rfc3339::LAST.is_civil() && !rfc3339::LAST.plus_micros(1).is_civil());
        assert_eq!(Timestamp::from_micros(CIVIL_MIN).to_string(), "-009999-01-02T01:59:59Z");
        assert_eq!(Timestamp::MAX.to_string(), "9223372036854775807us");
    }

    #[test]
    fn other_forms_of_iso_8601_are_read_where_they_name_an_offset() {
        let at = Some(Timestamp::from_millis(1_795_000_000_000));
        for text in ["20261118T110640Z", "2026-11-18T12:06:40+01", "2026-11-18T11:06:40+00:00[UTC]"] {
            assert_eq!(Timestamp::parse(text), at, "{text}");
        }
        assert_eq!(Timestamp::parse("2026-11-18T11:06:40"), None);
    }

    #[test]
    fn an_instant_is_written_as_rfc_3339() {
        assert_eq!(Timestamp::from_millis(1_795_000_000_000).to_string(), "2026-11-18T11:06:40Z");
    }
}
