//! Two questions to the cluster: how many partitions the usage topic has, and what is committed of them. Next to read: `source`.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::Error;
use super::batch::StatefulConsumer;
use super::offsets::OffsetKeeper;
use super::settings::{KafkaSettings, told};
use super::source::ASK;
use crate::processor::ports::{Committed, PortError};

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

/// What the group has committed of each of these partitions of `topic`, as `consumer` sees it within `wait`.
pub(super) fn committed_offsets(
    keeper: &OffsetKeeper,
    consumer: &StatefulConsumer,
    topic: &str,
    partitions: &[i32],
    wait: Duration,
) -> Result<Vec<Option<Committed>>, PortError> {
    if let Some(kept) = keeper.kept(partitions) {
        return Ok(kept);
    }
    let mut list = TopicPartitionList::new();
    for &partition in partitions {
        list.add_partition(topic, partition);
    }
    let found = consumer
        .committed_offsets(list, wait)
        .map_err(|error| retriable("the committed offsets cannot be read", &error))?;
    partitions
        .iter()
        .map(|&partition| {
            let element = found.find_partition(topic, partition).ok_or_else(|| {
                PortError::Retriable(format!("no committed offset of partition {partition} was told"))
            })?;
            element.error().map_err(|error| retriable("a committed offset cannot be read", &error))?;
            Ok(match element.offset() {
                Offset::Offset(offset) => Some(Committed { offset, metadata: element.metadata().to_owned() }),
                _ => None,
            })
        })
        .collect()
}

pub(super) fn retriable(what: &str, error: &KafkaError) -> PortError {
    PortError::Retriable(format!("{what}: {}", told(error)))
}
