//! A bare echo of the usage topic: consume, one transaction with one small record of the last event and the offsets, again. It is
//! what `tallyman bench latency` holds the processor against: nobody who publishes exactly once can be faster by much.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{Message as _, error::KafkaError};

use super::Error;
use super::settings::{Isolation, KafkaSettings, told};

/// How long the cluster may take over a step.
const WAIT: Duration = Duration::from_secs(10);
/// Records of one transaction at most.
const RECORDS_MAX: usize = 10_000;
/// How long a poll waits for the first record.
const POLL: Duration = Duration::from_millis(20);

/// The echo, ready to run.
pub struct Echo {
    settings: KafkaSettings,
    consumer: BaseConsumer,
    producer: BaseProducer,
}

impl Echo {
    /// Reads the usage topic from its start, and writes to the decisions topic.
    ///
    /// # Errors
    /// When the settings are refused or the cluster does not answer.
    pub fn new(settings: &KafkaSettings) -> Result<Self, Error> {
        let refused = |error: KafkaError| Error::Settings(told(&error));
        let failed = |error: KafkaError| settings.cluster_error("the echo cannot start", &error);
        let consumer: BaseConsumer =
            settings.consumer("tallyman-echo", Isolation::Committed).create().map_err(refused)?;
        let metadata = consumer.fetch_metadata(Some(&settings.topics.usage), WAIT).map_err(failed)?;
        let mut all = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
            all.add_partition_offset(&settings.topics.usage, partition.id(), Offset::Beginning).map_err(failed)?;
        }
        consumer.assign(&all).map_err(failed)?;
        let id = format!("{}-echo", settings.group_id);
        let producer: BaseProducer = settings.transactional("tallyman-echo", &id).create().map_err(refused)?;
        producer.init_transactions(WAIT).map_err(failed)?;
        Ok(Self { settings: settings.clone(), consumer, producer })
    }

    /// Echoes until `stop` is set.
    ///
    /// # Errors
    /// When a step of a transaction fails.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), Error> {
        while !stop.load(Ordering::Relaxed) {
            self.turn().map_err(|error| self.settings.cluster_error("the echo failed", &error))?;
        }
        Ok(())
    }

    fn turn(&self) -> Result<(), KafkaError> {
        let (mut last, mut offsets, mut count) = (None, std::collections::BTreeMap::new(), 0);
        let mut wait = POLL;
        while count < RECORDS_MAX {
            let Some(polled) = self.consumer.poll(wait) else { break };
            match polled {
                Ok(record) => {
                    offsets.insert(record.partition(), record.offset() + 1);
                    last = record.payload().map(<[u8]>::to_vec);
                    count += 1;
                }
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => return Err(error),
            }
            wait = Duration::ZERO;
        }
        let Some(last) = last else { return Ok(()) };
        self.producer.begin_transaction()?;
        let record = BaseRecord::<[u8], [u8]>::to(&self.settings.topics.decisions).key(b"echo").payload(&last);
        self.producer.send(record).map_err(|(error, _)| error)?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.settings.topics.usage, partition, Offset::Offset(offset))?;
        }
        let membership = self.consumer.group_metadata().expect("a consumer with a group has its metadata");
        self.producer.send_offsets_to_transaction(&list, &membership, WAIT)?;
        let deadline = Instant::now() + WAIT;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(Duration::ZERO);
            std::thread::park_timeout(Duration::from_micros(200));
        }
        self.producer.commit_transaction(WAIT)
    }
}
