//! Makes the topics, and says how those that exist differ from what they must be. Never changes a topic: what a
//! person has set up is for a person to change.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::Error;
use super::settings::{KafkaSettings, told};

/// How long the controller may take.
const ASK: Duration = Duration::from_secs(20);
/// How long a broker that has just listed its topics may take to tell their settings.
const DESCRIBE: Duration = Duration::from_secs(10);
/// Greater than the usage topic's limit by what a dead letter's headers add: a record that fits there fits here.
const DEAD_LETTER_BYTES_MAX: &str = "2097152";

/// What a topic's settings must be, by the broker's names (CONTRACT.md, Topics).
fn wanted(settings: &KafkaSettings) -> [(&str, Vec<(&'static str, &'static str)>); 6] {
    let topics = &settings.topics;
    let log = [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("message.timestamp.type", "LogAppendTime")];
    [
        (&topics.usage, log.to_vec()),
        (&topics.policies, log.to_vec()),
        (&topics.decisions, vec![("cleanup.policy", "compact")]),
        (&topics.alerts, vec![("cleanup.policy", "delete")]),
        (&topics.purchases, vec![("cleanup.policy", "delete")]),
        (&topics.dead_letters, vec![("cleanup.policy", "delete"), ("max.message.bytes", DEAD_LETTER_BYTES_MAX)]),
    ]
}

/// One way in which a topic is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicProblem {
    /// Which topic.
    pub topic: String,
    /// Which setting, by the broker's name; `partitions`; or `topic` when there is none.
    pub setting: String,
    /// What it must be.
    pub wanted: String,
    /// What it is.
    pub found: String,
}

impl TopicProblem {
    /// Whether `kafka.accept_topic_settings` lets it pass: a setting that differs, never a missing topic or
    /// another partition count.
    #[must_use]
    pub fn is_acceptable(&self) -> bool {
        !matches!(self.setting.as_str(), "topic" | "partitions")
    }
}

impl fmt::Display for TopicProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, setting, wanted, found } = self;
        match setting.as_str() {
            "topic" => write!(f, "topic `{topic}` does not exist; `tallyman topics create` makes it"),
            "partitions" => write!(
                f,
                "topic `{topic}` has {found} partitions, the usage topic has {wanted}; all topics need the same \
                 count, as an org stands in the same partition of each"
            ),
            _ => write!(
                f,
                "topic `{topic}` has {setting} = {found}, it must be {wanted}; change it with kafka-configs --alter \
                 --topic {topic} --add-config {setting}={wanted}, or set kafka.accept_topic_settings = true"
            ),
        }
    }
}

/// What became of a topic in [`create_topics`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicOutcome {
    /// It was made.
    Created,
    /// It was there, and is left as it is; how it differs.
    Exists(Vec<TopicProblem>),
    /// It is not there and could not be made.
    Failed(String),
}

/// A topic and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicReport {
    /// Which.
    pub topic: String,
    /// What.
    pub outcome: TopicOutcome,
}

/// What identifies a cluster and its usage topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The cluster's id.
    pub cluster_id: String,
    /// Partitions of the usage topic.
    pub partitions: i32,
}

struct Admin<'a> {
    settings: &'a KafkaSettings,
    client: AdminClient<DefaultClientContext>,
}

impl<'a> Admin<'a> {
    fn new(settings: &'a KafkaSettings) -> Result<Self, Error> {
        let client = settings.plain("tallyman-admin").create().map_err(|error| Error::Settings(told(&error)))?;
        Ok(Self { settings, client })
    }

    /// Partitions of each of our topics that exists.
    fn partitions(&self) -> Result<BTreeMap<String, i32>, Error> {
        let metadata = self
            .client
            .inner()
            .fetch_metadata(None, ASK)
            .map_err(|error| self.settings.cluster_error("the topics cannot be listed", &error))?;
        let ours = self.settings.topics.all();
        let found = metadata.topics().iter().filter(|topic| ours.contains(&topic.name()));
        Ok(found
            .map(|topic| (topic.name().to_owned(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)))
            .collect())
    }

