//! The store's keys. Each opens with a kind byte, which is its version too and is never used twice; the rest sorts
//! as the questions need it: blocks by day, a total by org and hour, an id by bucket, terms by org.
//!
//! An org's bytes end with a 0, which no legal id holds, so that one org's keys are one range.

use crate::domain::cube::bytes::{Reader, StoredError};
use crate::domain::cube::fold::ContentKey;
use crate::domain::limits::scope::Scope;
use crate::domain::time::{Day, Hour};

// 1 was a row of a view.
const CONTENT: u8 = 2;
// 3 was an id, 10 and 11 are in `store_ids`.
const TERMS: u8 = 4;
const LEVEL: u8 = 5;
const META: u8 = 6;
const RATE: u8 = 7;
const BLOCKS: u8 = 8;
const TOTAL: u8 = 9;

/// Key of the fold's settings.
pub const SETTINGS: [u8; 2] = [META, 1];
/// Key of the task's position and what belongs to it.
pub const TASK: [u8; 2] = [META, 2];
/// Key of the version of the time-zone database that periods were last made with. No row follows from it.
pub const ZONES: [u8; 2] = [META, 3];

fn put_org(out: &mut Vec<u8>, org: &str) {
    out.extend_from_slice(org.as_bytes());
    out.push(0);
}

/// A signed number as bytes that sort like it.
const fn sortable(number: i32) -> [u8; 4] {
    (number ^ i32::MIN).cast_unsigned().to_be_bytes()
}

/// Key of the blocks of an org and day. The day comes first: what is written now stands apart from the days that are over.
#[must_use]
pub fn blocks(org: &str, day: Day) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + org.len());
    key.push(BLOCKS);
    key.extend_from_slice(&sortable(day.0));
    key.extend_from_slice(org.as_bytes());
    key
}

/// Appends the key of an org's total of an hour, which is also the least key of its totals from that hour on.
pub fn put_total(out: &mut Vec<u8>, org: &str, hour: Hour) {
    out.push(TOTAL);
    put_org(out, org);
    out.extend_from_slice(&sortable(hour.0));
}

/// Appends the least key beyond all totals of `org`; beyond nothing when there is no org.
pub fn put_totals_after(out: &mut Vec<u8>, org: Option<&str>) {
    out.push(TOTAL);
    after_org(out, org);
}

/// Reads a total's key.
///
/// # Errors
/// When the bytes are none.
pub fn read_total(bytes: &[u8]) -> Result<(&str, Hour), StoredError> {
    let mut reader = Reader::versioned("total key", bytes, TOTAL)?;
    let org = org(&mut reader)?;
    let hour = Hour(u32::from_be_bytes(reader.array()?).cast_signed() ^ i32::MIN);
    reader.end((org, hour))
}

fn after_org(out: &mut Vec<u8>, org: Option<&str>) {
    if let Some(org) = org {
        out.extend_from_slice(org.as_bytes());
        out.push(1);
    }
}

fn text<'a>(reader: &Reader<'a>, bytes: &'a [u8]) -> Result<&'a str, StoredError> {
    std::str::from_utf8(bytes).map_err(|_| reader.wrong("a text is no UTF-8"))
}

fn org<'a>(reader: &mut Reader<'a>) -> Result<&'a str, StoredError> {
    let end = reader.rest().iter().position(|byte| *byte == 0).ok_or(reader.wrong("the org does not end"))?;
    let bytes = reader.bytes(end)?;
    reader.u8()?;
    text(reader, bytes)
}

/// Key of an org's recent rate; it stands before all totals in their table.
#[must_use]
pub fn rate(org: &str) -> Vec<u8> {
    [&[RATE], org.as_bytes()].concat()
}

/// Appends a content row's key.
pub fn put_content(out: &mut Vec<u8>, key: &ContentKey<'_>) {
    put_contents_from(out, key.org);
    out.push(u8::from(key.is_content));
    out.extend_from_slice(key.id.as_bytes());
}

