//! What this room needs to know to reach a cluster, and librdkafka's configuration made of it. Secrets pass
//! through to librdkafka and appear in no message. Next to read: `client`.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use super::Error;
use crate::processor::ports::OutputTopic;

/// The greatest record that a producer of Tallyman's sends: twice the broker's own default and some, so that what
/// could be read can be forwarded and dead-lettered with its headers.
const MESSAGE_BYTES_MAX: &str = "4194304";

/// Settings of librdkafka that belong to Tallyman, and what another value would break.
const RESERVED: &[(&str, &str)] = &[
    ("acks", "outputs must be acknowledged by all replicas"),
    ("auto.offset.reset", "a log that has shrunk must halt the task, not skip records"),
    ("bootstrap.servers", "it is kafka.bootstrap_servers"),
    ("client.id", "members are told apart, and reached, by the one that Tallyman sets"),
    ("delivery.report.only.error", "a transaction counts on it"),
    ("enable.auto.commit", "offsets are committed in the transaction of what they caused"),
    ("enable.auto.offset.store", "offsets are committed in the transaction of what they caused"),
    ("enable.idempotence", "it must stay on"),
    ("enable.partition.eof", "readers to a partition's end count on it"),
    ("group.id", "it is kafka.group_id"),
    ("group.instance.id", "the workers of one process would take each other's place"),
    ("group.protocol", "partitions are handed over by the classic cooperative protocol"),
    ("isolation.level", "aborted transactions must stay unseen"),
    ("metadata.broker.list", "it is kafka.bootstrap_servers"),
    ("offset.store.method", "offsets are committed in the transaction of what they caused"),
    ("partition.assignment.strategy", "partitions are handed over by cooperative-sticky"),
    ("partitioner", "an org's partition is murmur2 of its id, as the Java client does it"),
    ("request.required.acks", "outputs must be acknowledged by all replicas"),
    ("statistics.interval.ms", "lag is told from librdkafka's statistics"),
    ("transactional.id", "each worker has its own"),
];

/// The topics' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Usage, in.
    pub usage: String,
    /// Terms, in.
    pub policies: String,
    /// Decisions, out.
    pub decisions: String,
    /// Alerts, out.
    pub alerts: String,
    /// Purchase requests, out.
    pub purchases: String,
    /// Dead letters, out.
    pub dead_letters: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            usage: "credit.usage".into(),
            policies: "credit.policies".into(),
            decisions: "credit.decisions".into(),
            alerts: "credit.alerts".into(),
            purchases: "credit.purchases".into(),
            dead_letters: "credit.dead-letters".into(),
        }
    }
}

impl Topics {
    /// The name of a topic that a worker writes.
    #[must_use]
    pub fn of(&self, topic: OutputTopic) -> &str {
        match topic {
            OutputTopic::Decisions => &self.decisions,
            OutputTopic::Alerts => &self.alerts,
            OutputTopic::Purchases => &self.purchases,
            OutputTopic::DeadLetters => &self.dead_letters,
            OutputTopic::Usage => &self.usage,
            OutputTopic::Policies => &self.policies,
        }
    }

    /// All six names, in CONTRACT.md's order.
    #[must_use]
    pub fn all(&self) -> [&str; 6] {
        [&self.usage, &self.policies, &self.decisions, &self.alerts, &self.purchases, &self.dead_letters]
    }
}

/// How to reach the cluster and what is where in it.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, comma separated.
    pub bootstrap_servers: String,
    /// The consumer group of all instances.
    pub group_id: String,
    /// librdkafka's own settings by its own names, TLS and SASL among them. Holds secrets.
    pub client: BTreeMap<String, String>,
    /// The topics' names.
    pub topics: Topics,
    /// Partitions of a topic that is created.
    pub partitions: i32,
    /// Replicas of a topic that is created.
    pub replication_factor: i32,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap_servers: "127.0.0.1:9092".into(),
            group_id: "tallyman".into(),
            client: BTreeMap::new(),
            topics: Topics::default(),
            partitions: 12,
            replication_factor: 3,
        }
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client: BTreeMap<_, _> = self.client.iter().map(|(key, value)| (key, redacted(key, value))).collect();
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_id", &self.group_id)
            .field("client", &client)
            .field("topics", &self.topics)
            .field("partitions", &self.partitions)
            .field("replication_factor", &self.replication_factor)
            .finish()
    }
}

/// `value`, or a mask when `key` names a secret.
fn redacted<'a>(key: &str, value: &'a str) -> &'a str {
    if is_secret(key) { "***" } else { value }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "secret", "key", "token", "jaas", "sasl.oauthbearer.config"].iter().any(|part| key.contains(part))
}

impl KafkaSettings {
    /// Checks the librdkafka settings: none that the laws need to own, all known to librdkafka with values it
    /// takes.
    ///
    /// # Errors
    /// [`Error::ReservedKey`] for the first reserved one, [`Error::Settings`] for what librdkafka refuses.
    pub fn check(&self) -> Result<(), Error> {
        for (key, why) in RESERVED {
            if self.client.contains_key(*key) {
                return Err(Error::ReservedKey { key: (*key).into(), why });
            }
        }
        self.base("check").create_native_config().map(drop).map_err(|error| Error::Settings(told(&error)))
    }

