//! RFC 3339: the texts of instants. Every text that the standard allows is read, and every instant that it can name is
//! written: offsets reach up to a minute less than a day beyond the years 0000 and 9999. jiff does neither: it keeps a day
//! free at each end, and reads nine digits of a fraction.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, date};

use super::Timestamp;

/// 0000-01-01T00:00:00+23:59.
pub const FIRST: Timestamp = Timestamp::from_micros(-62_167_219_200_000_000 - OFFSET_MAX);
/// 9999-12-31T23:59:59.999999-23:59.
pub const LAST: Timestamp = Timestamp::from_micros(253_402_300_799_999_999 + OFFSET_MAX);

const SECOND: i64 = 1_000_000;
/// 23:59.
const OFFSET_MAX: i64 = (24 * 60 - 1) * 60 * SECOND;

/// The instant of that text; digits beyond microseconds are cut off. A leap second is the last microsecond of its minute, so
/// that it belongs to the hour and day that end with it.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let (head, rest) = text.as_bytes().split_at_checked(19)?;
    let separators = [head[4], head[7], head[13], head[16]] == *b"--::" && matches!(head[10], b'T' | b't' | b' ');
    let number = |from: usize, to: usize| digits(&head[from..to]);
    let day = Date::new(
        i16::try_from(number(0, 4)?).ok()?,
        i8::try_from(number(5, 7)?).ok()?,
        i8::try_from(number(8, 10)?).ok()?,
    );
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !separators || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, rest) = fraction(rest)?;
    let offset = offset(rest)?;
    let at_minute = micros_of(day.ok()?.at(0, 0, 0, 0)) + (hour * 60 + minute) * 60 * SECOND - offset;
    if second < 60 {
        return Some(Timestamp::from_micros(at_minute + second * SECOND + fraction));
    }
    // Leap seconds stand at the ends of months, in UTC.
    let minute = civil(Timestamp::from_micros(at_minute))?;
    let ends_month = minute == minute.date().last_of_month().at(23, 59, 0, 0);
    ends_month.then(|| Timestamp::from_micros(at_minute + 60 * SECOND - 1))
}

/// Microseconds of a fraction, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', text @ ..] = text else { return Some((0, text)) };
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = text.split_at(count);
    let kept = &fraction[..count.min(6)];
    let scale = 10_i64.pow(u32::try_from(6 - kept.len()).ok()?);
    if count == 0 { None } else { Some((digits(kept)? * scale, rest)) }
}

/// Microseconds by which local time is ahead of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), hour @ .., b':', tens, ones] if hour.len() == 2 => {
            let (hours, minutes) = (digits(hour)?, digits(&[*tens, *ones])?);
            let micros = (hours * 60 + minutes) * 60 * SECOND;
            (hours <= 23 && minutes <= 59).then_some(if *sign == b'-' { -micros } else { micros })
        }
        _ => None,
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

/// The text of an instant of the first or last day, which jiff does not write; `None` when RFC 3339 cannot name it.
pub(super) fn text_at_the_ends(at: Timestamp) -> Option<String> {
    if at < FIRST || at > LAST {
        return None;
    }
    let year = |shift: i64| civil(at.plus_micros(shift)).filter(|local| (0..=9999).contains(&local.year()));
    let with = |shift: i64, offset: &str| year(shift).map(|local| format!("{local}{offset}"));
    with(0, "Z").or_else(|| with(OFFSET_MAX, "+23:59")).or_else(|| with(-OFFSET_MAX, "-23:59"))
}

const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

fn micros_of(utc: DateTime) -> i64 {
    i64::try_from(utc.duration_since(EPOCH).as_micros()).expect("the years of a calendar date fit")
}

