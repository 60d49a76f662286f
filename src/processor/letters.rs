//! What becomes of a record that is not folded: the dead letter or the forward that carries it on (Law 7).

use sha2::{Digest as _, Sha256};

use super::intake::FIRST_TIMESTAMP;
use super::ports::{Header, Output, OutputTopic, Record};
use crate::domain::usage::reject::{Reason, Reject};

/// The most bytes of a value in a dead letter; the rest is cut and told by length and hash. The dead-letter topic
/// takes 2 MiB: room for a key and headers of half a MiB.
pub const DEAD_LETTER_VALUE_BYTES_MAX: usize = 3 << 19;

/// The most bytes of an original key, and of all original headers, in a dead letter.
const EXTRAS_BYTES_MAX: usize = 64 << 10;
/// The most bytes of a detail, which may quote the record.
const DETAIL_BYTES_MAX: usize = 1 << 10;
/// The most bytes of a record that is forwarded: below the broker's default limit of a batch, with what is added.
const FORWARD_BYTES_MAX: usize = 1_000_000;

/// The dead letter of a record of `topic` (its name): the original key, bytes and headers, its place and the reason.
/// It always fits its topic: what is too large is cut or left out, and told.
#[must_use]
pub fn dead_letter(topic: &str, record: &Record<'_>, headers: Vec<Header>, reject: &Reject) -> Output {
    let mut headers = headers;
    let dropped = if bytes_of(&headers) > EXTRAS_BYTES_MAX { std::mem::take(&mut headers).len() } else { 0 };
    let mut tell = |name: &str, value: String| headers.push((format!("tallyman-{name}"), value.into_bytes()));
    tell("reason", reject.reason.as_str().to_owned());
    tell("detail", reject.detail[..reject.detail.floor_char_boundary(DETAIL_BYTES_MAX)].to_owned());
    tell("topic", topic.to_owned());
    tell("partition", record.partition.to_string());
    tell("offset", record.offset.to_string());
    tell("timestamp", record.timestamp.micros().to_string());
    if dropped > 0 {
        tell("headers-dropped", dropped.to_string());
    }
    let mut value = record.value;
    if let Some(whole) = value.filter(|value| value.len() > DEAD_LETTER_VALUE_BYTES_MAX) {
        tell("truncated", "true".to_owned());
        tell("length", whole.len().to_string());
        tell("sha256", Sha256::digest(whole).iter().map(|byte| format!("{byte:02x}")).collect());
        value = Some(&whole[..DEAD_LETTER_VALUE_BYTES_MAX]);
    }
    let mut key = record.key;
    if let Some(whole) = key.filter(|key| key.len() > EXTRAS_BYTES_MAX) {
        tell("key-length", whole.len().to_string());
        key = Some(&whole[..EXTRAS_BYTES_MAX]);
    }
    Output {
        topic: OutputTopic::DeadLetters,
        partition: record.partition,
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers,
    }
}

fn bytes_of(headers: &[Header]) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// The record, keyed by its org, for the partition in which it belongs, marked with where and when it first stood.
///
/// # Errors
/// When it is too large to be written again: then it is a dead letter.
pub fn forward(
    topic: OutputTopic,
    topic_name: &str,
    record: &Record<'_>,
    mut headers: Vec<Header>,
    home: i32,
    org: &str,
) -> Result<Output, Reject> {
    let mut tell = |name: &str, value: String| headers.push((name.to_owned(), value.into_bytes()));
    tell(FIRST_TIMESTAMP, record.timestamp.micros().to_string());
    tell("tallyman-topic", topic_name.to_owned());
    tell("tallyman-partition", record.partition.to_string());
    tell("tallyman-offset", record.offset.to_string());
    let bytes = org.len() + record.value.map_or(0, <[u8]>::len) + bytes_of(&headers);
    if bytes > FORWARD_BYTES_MAX {
        let detail =
            format!("org {org} belongs to partition {home}, and {bytes} bytes are too many to be sent on");
        return Err(Reject::new(Reason::Misrouted, detail));
    }
    Ok(Output {
        topic,
        partition: home,
        key: Some(org.as_bytes().to_vec()),
        value: record.value.map(<[u8]>::to_vec),
        headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn record<'a>(key: &'a [u8], value: &'a [u8]) -> Record<'a> {
        Record {
            partition: 1,
            offset: 2,
            timestamp: Timestamp::from_micros(3),
            key: Some(key),
            value: Some(value),
        }
    }

    #[test]
    fn a_dead_letter_fits_its_topic_whatever_the_record_holds() {
        let large = vec![b'x'; 5 << 20];
        let headers = vec![("huge".to_owned(), large.clone())];
        let reject = Reject::new(Reason::BadField, "\u{e9}".repeat(1 << 20));
        let letter = dead_letter("usage", &record(&large, &large), headers, &reject);
        let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        assert!(bytes(&letter.key) + bytes(&letter.value) + bytes_of(&letter.headers) < 2 << 20);
        for told in ["tallyman-truncated", "tallyman-length", "tallyman-sha256", "tallyman-headers-dropped"] {
            assert!(letter.headers.iter().any(|(name, _)| name == told), "{told}");
        }
    }

    #[test]
    fn a_record_too_large_to_be_sent_on_is_told_as_misrouted() {
        let large = vec![b'x'; FORWARD_BYTES_MAX];
        let sent = forward(OutputTopic::Usage, "usage", &record(b"k", &large), Vec::new(), 0, "acme");
        assert_eq!(sent.unwrap_err().reason, Reason::Misrouted);
        assert!(forward(OutputTopic::Usage, "usage", &record(b"k", b"{}"), Vec::new(), 0, "acme").is_ok());
    }
}
