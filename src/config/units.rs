//! Plain texts into values: whole numbers, durations such as `24h`, sizes such as `1GiB`. Each parser says what it
//! wants, never where the text stood: `reader.rs` adds that.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A parser's answer: the value, or what the text must be.
pub(super) type Parsed<T> = Result<T, String>;

/// Any text that is not blank.
pub(super) fn text(raw: &str) -> Parsed<String> {
    let text = raw.trim();
    if text.is_empty() { Err("must not be empty".into()) } else { Ok(text.to_owned()) }
}

/// `true` or `false`.
pub(super) fn switch(raw: &str) -> Parsed<bool> {
    raw.trim().parse().map_err(|_| "must be true or false".into())
}

/// A whole number within `range`.
pub(super) fn number(range: RangeInclusive<i64>) -> impl Fn(&str) -> Parsed<i64> {
    move |raw| {
        let number = raw.trim().replace('_', "").parse().ok();
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
    }
}

/// One of the named values.
pub(super) fn one_of<T: Copy>(choices: &[(&str, T)]) -> impl Fn(&str) -> Parsed<T> {
    move |raw| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let choice = choices.iter().find(|(name, _)| *name == raw.trim());
        choice.map(|(_, value)| *value).ok_or_else(|| format!("must be one of {}", names.join(", ")))
    }
}

/// Splits `24h` into 24 and `h`.
fn split_unit(raw: &str) -> Option<(u64, &str)> {
    let raw = raw.trim();
    let end = raw.find(|c: char| !c.is_ascii_digit())?;
    Some((raw[..end].parse().ok()?, raw[end..].trim()))
}

/// A whole number and a unit, above zero: `500ms`, `30s`, `5m`, `24h`, `90d`.
///
/// # Errors
/// What the text must be, where it is none.
pub fn duration(raw: &str) -> Result<Duration, String> {
    let millis = split_unit(raw).and_then(|(count, unit)| {
        let unit_millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        count.checked_mul(unit_millis)
    });
    // 100 years: far below the end of a timestamp in microseconds, so that no sum of the two overflows.
    millis
        .filter(|millis| (1..=100 * 365 * 86_400_000).contains(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| "must be a duration such as 500ms, 30s, 5m, 24h or 90d".into())
}

/// A whole number of bytes with a unit: `512MiB`, `1GiB`.
pub(super) fn size(raw: &str) -> Parsed<u64> {
    let bytes = split_unit(raw).and_then(|(count, unit)| {
        let unit_bytes: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        count.checked_mul(unit_bytes)
    });
    bytes.ok_or_else(|| "must be a size such as 512MiB or 1GiB".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_whole_numbers_with_a_unit() {
        assert_eq!(duration("24h"), Ok(Duration::from_hours(24)));
        assert_eq!(duration(" 5 m "), Ok(Duration::from_mins(5)));
        for bad in ["", "24", "h", "1.5h", "-1h", "0s", "1w", "99999999999999999999d", "400000d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("1GiB"), Ok(1 << 30));
        for bad in ["", "1", "1GB", "1.5GiB", "-1B", "99999999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
