//! What becomes of a record that is not folded: the dead letter or the forward that carries it on (Law 7).

use sha2::{Digest as _, Sha256};

use super::intake::FIRST_TIMESTAMP;
use super::ports::{Header, Output, OutputTopic, Record};
use crate::domain::reject::Reject;

/// The most bytes of a value in a dead letter; the rest is cut and told by length and hash. The dead-letter topic
/// takes 2 MiB: room for a key and headers of half a MiB.
pub const DEAD_LETTER_VALUE_BYTES_MAX: usize = 3 << 19;

/// The dead letter of a record of `topic` (its name): the original key, bytes and headers, its place and the reason.
#[must_use]
pub fn dead_letter(topic: &str, record: &Record<'_>, headers: Vec<Header>, reject: &Reject) -> Output {
    let mut headers = headers;
    let mut tell = |name: &str, value: String| headers.push((format!("tallyman-{name}"), value.into_bytes()));
    tell("reason", reject.reason.as_str().to_owned());
    tell("detail", reject.detail.clone());
    tell("topic", topic.to_owned());
    tell("partition", record.partition.to_string());
    tell("offset", record.offset.to_string());
    tell("timestamp", record.timestamp.micros().to_string());
    let mut value = record.value;
    if let Some(whole) = value.filter(|value| value.len() > DEAD_LETTER_VALUE_BYTES_MAX) {
        tell("truncated", "true".to_owned());
        tell("length", whole.len().to_string());
        tell("sha256", Sha256::digest(whole).iter().map(|byte| format!("{byte:02x}")).collect());
        value = Some(&whole[..DEAD_LETTER_VALUE_BYTES_MAX]);
    }
    Output {
        topic: OutputTopic::DeadLetters,
        partition: record.partition,
        key: record.key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers,
    }
}

/// The record, keyed by its org, for the partition in which it belongs, marked with where and when it first stood.
#[must_use]
pub fn forward(
    topic: OutputTopic,
    topic_name: &str,
    record: &Record<'_>,
    mut headers: Vec<Header>,
    home: i32,
    org: &str,
) -> Output {
    let mut tell = |name: &str, value: String| headers.push((name.to_owned(), value.into_bytes()));
    tell(FIRST_TIMESTAMP, record.timestamp.micros().to_string());
    tell("tallyman-topic", topic_name.to_owned());
    tell("tallyman-partition", record.partition.to_string());
    tell("tallyman-offset", record.offset.to_string());
    Output {
        topic,
        partition: home,
        key: Some(org.as_bytes().to_vec()),
        value: record.value.map(<[u8]>::to_vec),
        headers,
    }
}
