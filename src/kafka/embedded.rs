//! librdkafka's mock broker, in process but on a real port: what `tallyman dev` runs on. It serves groups,
//! producers and consumers; it keeps transactional offsets in no log, takes every transaction for committed at
//! once, knows no topic settings, and forgets what is older than 5 MiB a partition. So it proves nothing: tests of
//! guarantees run on a real broker.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::settings::KafkaSettings;
use super::{Error, settings::told};

/// Bytes of a partition that the embedded broker keeps.
pub const RETAINED_BYTES: usize = 5 * 1024 * 1024;

/// A broker in this process; gone, with all it holds, when dropped.
pub struct Embedded {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Embedded {
    /// A broker on a free loopback port, with all topics of `settings` in `settings.partitions` partitions.
    ///
    /// # Errors
    /// When no port or no topic can be had.
    pub fn start(settings: &KafkaSettings) -> Result<Self, Error> {
        let refused = |error| Error::Cluster {
            servers: "in this process".into(),
            what: "the embedded broker cannot start".into(),
            reason: told(&error),
        };
        let cluster = MockCluster::new(1).map_err(refused)?;
        for topic in settings.topics.all() {
            cluster.create_topic(topic, settings.partitions, 1).map_err(refused)?;
        }
        Ok(Self { cluster })
    }

    /// `host:port` for clients, of this process or of others.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}
