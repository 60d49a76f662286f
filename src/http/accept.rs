//! Which of our formats a request accepts (RFC 9110, 12.5.1): of each, the most specific media range that matches says how much.
//!
//! Parameters but `q` are not looked at: we have one form of each format. A header that accepts none of ours is taken for none.

use std::cmp::Reverse;

use axum::http::{HeaderMap, header};
use mediatype::{MediaType, MediaTypeList};

/// How well a range fits a format: its quality in thousandths, how specific it is, and how early it stands.
type Rank = (u16, u8, Reverse<usize>);

/// Whether CSV is liked better than JSON, which is what is given where nothing is said.
pub fn wants_csv(headers: &HeaderMap) -> bool {
    let values: Vec<_> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let ranges: Vec<MediaType<'_>> = values.iter().flat_map(|value| MediaTypeList::new(value)).flatten().collect();
    rank(&ranges, "text", "csv") > rank(&ranges, "application", "json")
}

/// How much a format is liked; `None` when it is not accepted.
fn rank(ranges: &[MediaType<'_>], kind: &str, format: &str) -> Option<Rank> {
    let matching = ranges.iter().enumerate().filter_map(|(place, range)| {
        let specificity = match (range.ty == kind, range.ty == "*", range.subty == format, range.subty == "*") {
            (true, _, true, _) if range.suffix.is_none() => 2,
            (true, _, _, true) => 1,
            (_, true, _, true) => 0,
            _ => return None,
        };
        Some((specificity, Reverse(place), quality(range)?))
    });
    let (specificity, place, quality) = matching.max()?;
    (quality > 0).then_some((quality, specificity, place))
}

/// `q` in thousandths; `None` when it is none.
fn quality(range: &MediaType<'_>) -> Option<u16> {
    let Some((_, value)) = range.params.iter().find(|(name, _)| *name == "q") else { return Some(1000) };
    let value = value.as_str();
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    let is_short = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths: u16 = format!("{part:0<3}").parse().ok().filter(|_| is_short)?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        wants_csv(&headers)
    }

    #[test]
    fn csv_is_given_to_who_likes_it_better_than_json() {
        for csv in [
            "text/csv",
            "TEXT/CSV",
            "text/csv;q=0.9,application/json;q=0.1",
            "text/*",
            "text/csv; Q=0.001",
            "text/csv;charset=utf-8;q=0.5",
            "text/csv, application/json",
            "text/csv, */*",
            "*/*, text/csv",
            "application/json;q=0, */*;q=0.1",
            "application/json;q=0.2, text/*;q=0.3, */*;q=0.9",
            "text/plain;note=\"a,application/json\", text/csv",
            "text/csv;header=present, text/html",
        ] {
            assert!(asked(&[csv]), "{csv}");
        }
        assert!(asked(&["application/json;q=0.3", "text/csv;q=0.4"]), "several headers are one list");
    }

    #[test]
    fn json_is_given_to_everybody_else() {
        for json in [
            "",
            "*/*",
            "application/json",
            "Application/JSON, text/csv",
            "application/json, text/csv;q=0.5",
            "application/*, text/csv;q=0.999",
            "text/csv;q=0",
            "text/csv;q=0.0, */*",
            "text/csv;q=2",
            "text/csv;q=0.0001",
            "text/csv;q=high",
            "text/csv+zip",
            "*/csv",
            "text/html, image/png",
            "text/*;q=0.5, */*;q=0.8",
            "text/*, text/csv;q=0.1, application/json;q=0.2",
            ",,;",
        ] {
            assert!(!asked(&[json]), "{json}");
        }
        assert!(!asked(&[]));
    }
}
