//! Pages (AIP-158): a token names the last row of the page before, and the question that it belongs to.
//!
//! Rows between two pages may change; a token that names a row, not a count, neither repeats nor skips one that stays
//! where it is in the order.

use serde::{Deserialize, Serialize};

use super::error::QueryError;
use super::params::is_in_bounds;
use crate::domain::time::Hour;

/// Rows of a page when nothing is asked for.
pub const PAGE_SIZE: usize = 1000;
/// The most rows of a page.
pub const PAGE_SIZE_MAX: usize = 10_000;
/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16_384;

/// What a page token of a usage question holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The question's fingerprint.
    pub query: u64,
    /// First hour of the range, so that every page has the range of the first.
    pub from: i32,
    /// First hour after it.
    pub to: i32,
    /// What the last row was ordered by, where that is a measure: an integer.
    pub rank: Option<String>,
    /// The first hour of the last row's bucket.
    pub start: i32,
    /// Its values.
    pub group: Vec<Option<String>>,
}

/// Reads `page_size`; too large a one is brought down to [`PAGE_SIZE_MAX`], as AIP-158 asks.
///
/// # Errors
/// When it is no positive number.
pub fn size(text: Option<&str>, default: usize) -> Result<usize, QueryError> {
    let Some(text) = text else { return Ok(default) };
    match text.parse::<usize>() {
        Ok(size) if size > 0 => Ok(size.min(PAGE_SIZE_MAX)),
        _ => {
            Err(QueryError::parameter("page_size", format!("`{text}` is not a number from 1 to {PAGE_SIZE_MAX}")))
        }
    }
}

/// Writes a token as opaque text that needs no escaping.
///
/// # Errors
/// Never for the tokens of this room.
pub fn write<T: Serialize>(token: &T) -> Result<String, QueryError> {
    let bytes = serde_json::to_vec(token).map_err(|error| QueryError::Internal(error.to_string()))?;
    Ok(bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|d| char::from_digit(u32::from(d), 16))
        .collect())
}

fn bad() -> QueryError {
    QueryError::parameter("page_token", "it is not one that an answer gave; ask without it first")
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// When it is no such text.
pub fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, QueryError> {
    if text.len() > TOKEN_BYTES_MAX || !text.len().is_multiple_of(2) {
        return Err(bad());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks_exact(2).map(byte).collect();
    serde_json::from_slice(&bytes.ok_or_else(bad)?).map_err(|_| bad())
}

/// Reads a usage question's token and checks that it belongs to the question.
///
/// # Errors
/// When it is none, or another question's.
pub fn read_for(text: &str, query: u64) -> Result<Token, QueryError> {
    let token: Token = read(text)?;
    // The end of a range may be the hour after the last that can be named.
    if ![token.from, token.to.saturating_sub(1), token.start].into_iter().all(|hour| is_in_bounds(Hour(hour))) {
        return Err(bad());
    }
    if token.query == query {
        return Ok(token);
    }
    Err(QueryError::parameter(
        "page_token",
        "it belongs to another question; only page_size may change between pages",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_only_for_its_own_question() {
        let group = vec![Some("\u{e9}|".to_owned()), None];
        let token = Token { query: 7, from: 1, to: 2, rank: None, start: -3, group };
        let text = write(&token).unwrap();
        assert_eq!(read_for(&text, 7).unwrap(), token);
        assert!(read_for(&text, 8).unwrap_err().to_string().contains("another question"));
        // The longest: three values of 256 bytes of which JSON makes six each.
        let long = Token { group: vec![Some("\u{1}".repeat(256)); 3], ..token.clone() };
        assert_eq!(read_for(&write(&long).unwrap(), 7).unwrap(), long);
        for bad in ["x", "zz", &text[..text.len() - 2], "\u{e9}\u{e9}"] {
            assert!(read_for(bad, 7).is_err(), "{bad:?}");
        }
        for hour in [i32::MIN, i32::MAX, -700_000, 9_100_000] {
            for forged in [
                Token { from: hour, ..token.clone() },
                Token { to: hour, ..token.clone() },
                Token { start: hour, ..token.clone() },
            ] {
                let error = read_for(&write(&forged).unwrap(), 7).unwrap_err().to_string();
                assert!(error.contains("not one that an answer gave"), "{hour}: {error}");
            }
        }
    }
}
