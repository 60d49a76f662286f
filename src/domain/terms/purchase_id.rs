//! The ids of purchases: a grant or a decline answers a purchase by its id.

use crate::domain::time::Timestamp;

/// The longest part of an org's id that stands in a purchase's: with the rest it must fit into a grant's id.
const ORG_BYTES_MAX: usize = 80;

/// The id of a purchase, which is that of the grant that answers it: org, start of the period in seconds since 1970,
/// ordinal. Of an org with a long id the first bytes and a number made of all of them.
#[must_use]
pub fn purchase_id(org: &str, period_start: Timestamp, ordinal: i32) -> String {
    let second = period_start.micros().div_euclid(1_000_000);
    if org.len() <= ORG_BYTES_MAX {
        return format!("{org}:{second}:{ordinal}");
    }
    // FNV-1a: the same on every machine and in every version.
    let hash = org.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{}@{hash:016x}:{second}:{ordinal}", &org[..ORG_BYTES_MAX])
}

/// Whether a purchase of the org can have that id.
#[must_use]
pub fn is_id_of(org: &str, id: &str) -> bool {
    let mut parts = id.rsplitn(3, ':');
    let (ordinal, second) = (parts.next().map(str::parse), parts.next().map(str::parse::<i64>));
    let (Some(Ok(ordinal)), Some(Ok(second))) = (ordinal, second) else { return false };
    purchase_id(org, Timestamp::from_micros(second.saturating_mul(1_000_000)), ordinal) == id
}
