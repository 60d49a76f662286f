//! Exact credits: micro-credits (10^-6), `i64` in one record, `i128` in a sum. Never a float.

use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub};

/// Micro-credits in one credit.
pub const MICROS_PER_CREDIT: i64 = 1_000_000;

/// The greatest magnitude of one record's credits: 10^9 credits (CONTRACT.md, Records).
pub const RECORD_CREDITS_MAX: i64 = 1_000_000_000 * MICROS_PER_CREDIT;

/// Credits of one record, in micro-credits, within +-10^9 credits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Credits(i64);

impl Credits {
    /// No credits.
    pub const ZERO: Self = Self(0);

    /// Takes micro-credits; `None` beyond +-10^9 credits.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Option<Self> {
        if micros > RECORD_CREDITS_MAX || micros < -RECORD_CREDITS_MAX {
            return None;
        }
        Some(Self(micros))
    }

    /// The micro-credits.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        CreditSum(i128::from(self.0)).fmt(f)
    }
}

/// A sum of credits in micro-credits. Records are bounded, so no sum of good records can overflow (Law 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CreditSum(pub i128);

impl CreditSum {
    /// No credits.
    pub const ZERO: Self = Self(0);

    /// The micro-credits.
    #[must_use]
    pub const fn micros(self) -> i128 {
        self.0
    }

    /// A whole number of credits.
    #[must_use]
    pub const fn whole(credits: i64) -> Self {
        Self(credits as i128 * MICROS_PER_CREDIT as i128)
    }

    /// An approximation for gauges and charts only; never used in a sum or a decision.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float by its format")]
    pub fn approx(self) -> f64 {
        self.0 as f64 / MICROS_PER_CREDIT as f64
    }
}

impl From<Credits> for CreditSum {
    fn from(credits: Credits) -> Self {
        Self(i128::from(credits.0))
    }
}

impl Add for CreditSum {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for CreditSum {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for CreditSum {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for CreditSum {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl fmt::Display for CreditSum {
    /// Always six decimals, as on the wire: `12.300000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.unsigned_abs();
        let scale = MICROS_PER_CREDIT.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:06}", micros / u128::from(scale), micros % u128::from(scale))
    }
}

/// Why a text is not a decimal of the wanted scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// Not `[+-]digits[.digits]`.
    Malformed,
    /// More decimals than the scale holds; it is refused, never rounded.
    TooPrecise,
    /// More digits than an `i128` of that scale holds.
    TooLarge,
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a plain decimal number",
            Self::TooPrecise => "more decimals than the field holds",
            Self::TooLarge => "too large for the field",
        })
    }
}

impl std::error::Error for DecimalError {}

/// Reads `[+-]digits[.digits]` as an integer of 10^-`scale`, exactly. Trailing zeros beyond the scale are fine.
///
/// # Errors
/// When the text is no plain decimal, holds more decimals than `scale`, or does not fit.
pub fn parse_decimal(text: &str, scale: u32) -> Result<i128, DecimalError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) || digits.ends_with('.') {
        return Err(DecimalError::Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    let missing = (scale as usize).checked_sub(fraction.len()).ok_or(DecimalError::TooPrecise)?;
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', missing)) {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i128::from(digit - b'0')))
            .ok_or(DecimalError::TooLarge)?;
    }
    Ok(if negative { -value } else { value })
}

/// Writes an integer of 10^-`scale` with exactly `scale` decimals.
#[must_use]
pub fn format_decimal(value: i128, scale: u32) -> String {
    let magnitude = value.unsigned_abs();
    let unit = 10_u128.pow(scale);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{magnitude}");
    }
    format!("{sign}{}.{:0width$}", magnitude / unit, magnitude % unit, width = scale as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_decimal_is_read_exactly_or_refused() {
        assert_eq!(parse_decimal("12.3", 6), Ok(12_300_000));
        assert_eq!(parse_decimal("-0.000001", 6), Ok(-1));
        assert_eq!(parse_decimal("1.0000000", 6), Ok(1_000_000));
        assert_eq!(parse_decimal(".5", 6), Ok(500_000));
        assert_eq!(parse_decimal("0.0000001", 6), Err(DecimalError::TooPrecise));
        for bad in ["", "-", "1e3", "1.", " 1", "1,0", "0x1", "--1", "."] {
            assert_eq!(parse_decimal(bad, 6), Err(DecimalError::Malformed), "{bad:?}");
        }
        assert_eq!(parse_decimal(&"9".repeat(60), 6), Err(DecimalError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in any::<i64>()) {
            let sum = CreditSum(i128::from(micros));
            prop_assert_eq!(parse_decimal(&sum.to_string(), 6), Ok(i128::from(micros)));
        }
    }
}
