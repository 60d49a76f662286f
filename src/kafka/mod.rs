//! The worker's ports on a real Kafka, and what else of Tallyman speaks to one: the only room that imports
//! rdkafka.
//!
//! A record's way: [`source`] takes batches off librdkafka's queues ([`batch`]), the processor folds them,
//! [`sink`] publishes what they cause in one transaction. The room moves bytes; it decodes nothing and decides
//! nothing. Next to read: `source`.

mod admin;
mod batch;
mod client;
mod echo;
mod embedded;
mod fetch;
mod follow;
mod log_reader;
mod lookup;
mod offsets;
mod producer;
mod reader;
mod rereads;
mod settings;
mod sink;
mod source;
mod watch;

pub use admin::{
    ClusterInfo, TopicOutcome, TopicProblem, TopicReport, check_topics, cluster_info, create_topics, delete_topics,
};
pub use batch::Batch;
pub use echo::Echo;
pub use embedded::{Embedded, RETAINED_BYTES};
pub use follow::{Followed, TopicFollower};
pub use log_reader::{Drained, drain, follow, read_partitions, read_topic};
pub use offsets::OffsetKeeper;
pub use producer::{Producer, Sent};
pub use rdkafka::consumer::ConsumerGroupMetadata as Membership;
pub use settings::{KafkaSettings, Topics};
pub use sink::KafkaSink;
pub use source::KafkaSource;
pub use watch::ClusterWatch;

use crate::processor::ports::PortError;

/// Why something in this room did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A librdkafka setting that Tallyman's laws need to own.
    #[error("kafka.client: `{key}` cannot be set, {why}; remove it from [kafka.client]")]
    ReservedKey {
        /// The librdkafka name.
        key: String,
        /// What it would break.
        why: &'static str,
    },
    /// librdkafka refused the settings.
    #[error("kafka.client: librdkafka refuses the settings: {0}; its configuration page lists names and values")]
    Settings(String),
    /// The cluster did not do what it was asked.
    #[error(
        "Kafka at {servers}: {what}: {reason}; check kafka.bootstrap_servers, the network and the ACLs, then try again"
    )]
    Cluster {
        /// Bootstrap servers.
        servers: String,
        /// What was asked of it.
        what: String,
        /// What it, or the client, said.
        reason: String,
    },
    /// Some broker is there, and does not answer what Kafka answers.
    #[error(
        "Kafka at {servers} lists its topics, but did not answer {request} within {seconds} s: it is overloaded, or does not \
         know that request. Tallyman needs Apache Kafka 2.5 or later, or a broker with all its requests; the embedded one of \
         `tallyman dev` serves `dev` alone"
    )]
    Unanswered {
        /// Bootstrap servers.
        servers: String,
        /// What was asked of it.
        request: &'static str,
        /// How long it had.
        seconds: u64,
    },
    /// A topic that should exist does not.
    #[error("topic `{0}` does not exist; `tallyman topics create` makes it")]
    NoTopic(String),
    /// Records that were handed to a producer did not arrive.
    #[error("{count} records were not delivered; the last reason: {reason}")]
    Undelivered {
        /// How many.
        count: u64,
        /// Why the last one was not.
        reason: String,
    },
}

impl From<Error> for PortError {
    fn from(error: Error) -> Self {
        match error {
            Error::Cluster { .. } | Error::Unanswered { .. } | Error::Undelivered { .. } => {
                Self::Retriable(error.to_string())
            }
            Error::ReservedKey { .. } | Error::Settings(_) | Error::NoTopic(_) => Self::Fatal(error.to_string()),
        }
    }
}