    /// Waits until every topic that was just made is seen: brokers learn of it after the controller has answered.
    fn wait_for(&self, reports: &[TopicReport]) -> Result<(), Error> {
        let deadline = Instant::now() + ASK;
        loop {
            let seen = self.partitions()?;
            let made = |report: &&TopicReport| report.outcome == TopicOutcome::Created;
            if reports.iter().filter(made).all(|report| seen.contains_key(&report.topic))
                || Instant::now() >= deadline
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How the settings of those topics that exist differ from what they must be.
    fn differences(&self, existing: &BTreeMap<String, i32>) -> Result<Vec<TopicProblem>, Error> {
        let wanted: Vec<_> =
            wanted(self.settings).into_iter().filter(|(topic, _)| existing.contains_key(*topic)).collect();
        let count = existing.get(&self.settings.topics.usage).or_else(|| existing.values().max());
        let mut problems = Vec::new();
        for (topic, partitions) in existing {
            if Some(partitions) != count {
                problems.push(TopicProblem {
                    topic: topic.clone(),
                    setting: "partitions".into(),
                    wanted: count.map_or_else(String::new, ToString::to_string),
                    found: partitions.to_string(),
                });
            }
        }
        let resources: Vec<_> = wanted.iter().map(|(topic, _)| ResourceSpecifier::Topic(topic)).collect();
        if resources.is_empty() {
            return Ok(problems);
        }
        let what = "the topics' settings cannot be read";
        let options = AdminOptions::new().request_timeout(Some(DESCRIBE));
        let described =
            block_on(self.client.describe_configs(&resources, &options)).map_err(|error| match error {
                // The topics were listed just now: whoever did that is there, and either slow or no Kafka.
                KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut) => Error::Unanswered {
                    servers: self.settings.bootstrap_servers.clone(),
                    request: "DescribeConfigs",
                    seconds: DESCRIBE.as_secs(),
                },
                error => self.settings.cluster_error(what, &error),
            })?;
        for ((topic, wanted), described) in wanted.iter().zip(described) {
            let described =
                described.map_err(|code| self.settings.cluster_error(what, &KafkaError::AdminOp(code)))?;
            for (setting, wanted) in wanted {
                let found = described.get(setting).and_then(|entry| entry.value.clone()).unwrap_or_default();
                if !agrees(setting, wanted, &found) {
                    problems.push(TopicProblem {
                        topic: (*topic).to_owned(),
                        setting: (*setting).to_owned(),
                        wanted: (*wanted).to_owned(),
                        found,
                    });
                }
            }
        }
        Ok(problems)
    }
}

fn agrees(setting: &str, wanted: &str, found: &str) -> bool {
    match setting {
        // More room for a dead letter is as good.
        "max.message.bytes" => found.parse::<u64>().ok() >= wanted.parse().ok(),
        _ => wanted == found,
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK))
}

/// Makes those topics that are missing, with the settings they must have; says of the others how they differ.
///
/// # Errors
/// When the cluster does not answer.
pub fn create_topics(settings: &KafkaSettings) -> Result<Vec<TopicReport>, Error> {
    let admin = Admin::new(settings)?;
    let existing = admin.partitions()?;
    let mut problems = admin.differences(&existing)?;
    let partitions = existing.get(&settings.topics.usage).copied().unwrap_or(settings.partitions);
    let mut reports = Vec::new();
    for (topic, config) in wanted(settings) {
        let outcome = if existing.contains_key(topic) {
            TopicOutcome::Exists(problems.extract_if(.., |problem| problem.topic == topic).collect())
        } else {
            let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(settings.replication_factor));
            new.config = config;
            let made = block_on(admin.client.create_topics([&new], &options()))
                .map_err(|error| settings.cluster_error(format!("topic {topic} cannot be made"), &error))?;
            match made.into_iter().next() {
                Some(Ok(_)) => TopicOutcome::Created,
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => TopicOutcome::Exists(Vec::new()),
                Some(Err((_, code))) => TopicOutcome::Failed(format!(
                    "{code}; asked for {partitions} partitions and replication factor {}",
                    settings.replication_factor
                )),
                None => TopicOutcome::Failed("the cluster did not answer".into()),
            }
        };
        reports.push(TopicReport { topic: topic.into(), outcome });
    }
    admin.wait_for(&reports)?;
    Ok(reports)
}

/// Deletes the topics.
///
/// # Errors
/// When the cluster does not answer.
pub fn delete_topics(settings: &KafkaSettings) -> Result<(), Error> {
    let admin = Admin::new(settings)?;
    let deleted = block_on(admin.client.delete_topics(&settings.topics.all(), &options()));
    deleted.map(|_| ()).map_err(|error| settings.cluster_error("the topics cannot be deleted", &error))
}

/// Everything in which the topics are not what `run` needs; empty when all is well.
///
/// # Errors
/// When the cluster does not answer.
pub fn check_topics(settings: &KafkaSettings) -> Result<Vec<TopicProblem>, Error> {
    let admin = Admin::new(settings)?;
    let existing = admin.partitions()?;
    let missing = settings.topics.all().into_iter().filter(|topic| !existing.contains_key(*topic));
    let mut problems: Vec<_> = missing
        .map(|topic| TopicProblem {
            topic: topic.into(),
            setting: "topic".into(),
            wanted: "a topic".into(),
            found: "none".into(),
        })
        .collect();
    problems.extend(admin.differences(&existing)?);
    Ok(problems)
}

/// The cluster's id and the usage topic's partition count.
///
/// # Errors
/// When the cluster does not answer or has no usage topic.
pub fn cluster_info(settings: &KafkaSettings) -> Result<ClusterInfo, Error> {
    let admin = Admin::new(settings)?;
    let topic = &settings.topics.usage;
    let partitions = admin.partitions()?.get(topic).copied().ok_or_else(|| Error::NoTopic(topic.clone()))?;
    let cluster_id = admin.client.inner().fetch_cluster_id(ASK).ok_or_else(|| Error::Cluster {
        servers: settings.bootstrap_servers.clone(),
        what: "the cluster's id cannot be read".into(),
        reason: format!("no answer in {ASK:?}"),
    })?;
    Ok(ClusterInfo { cluster_id, partitions })
}

/// Waits for one answer. The admin client has its own thread, so there is no runtime to ask for.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}
