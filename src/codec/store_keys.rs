//! The store's keys. Each opens with a kind byte, which is its version too and is never used twice; the rest sorts
//! as the questions need it: a row by view, org and bucket, an id by bucket, terms by org.
//!
//! An org's bytes end with a 0, which no legal id holds, so that one org's keys are one range.

use crate::domain::bytes::{Reader, StoredError};
use crate::domain::dedupe::{IdBucket, IdKey};
use crate::domain::fold::{ContentKey, RowKey};
use crate::domain::scope::Scope;
use crate::domain::view::DIMENSIONS_MAX;

const ROW: u8 = 1;
const CONTENT: u8 = 2;
const ID: u8 = 3;
const TERMS: u8 = 4;
const LEVEL: u8 = 5;
const META: u8 = 6;
const RATE: u8 = 7;

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

/// Appends a row's key.
///
/// # Panics
/// When a value is longer than 65,535 bytes: the codec lets none over 256 through.
pub fn put_row(out: &mut Vec<u8>, key: &RowKey<'_>) {
    put_rows_from(out, key.view, key.org, key.bucket);
    for value in &key.values[..usize::from(key.dimensions)] {
        // A value has 1..256 bytes, so length 0 is free to mean "absent".
        let value = value.unwrap_or_default();
        let length = u16::try_from(value.len()).expect("a dimension's value has at most 256 bytes");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
}

/// Appends the least key of an org's rows from `bucket` on in one view.
pub fn put_rows_from(out: &mut Vec<u8>, view: u8, org: &str, bucket: i32) {
    out.extend_from_slice(&[ROW, view]);
    put_org(out, org);
    out.extend_from_slice(&sortable(bucket));
}

/// Appends the least key beyond all rows of `org` in one view; beyond nothing when there is no org.
pub fn put_rows_after(out: &mut Vec<u8>, view: u8, org: Option<&str>) {
    out.extend_from_slice(&[ROW, view]);
    after_org(out, org);
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

/// Reads a row's key.
///
/// # Errors
/// When the bytes are none.
pub fn read_row(bytes: &[u8]) -> Result<RowKey<'_>, StoredError> {
    let mut reader = Reader::versioned("row key", bytes, ROW)?;
    let view = reader.u8()?;
    let org = org(&mut reader)?;
    let bucket = u32::from_be_bytes(reader.array()?).cast_signed() ^ i32::MIN;
    let mut key = RowKey { view, org, bucket, values: [None; DIMENSIONS_MAX], dimensions: 0 };
    while !reader.rest().is_empty() {
        let length = usize::from(u16::from_be_bytes(reader.array()?));
        let value = reader.bytes(length)?;
        let place = key.values.get_mut(usize::from(key.dimensions)).ok_or(reader.wrong("too many values"))?;
        *place = if length == 0 { None } else { Some(text(&reader, value)?) };
        key.dimensions += 1;
    }
    reader.end(key)
}

/// Key of an org's recent rate; it stands behind all rows in their table.
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

/// An id's key.
#[must_use]
pub fn id(bucket: IdBucket, id: IdKey) -> [u8; 21] {
    let mut key = [0; 21];
    key[..5].copy_from_slice(&ids_from(bucket));
    key[5..].copy_from_slice(&id.0.to_be_bytes());
    key
}

/// The least key of a bucket's ids, a prefix of all of them.
#[must_use]
pub fn ids_from(bucket: IdBucket) -> [u8; 5] {
    let bucket = bucket.0.to_be_bytes();
    [ID, bucket[0], bucket[1], bucket[2], bucket[3]]
}

/// Reads an id's key.
///
/// # Errors
/// When the bytes are none.
pub fn read_id(bytes: &[u8]) -> Result<(IdBucket, IdKey), StoredError> {
    let mut reader = Reader::versioned("id key", bytes, ID)?;
    let bucket = IdBucket(u32::from_be_bytes(reader.array()?));
    let id = IdKey(u128::from_be_bytes(reader.array()?));
    reader.end((bucket, id))
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

    fn row(view: u8, org: &str, bucket: i32, values: &[Option<&str>]) -> Vec<u8> {
        let mut key = RowKey { view, org, bucket, values: [None; DIMENSIONS_MAX], dimensions: 0 };
        for value in values {
            let place = usize::from(key.dimensions);
            // Leaked so that a key borrowing it can be built in one line of a test.
            key.values[place] = value.map(|value| &*Box::leak(value.to_owned().into_boxed_str()));
            key.dimensions += 1;
        }
        let mut out = Vec::new();
        put_row(&mut out, &key);
        assert_eq!(read_row(&out), Ok(key));
        out
    }

    proptest! {
        #[test]
        fn rows_sort_by_view_org_and_bucket(
            a in (0..3_u8, "[a-b.]{1,3}", any::<i32>()),
            b in (0..3_u8, "[a-b.]{1,3}", any::<i32>()),
        ) {
            prop_assume!(a != b);
            let (left, right) = (row(a.0, &a.1, a.2, &[Some("x"), None]), row(b.0, &b.1, b.2, &[None]));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        }

        #[test]
        fn content_ids_and_terms_are_read_back(org in "[A-Za-z0-9._:@-]{1,9}", id in ".{1,20}", number: u128) {
            let key = ContentKey { org: &org, is_content: number % 2 == 0, id: &id };
            let mut out = Vec::new();
            put_content(&mut out, &key);
            prop_assert_eq!(read_content(&out)?, key);
            let bucket = IdBucket(u32::MAX / 3);
            prop_assert_eq!(read_id(&super::id(bucket, IdKey(number)))?, (bucket, IdKey(number)));
            out.clear();
            put_terms(&mut out, &org, 3, 77);
            prop_assert_eq!(read_terms(&out)?, (org.as_str(), 3, 77));
        }

        #[test]
        fn any_bytes_are_a_key_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for kind in [ROW, CONTENT, ID, TERMS] {
                let bytes = [&[kind], bytes.as_slice()].concat();
                let _ = (read_row(&bytes), read_content(&bytes), read_id(&bytes), read_terms(&bytes));
            }
        }
    }
}
