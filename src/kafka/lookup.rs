//! How many partitions the usage topic has. Next to read: `source`.

use rdkafka::consumer::Consumer;

use super::Error;
use super::batch::StatefulConsumer;
use super::settings::KafkaSettings;
use super::source::ASK;

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
