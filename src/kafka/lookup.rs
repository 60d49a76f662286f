//! Two questions that a source asks of a consumer: how many partitions there are, and to read one from elsewhere. Next
//! to read: `source`.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;

use super::Error;
use super::batch::StatefulConsumer;
use super::settings::KafkaSettings;
use super::source::{ASK, retriable};
use crate::processor::ports::PortError;

/// How long a seek is tried again while librdkafka is still starting the partition.
const SEEK: Duration = Duration::from_secs(5);

/// How many partitions the usage topic has.
pub(super) fn partition_count(settings: &KafkaSettings, consumer: &StatefulConsumer) -> Result<i32, Error> {
    let topic = &settings.topics.usage;
    let metadata = consumer
        .fetch_metadata(Some(topic), ASK)
        .map_err(|error| settings.cluster_error(format!("topic {topic} cannot be looked up"), &error))?;
    let count =
        metadata.topics().iter().find(|found| found.name() == topic).map_or(0, |found| found.partitions().len());
    match i32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Error::NoTopic(topic.clone())),
    }
}

/// Reads a partition again from `offset`; tried again while librdkafka is still starting it.
pub(super) fn seek(
    consumer: &StatefulConsumer,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<(), PortError> {
    let deadline = Instant::now() + SEEK;
    loop {
        match consumer.seek(topic, partition, Offset::Offset(offset), SEEK) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(retriable("a partition cannot be read again", &error));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
