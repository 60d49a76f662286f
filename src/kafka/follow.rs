//! Reads every partition of a topic from its start and goes on with what comes, committed records only: what a gateway's
//! table follows. Brokers that come and go are librdkafka's to find again; a partition that can no longer be read from
//! where it was is an error, and whoever follows starts anew. It belongs to no group and commits nothing.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;

use super::Error;
use super::batch::StatefulConsumer;
use super::client::ConsumerState;
use super::settings::{Isolation, KafkaSettings, told};
use crate::domain::time::Timestamp;
use crate::processor::ports::Record;

/// How long the cluster may take to tell the topic's partitions.
const ASK: Duration = Duration::from_secs(10);

/// What came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// A record; it was handed over.
    Record,
    /// A partition has no more for now.
    End(i32),
    /// Nothing, within the wait.
    Nothing,
}

/// A topic that is followed.
pub struct TopicFollower {
    consumer: StatefulConsumer,
    settings: KafkaSettings,
    topic: String,
    partitions: i32,
}

impl TopicFollower {
    /// Starts at the first record of each partition.
    ///
    /// # Errors
    /// When the cluster does not answer or has no such topic.
    pub fn open(settings: &KafkaSettings, topic: &str) -> Result<Self, Error> {
        let mut config = settings.consumer("tallyman-gateway", Isolation::Committed);
        // Decisions are few and small: the wait ends when one comes, and memory stays bounded (Law 6).
        config.set("fetch.wait.max.ms", "200").set("queued.max.messages.kbytes", "1024");
        let consumer: StatefulConsumer =
            config.create_with_context(ConsumerState::default()).map_err(|error| Error::Settings(told(&error)))?;
        let failed =
            |error: &KafkaError| settings.cluster_error(format!("topic {topic} cannot be followed"), error);
        let metadata = consumer.fetch_metadata(Some(topic), ASK).map_err(|error| failed(&error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.and_then(|found| i32::try_from(found.partitions().len()).ok()).unwrap_or(0);
        if partitions == 0 {
            return Err(Error::NoTopic(topic.into()));
        }
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).map_err(|error| failed(&error))?;
        }
        consumer.assign(&list).map_err(|error| failed(&error))?;
        Ok(Self { consumer, settings: settings.clone(), topic: topic.into(), partitions })
    }

    /// How many partitions the topic has.
    #[must_use]
    pub const fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Waits for what comes next and hands it to `take` if it is a record: a partition's in offset order.
    ///
    /// # Errors
    /// When a partition cannot be read any further.
    pub fn next(&mut self, wait: Duration, take: impl FnOnce(&Record<'_>)) -> Result<Followed, Error> {
        match self.consumer.poll(wait) {
            None => Ok(Followed::Nothing),
            Some(Ok(message)) => {
                take(&Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: Timestamp::from_millis(message.timestamp().to_millis().unwrap_or(-1)),
                    key: message.key(),
                    value: message.payload(),
                });
                Ok(Followed::Record)
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Followed::End(partition)),
            Some(Err(error)) if ends(&error) => {
                let what = format!("topic {} cannot be followed any further", self.topic);
                Err(self.settings.cluster_error(what, &error))
            }
            Some(Err(error)) => {
                self.consumer.context().consumer_error(&error);
                Ok(Followed::Nothing)
            }
        }
    }
}

/// Whether librdkafka stops reading after this error; after the others it goes on by itself.
fn ends(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    match error {
        KafkaError::MessageConsumption(code) => matches!(
            code,
            Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::TopicAuthorizationFailed
        ),
        KafkaError::MessageConsumptionFatal(_) => true,
        _ => false,
    }
}
