//! Asks the cluster again and again whether it is there and holds the usage topic, with a client and a thread of its own: a
//! worker that waits for an answer cannot report that none comes. It writes [`Health`] and the log; it decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode;

use super::Error;
use super::batch::{StatefulConsumer, events_waiting};
use super::client::ConsumerState;
use super::settings::{KafkaSettings, told};
use crate::telemetry::{Health, KafkaTrouble, Telemetry};

/// Time from an answer to the next question.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long an answer may take. With [`INTERVAL`] an absent broker is known after seven seconds at the latest.
const ASK: Duration = Duration::from_secs(5);
/// The most lines of the client's log that are written between two questions.
const SERVED_MAX: usize = 1_000;

/// A thread that watches the cluster until this is dropped.
#[derive(Debug)]
pub struct ClusterWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl ClusterWatch {
    /// Watches the cluster of `settings` and writes what it finds to `health`.
    ///
    /// # Errors
    /// When librdkafka refuses the settings or the operating system a thread.
    pub fn start(settings: &KafkaSettings, health: Health, telemetry: Telemetry) -> Result<Self, Error> {
        let consumer: StatefulConsumer = settings
            .plain("tallyman-watch")
            .create_with_context(ConsumerState::default())
            .map_err(|error| Error::Settings(told(&error)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let watch = Watch { settings: settings.clone(), consumer, health, telemetry, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new()
            .name("kafka-watch".into())
            .spawn(move || watch.run())
            .map_err(|error| Error::Settings(format!("no thread can be started: {error}")))?;
        Ok(Self { stop, thread })
    }

    /// Whether it still watches. Only a panic ends that.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        !self.thread.is_finished()
    }
}

impl Drop for ClusterWatch {
    /// Nobody waits for the thread: it may be waiting for an answer, and holds nothing that its end could lose.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
    }
}

struct Watch {
    settings: KafkaSettings,
    consumer: StatefulConsumer,
    health: Health,
    telemetry: Telemetry,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn run(self) {
        let mut answered = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let found = self.ask();
            self.serve();
            self.telemetry.tick();
            match found {
                Ok(()) => {
                    answered = asked;
                    if let Some(trouble) = self.health.kafka_is_well() {
                        self.telemetry.kafka_is_back(&trouble);
                    }
                }
                Err((connected, message)) => {
                    let trouble = KafkaTrouble { since: answered, connected, message };
                    if self.health.kafka_is_not_well(trouble.clone()) {
                        self.telemetry.kafka_is_away(&trouble);
                    }
                }
            }
            let next = Instant::now() + INTERVAL;
            while !self.stop.load(Ordering::Relaxed) && Instant::now() < next {
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Whether the cluster answers and holds the usage topic; else whether it answered at all, and what is wrong.
    fn ask(&self) -> Result<(), (bool, String)> {
        let topic = &self.settings.topics.usage;
        let metadata = self.consumer.fetch_metadata(Some(topic), ASK).map_err(|error| {
            let what = format!("topic {topic} cannot be looked up");
            (false, self.settings.cluster_error(what, &error).to_string())
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from) {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                let servers = &self.settings.bootstrap_servers;
                Err((
                    true,
                    format!(
                        "Kafka at {servers} has no topic `{topic}` any more: it was deleted, or the ACLs hide it now"
                    ),
                ))
            }
            // A leader that is being elected is the workers' affair: their partitions lag.
            _ => Ok(()),
        }
    }

    /// Writes the client's own lines to the log, at their time.
    fn serve(&self) {
        for _ in 0..events_waiting(&self.consumer).min(SERVED_MAX) {
            let _ = self.consumer.poll(Duration::ZERO);
        }
    }
}