/// Date and time in UTC, of the years that jiff's calendar has.
fn civil(at: Timestamp) -> Option<DateTime> {
    EPOCH.checked_add(SignedDuration::from_micros(at.micros())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(text: &str) -> i64 {
        parse(text).unwrap_or_else(|| panic!("{text} is RFC 3339")).micros()
    }

    #[test]
    fn every_spelling_of_an_instant_is_read() {
        for text in [
            "2026-11-18T11:06:40.123456Z",
            "2026-11-18t11:06:40.123456z",
            "2026-11-18 11:06:40.123456Z",
            "2026-11-18T11:06:40.123456-00:00",
            "2026-11-18T12:06:40.123456+01:00",
            "2026-11-17T11:07:40.123456789012345678-23:59",
            "2026-11-19T11:05:40.1234560+23:59",
        ] {
            assert_eq!(micros(text), 1_795_000_000_123_456, "{text}");
        }
        assert_eq!(micros("1969-12-31T23:59:59.9999999Z"), -1);
        assert_eq!(micros("2024-02-29T00:00:00Z"), 1_709_164_800_000_000);
    }

    #[test]
    fn the_first_and_last_instants_are_read_and_written() {
        for (text, at) in [
            ("9999-12-31T23:59:59Z", 253_402_300_799_000_000),
            ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
            ("9999-12-31T23:59:59.999999-23:59", LAST.micros()),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
            ("0000-01-01T00:00:00+23:59", FIRST.micros()),
        ] {
            assert_eq!((micros(text), Timestamp::from_micros(at).to_string()), (at, text.to_owned()));
        }
        assert_eq!(text_at_the_ends(LAST.plus_micros(1)), None);
        assert_eq!(text_at_the_ends(FIRST.plus_micros(-1)), None);
    }

    #[test]
    fn a_leap_second_is_the_end_of_its_minute_and_stands_only_where_one_can() {
        for text in ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5Z", "1990-12-31T15:59:60-08:00"] {
            assert_eq!(micros(text).rem_euclid(3_600 * SECOND), 3_600 * SECOND - 1, "{text}");
        }
        assert_eq!(micros("2016-12-31T23:59:60Z"), micros("2016-12-31T23:59:59.999999Z"));
        assert_eq!(micros("9999-12-31T23:59:60Z"), micros("9999-12-31T23:59:59.999999Z"));
        for text in ["2016-12-30T23:59:60Z", "2016-12-31T23:58:60Z", "2016-12-31T12:00:60Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_rfc_3339_is_refused() {
        for text in [
            "",
            "2026-11-18",
            "2026-11-18T11:06:40",
            "2026-11-18T24:00:00Z",
            "2026-11-18T11:60:00Z",
            "2026-11-18T11:06:61Z",
            "2026-02-29T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-18T11:06:40.Z",
            "2026-11-18T11:06:40,5Z",
            "2026-11-18T11:06:40+24:00",
            "2026-11-18T11:06:40+01:60",
            "2026-11-18T11:06:40+0100",
            "2026-11-18T11:06:40ZZ",
            "2026-11-18T+1:06:40Z",
            "10000-01-01T00:00:00Z",
            "2026/11/18T11:06:40Z",
            "\u{661}026-11-18T11:06:40Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_instant_is_read_back_from_any_offset_and_digits(
            micros in FIRST.micros()..=LAST.micros(),
            minutes in -1439..=1439_i64,
            digits in 0..12_usize,
        ) {
            let Some(local) = civil(Timestamp::from_micros(micros + minutes * 60 * SECOND)) else { return Ok(()) };
            prop_assume!((0..=9999).contains(&local.year()));
            let sign = if minutes < 0 { '-' } else { '+' };
            let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
            let fraction = format!("{:09}000", local.subsec_nanosecond());
            let fraction = if digits == 0 { String::new() } else { format!(".{}", &fraction[..digits]) };
            let text = format!("{}{fraction}{sign}{hours:02}:{rest:02}", local.strftime("%Y-%m-%dT%H:%M:%S"));
            let scale = 10_i64.pow(u32::try_from(6_usize.saturating_sub(digits)).unwrap());
            let cut = micros - (i64::from(local.subsec_nanosecond()) / 1000) % scale;
            prop_assert_eq!(parse(&text), Some(Timestamp::from_micros(cut)), "{}", text);
        }

        #[test]
        fn what_is_written_is_read_back(micros in FIRST.micros()..=LAST.micros()) {
            let at = Timestamp::from_micros(micros);
            prop_assert_eq!(parse(&at.to_string()), Some(at));
            prop_assert_eq!(text_at_the_ends(at).and_then(|text| parse(&text)), Some(at));
        }

        #[test]
        fn any_text_is_an_instant_or_refused(text in "[0-9TtZz:.+ -]{0,40}|.{0,40}") {
            let _ = Timestamp::parse(&text);
        }
    }
}