    /// What every client has.
    fn base(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        let debug = self.client.contains_key("debug");
        config.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Warning });
        for (key, value) in &self.client {
            config.set(key, value);
        }
        // A broker that is back is found again within a second.
        self.unless_given(&mut config, &[("reconnect.backoff.ms", "50"), ("reconnect.backoff.max.ms", "1000")]);
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", client_id);
        config
    }

    /// Sets what the user has not.
    fn unless_given(&self, config: &mut ClientConfig, defaults: &[(&str, &str)]) {
        for (key, value) in defaults {
            if !self.client.contains_key(*key) {
                config.set(*key, *value);
            }
        }
    }

    /// A plain client: metadata and administration.
    pub(super) fn plain(&self, client_id: &str) -> ClientConfig {
        self.base(client_id)
    }

    /// A consumer. Queues are small enough to bound memory (Law 6) and back-off is short enough not to add to
    /// latency.
    pub(super) fn consumer(&self, client_id: &str, isolation: Isolation) -> ClientConfig {
        let mut config = self.base(client_id);
        self.unless_given(
            &mut config,
            &[
                ("fetch.queue.backoff.ms", "5"),
                ("fetch.wait.max.ms", "50"),
                ("fetch.error.backoff.ms", "50"),
                ("queued.max.messages.kbytes", "8192"),
                ("queued.min.messages", "40000"),
                ("session.timeout.ms", "10000"),
                // How soon a member hears that the group moves partitions.
                ("heartbeat.interval.ms", "500"),
                ("check.crcs", "true"),
            ],
        );
        config
            .set("group.id", &self.group_id)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Law 8: a log that no longer holds the position is an error to tell, never a reason to jump.
            .set("auto.offset.reset", "error")
            // Transaction markers stand at a log's end: only this tells that no record does.
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation.name());
        config
    }

    /// A producer: idempotent, acknowledged by all replicas, partitions as the Java client chooses them.
    pub(super) fn producer(&self, client_id: &str) -> ClientConfig {
        let mut config = self.base(client_id);
        self.unless_given(
            &mut config,
            &[
                ("compression.type", "lz4"),
                ("message.max.bytes", MESSAGE_BYTES_MAX),
                ("retry.backoff.ms", "2"),
                ("retry.backoff.max.ms", "200"),
            ],
        );
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            // What was delivered needs no report: the commit waits for all of it, and failures are still told.
            .set("delivery.report.only.error", "true");
        config
    }

    /// A worker's producer of transactions.
    pub(super) fn transactional(&self, client_id: &str, transactional_id: &str) -> ClientConfig {
        let mut config = self.producer(client_id);
        self.unless_given(&mut config, &[("linger.ms", "0"), ("transaction.timeout.ms", "10000")]);
        config.set("transactional.id", transactional_id);
        config
    }

    /// An error of the cluster, told with what was asked of it.
    pub(super) fn cluster_error(&self, what: impl Into<String>, error: &KafkaError) -> Error {
        Error::Cluster { servers: self.bootstrap_servers.clone(), what: what.into(), reason: told(error) }
    }
}

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Committed ones only.
    Committed,
    /// All, also of open and aborted transactions.
    Uncommitted,
}

impl Isolation {
    fn name(self) -> &'static str {
        match self {
            Self::Committed => "read_committed",
            Self::Uncommitted => "read_uncommitted",
        }
    }
}

/// What an error says, without a secret's value: librdkafka repeats a refused value in its text.
pub(super) fn told(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, key, _) if is_secret(key) => {
            format!("the value of `{key}` is not accepted")
        }
        KafkaError::ClientConfig(_, reason, key, _) => format!("{reason} (`{key}`)"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> KafkaSettings {
        KafkaSettings { client: BTreeMap::from([(key.into(), value.into())]), ..KafkaSettings::default() }
    }

    #[test]
    fn every_setting_that_would_break_a_law_is_refused_by_name() {
        for (key, _) in RESERVED {
            let error = with(key, "x").check().expect_err(key).to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }

    #[test]
    fn settings_of_librdkafka_pass_and_unknown_ones_are_named() {
        assert!(with("security.protocol", "sasl_ssl").check().is_ok());
        assert!(with("fetch.wait.max.ms", "20").check().is_ok());
        let error = with("no.such.setting", "x").check().expect_err("unknown").to_string();
        assert!(error.contains("no.such.setting"), "{error}");
    }

    #[test]
    fn a_secret_is_in_no_message() {
        for key in ["sasl.password", "ssl.key.pem", "sasl.oauthbearer.client.secret", "ssl.keystore.password"] {
            let settings = with(key, "hunter2");
            assert!(!format!("{settings:?}").contains("hunter2"), "{key}");
            if let Err(error) = settings.check() {
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        }
        assert!(format!("{:?}", with("security.protocol", "ssl")).contains("ssl"));
    }
}
