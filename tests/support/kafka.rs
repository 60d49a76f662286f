//! A real Apache Kafka: one node of `KRaft`, on free loopback ports. A test binary
//! shares one; a test that kills its broker starts its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use tallyman::kafka::{KafkaSettings, TopicOutcome, Topics, check_topics, create_topics};

use super::process::{Process, free_port, server_dir, servers};

/// A broker.
pub struct Kafka {
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Kafka {
    /// The broker that all tests of this binary share. Give each test its own names: [`Kafka::settings`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A broker of one's own, ready to serve.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A broker of one's own with further settings, by the broker's names.
    pub fn start_with(properties: &[(&str, &str)]) -> Self {
        let dir = server_dir("kafka");
        let (port, controller) = (free_port(), free_port());
        let data = dir.join("data");
        let mut text = String::new();
        let own = [
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", "1".to_owned()),
            ("controller.quorum.bootstrap.servers", format!("127.0.0.1:{controller}")),
            ("listeners", format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}")),
            ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned()),
            ("log.dirs", data.display().to_string()),
            ("auto.create.topics.enable", "false".to_owned()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
            ("offsets.topic.num.partitions", "4".to_owned()),
            ("offsets.topic.replication.factor", "1".to_owned()),
            ("transaction.state.log.num.partitions", "4".to_owned()),
            ("transaction.state.log.replication.factor", "1".to_owned()),
            ("transaction.state.log.min.isr", "1".to_owned()),
            ("log.index.size.max.bytes", "1048576".to_owned()),
            ("log.cleaner.dedupe.buffer.size", "16777216".to_owned()),
        ];
        for (key, value) in own.iter().map(|(key, value)| (*key, value.as_str())).chain(properties.iter().copied())
        {
            writeln!(text, "{key}={value}").expect("a string takes all");
        }
        fs::write(dir.join("server.properties"), text).expect("the temporary directory is writable");
        let mut kafka = Self { dir, port, process: None };
        kafka.format();
        kafka.restart();
        kafka
    }

    fn java(heap: &str) -> Vec<String> {
        let jars = servers().join("kafka").join("*");
        let quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
        ["java", heap, "-XX:+UseG1GC", quiet, "-cp", &jars.display().to_string()].map(str::to_owned).to_vec()
    }

    fn properties(&self) -> String {
        self.dir.join("server.properties").display().to_string()
    }

    fn format(&self) {
        let command = Self::java("-Xmx256m");
        // 16 bytes in base 64, another cluster for each port.
        let cluster = format!("dGFsbHltYW4tdG{:05}tMQ", self.port);
        let format = ["kafka.tools.StorageTool", "format", "--standalone", "-t", &cluster, "-c"];
        let formatted = Command::new(&command[0])
            .args(&command[1..])
            .arg("-XX:TieredStopAtLevel=1")
            .args(format)
            .arg(self.properties())
            .output()
            .expect("java runs");
        assert!(formatted.status.success(), "Kafka's storage cannot be formatted: {formatted:?}");
    }

    /// Starts the broker again on the data it has, and waits until it serves.
    pub fn restart(&mut self) {
        let mut command = Self::java("-Xmx1g");
        command.extend(["kafka.Kafka".to_owned(), self.properties()]);
        let mut process = Process::start(&self.dir, &mut command);
        let settings = KafkaSettings {
            client: BTreeMap::from([("log_level".into(), "0".into())]),
            ..self.settings_of(&Topics::default(), "probe", 1)
        };
        process.wait_until("Kafka", || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() && check_topics(&settings).is_ok()
        });
        self.process = Some(process);
    }

    /// Deletes what a partition holds below `offset`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
        let mut below = TopicPartitionList::new();
        below.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("the offset is good");
        self.administer(async |admin, options| {
            admin.delete_records(&below, options).await.expect("the broker deletes them");
        });
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, topic: &str) {
        self.administer(async |admin, options| {
            let deleted = admin.delete_topics(&[topic], options).await.expect("the broker answers");
            assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        });
    }

    /// Changes settings of a topic; those that are not named go back to the broker's.
    pub fn set_topic(&self, topic: &str, settings: &[(&str, &str)]) {
        let all = settings
            .iter()
            .fold(AlterConfig::new(ResourceSpecifier::Topic(topic)), |all, (key, value)| all.set(key, value));
        self.administer(async |admin, options| {
            let altered = admin.alter_configs([&all], options).await.expect("the broker answers");
            assert!(altered.iter().all(Result::is_ok), "{altered:?}");
        });
    }

    /// Gives a topic more partitions.
    pub fn add_partitions(&self, topic: &str, count: usize) {
        self.administer(async |admin, options| {
            let more = NewPartitions::new(topic, count);
            let made = admin.create_partitions([&more], options).await.expect("the broker answers");
            assert!(made.iter().all(Result::is_ok), "{made:?}");
        });
    }

    fn administer(&self, act: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions)) {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap_servers());
        let admin = config.create().expect("the settings are good");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let options = AdminOptions::new().operation_timeout(Some(std::time::Duration::from_secs(20)));
        runtime.block_on(act(&admin, &options));
    }

    /// Kills the broker with SIGKILL; its data stays for [`Kafka::restart`].
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// `host:port`.
    pub fn bootstrap_servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Settings with topics and a group that no other test has. No topic exists yet.
    pub fn settings(&self, test: &str, partitions: i32) -> KafkaSettings {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{test}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let topics = Topics {
            usage: format!("{name}.usage"),
            policies: format!("{name}.policies"),
            decisions: format!("{name}.decisions"),
            alerts: format!("{name}.alerts"),
            purchases: format!("{name}.purchases"),
            dead_letters: format!("{name}.dead-letters"),
        };
        self.settings_of(&topics, &name, partitions)
    }

    fn settings_of(&self, topics: &Topics, group: &str, partitions: i32) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: self.bootstrap_servers(),
            group_id: group.into(),
            client: BTreeMap::new(),
            topics: topics.clone(),
            partitions,
            replication_factor: 1,
        }
    }

    /// Settings whose topics exist.
    pub fn with_topics(&self, test: &str, partitions: i32) -> KafkaSettings {
        let settings = self.settings(test, partitions);
        for report in create_topics(&settings).expect("the broker answers") {
            assert_eq!(report.outcome, TopicOutcome::Created, "{}", report.topic);
        }
        settings
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // A killed broker's holder has kept the directory; a running one's removes it.
        if self.process.take().is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