/// Appends the least key of an org's content rows, a prefix of all of them.
pub fn put_contents_from(out: &mut Vec<u8>, org: &str) {
    out.push(CONTENT);
    put_org(out, org);
}

/// Reads a content row's key.
///
/// # Errors
/// When the bytes are none.
pub fn read_content(bytes: &[u8]) -> Result<ContentKey<'_>, StoredError> {
    let mut reader = Reader::versioned("content key", bytes, CONTENT)?;
    let org = org(&mut reader)?;
    let is_content = reader.bool()?;
    Ok(ContentKey { org, is_content, id: text(&reader, reader.rest())? })
}

/// Appends the key of the terms record of type number `kind` at `offset` of the policies partition.
pub fn put_terms(out: &mut Vec<u8>, org: &str, kind: u8, offset: i64) {
    put_terms_from(out, org);
    out.push(kind);
    out.extend_from_slice(&offset.cast_unsigned().to_be_bytes());
}

/// Appends the least key of an org's terms, a prefix of all of them.
pub fn put_terms_from(out: &mut Vec<u8>, org: &str) {
    out.push(TERMS);
    put_org(out, org);
}

/// Appends the least key beyond all terms of `org`; beyond nothing when there is no org.
pub fn put_terms_after(out: &mut Vec<u8>, org: Option<&str>) {
    out.push(TERMS);
    after_org(out, org);
}

/// Reads a terms record's key: its org, type number and offset.
///
/// # Errors
/// When the bytes are none.
pub fn read_terms(bytes: &[u8]) -> Result<(&str, u8, i64), StoredError> {
    let mut reader = Reader::versioned("terms key", bytes, TERMS)?;
    let org = org(&mut reader)?;
    let kind = reader.u8()?;
    let offset = u64::from_be_bytes(reader.array()?).cast_signed();
    reader.end((org, kind, offset))
}

/// Key of the decision whose record key is `decision_key`.
#[must_use]
pub fn level(decision_key: &str) -> Vec<u8> {
    [&[LEVEL], decision_key.as_bytes()].concat()
}

/// Key of an org's own decision, and the prefix of those of its budgets.
#[must_use]
pub fn levels_of(org: &str) -> (Vec<u8>, Vec<u8>) {
    let own = level(&Scope::org(org).key());
    let mut budgets = own.clone();
    budgets.push(b'|');
    (own, budgets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn totals_sort_by_org_and_hour(
            a in ("[a-b.]{1,3}", any::<i32>()),
            b in ("[a-b.]{1,3}", any::<i32>()),
        ) {
            prop_assume!(a != b);
            let key = |(org, hour): &(String, i32)| {
                let mut out = Vec::new();
                put_total(&mut out, org, Hour(*hour));
                assert_eq!(read_total(&out), Ok((org.as_str(), Hour(*hour))));
                out
            };
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }

        #[test]
        fn blocks_sort_by_day_and_org(
            a in (any::<i32>(), "[a-b.]{1,3}"),
            b in (any::<i32>(), "[a-b.]{1,3}"),
        ) {
            prop_assert_eq!(blocks(&a.1, Day(a.0)).cmp(&blocks(&b.1, Day(b.0))), a.cmp(&b));
        }

        #[test]
        fn content_and_terms_are_read_back(org in "[A-Za-z0-9._:@-]{1,9}", id in ".{1,20}", number: u128) {
            let key = ContentKey { org: &org, is_content: number % 2 == 0, id: &id };
            let mut out = Vec::new();
            put_content(&mut out, &key);
            prop_assert_eq!(read_content(&out)?, key);
            out.clear();
            put_terms(&mut out, &org, 3, 77);
            prop_assert_eq!(read_terms(&out)?, (org.as_str(), 3, 77));
        }

        #[test]
        fn any_bytes_are_a_key_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for kind in [TOTAL, CONTENT, TERMS] {
                let bytes = [&[kind], bytes.as_slice()].concat();
                let _ = (read_total(&bytes), read_content(&bytes), read_terms(&bytes));
            }
        }
    }
}
