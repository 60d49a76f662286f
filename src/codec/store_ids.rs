//! Seen ids in the store: small sorted runs of one bucket, segment and range of ids. A run is a list of entries of fixed length,
//! without a version byte: there are millions, and the key's kind versions both.

use crate::domain::cube::bytes::{Reader, StoredError};
use crate::domain::time::Timestamp;
use crate::domain::usage::dedupe::{IdBucket, IdKey, Seen};

const RUN: u8 = 10;
const FILTER: u8 = 11;

/// Bytes of an entry: an id but for its first byte, which the key's range tells, its instant and fingerprint.
pub const ENTRY: usize = 15 + 7 + 6;
/// The most bits of a range: its number is two bytes.
pub const RANGE_BITS_MAX: u32 = 16;
/// The least bits of a range: its number tells the first byte of its ids.
pub const RANGE_BITS_MIN: u32 = 8;

/// Ids of one bucket that were stored together, in 2^`range_bits` ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdSegment {
    /// Its bucket.
    pub bucket: IdBucket,
    /// Its number in the bucket.
    pub number: u16,
}

/// Key of the run that holds `id` in a segment of that many ranges.
#[must_use]
pub fn run(segment: IdSegment, range_bits: u32, id: IdKey) -> [u8; 10] {
    let range = (id.0 >> (u128::BITS - range_bits)).to_be_bytes();
    let mut key = [0; 10];
    key[..7].copy_from_slice(&runs_of(segment));
    key[7] = range_bits.to_le_bytes()[0];
    key[8..].copy_from_slice(&range[14..]);
    key
}

/// The least key of a segment's runs, a prefix of all of them.
#[must_use]
pub fn runs_of(segment: IdSegment) -> [u8; 7] {
    let mut key = [0; 7];
    key[..5].copy_from_slice(&runs_from(segment.bucket));
    key[5..].copy_from_slice(&segment.number.to_be_bytes());
    key
}

/// The least key of a bucket's runs, a prefix of all of them.
#[must_use]
pub fn runs_from(bucket: IdBucket) -> [u8; 5] {
    from(RUN, bucket)
}

/// The least key of a bucket's filters, a prefix of all of them.
#[must_use]
pub fn filters_from(bucket: IdBucket) -> [u8; 5] {
    from(FILTER, bucket)
}

fn from(kind: u8, bucket: IdBucket) -> [u8; 5] {
    let bucket = bucket.0.to_be_bytes();
    [kind, bucket[0], bucket[1], bucket[2], bucket[3]]
}

/// Key of piece number `piece` of a segment's filter.
#[must_use]
pub fn filter(segment: IdSegment, piece: u16) -> [u8; 9] {
    let mut key = [0; 9];
    key[..5].copy_from_slice(&filters_from(segment.bucket));
    key[5..7].copy_from_slice(&segment.number.to_be_bytes());
    key[7..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// Reads a run's key: its segment, the bits of the segment's ranges, and the first byte of its ids.
///
/// # Errors
/// When the bytes are none.
pub fn read_run(bytes: &[u8]) -> Result<(IdSegment, u32, u8), StoredError> {
    let mut reader = Reader::versioned("key of ids", bytes, RUN)?;
    let segment = segment(&mut reader)?;
    let bits = u32::from(reader.u8()?);
    if !(RANGE_BITS_MIN..=RANGE_BITS_MAX).contains(&bits) {
        return Err(reader.wrong("a range of ids has too few or too many bits"));
    }
    let range = u16::from_be_bytes(reader.array()?);
    reader.end((segment, bits, (range >> (bits - RANGE_BITS_MIN)).to_le_bytes()[0]))
}

/// Reads a filter piece's key: its segment and number.
///
/// # Errors
/// When the bytes are none.
pub fn read_filter(bytes: &[u8]) -> Result<(IdSegment, u16), StoredError> {
    let mut reader = Reader::versioned("key of an id filter", bytes, FILTER)?;
    let segment = segment(&mut reader)?;
    let piece = u16::from_be_bytes(reader.array()?);
    reader.end((segment, piece))
}

fn segment(reader: &mut Reader<'_>) -> Result<IdSegment, StoredError> {
    let bucket = IdBucket(u32::from_be_bytes(reader.array()?));
    Ok(IdSegment { bucket, number: u16::from_be_bytes(reader.array()?) })
}

/// Appends an entry.
pub fn put_entry(out: &mut Vec<u8>, id: IdKey, seen: Seen) {
    out.extend_from_slice(&id.0.to_be_bytes()[1..]);
    // Microseconds in 56 bits: the years up to 4253; an instant before 1970 is as old as 1970 to a window.
    out.extend_from_slice(&seen.at.micros().max(0).to_be_bytes()[1..]);
    out.extend_from_slice(&seen.fingerprint.to_be_bytes()[2..]);
}

/// The entry of `id` in the runs of its range.
#[must_use]
pub fn find_entry(runs: &[u8], id: IdKey) -> Option<Seen> {
    let wanted = &id.0.to_be_bytes()[1..];
    let entry = runs.chunks_exact(ENTRY).find(|entry| &entry[..15] == wanted)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let at = Timestamp::from_micros(number(&entry[15..22]).cast_signed());
    Some(Seen { at, fingerprint: number(&entry[22..]) })
}

/// The ids of a run whose ids begin with the byte `first`.
pub fn ids(run: &[u8], first: u8) -> impl Iterator<Item = IdKey> {
    run.chunks_exact(ENTRY).map(move |entry| {
        let mut id = [first; 16];
        id[1..].copy_from_slice(&entry[..15]);
        IdKey(u128::from_be_bytes(id))
    })
}

/// Several runs of one range as one, in the order of their ids.
#[must_use]
pub fn merged<'a>(runs: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut entries: Vec<&[u8]> = runs.flat_map(|run| run.chunks_exact(ENTRY)).collect();
    entries.sort_unstable();
    entries.concat()
}
