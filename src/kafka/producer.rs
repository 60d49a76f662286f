//! A plain idempotent producer: `tallyman produce`, `policy apply`, and load in tests and benches. Not the
//! worker's, which is transactional: `sink`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use super::Error;
use super::client::{client_error, locked, log_line};
use super::settings::{KafkaSettings, told};
use crate::domain::time::Timestamp;
use crate::processor::ports::Header;

/// How long a full queue may stay full.
const FULL: Duration = Duration::from_mins(1);

/// Counts what did not arrive.
#[derive(Default)]
struct Failures {
    count: AtomicU64,
    last: Mutex<String>,
}

impl ClientContext for Failures {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_error(&error, reason);
    }
}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.count.fetch_add(1, Ordering::Relaxed);
            *locked(&self.last) = told(error);
        }
    }
}

/// A producer that keeps order, retries, and tells at [`Producer::flush`] what did not arrive.
pub struct Producer {
    producer: ThreadedProducer<Failures>,
}

/// A record to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent<'a> {
    /// Its key; the partition is murmur2 of it, or any without one.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// A partition other than the key's.
    pub partition: Option<i32>,
    /// The time of a topic on `CreateTime`; now when absent.
    pub timestamp: Option<Timestamp>,
    /// Its headers.
    pub headers: &'a [Header],
}

impl Producer {
    /// A producer that tells the cluster `client_id`.
    ///
    /// # Errors
    /// When the settings are refused.
    pub fn new(settings: &KafkaSettings, client_id: &str) -> Result<Self, Error> {
        let mut config = settings.producer(client_id);
        for (key, value) in [("linger.ms", "5"), ("queue.buffering.max.messages", "200000")] {
            if !settings.client.contains_key(key) {
                config.set(key, value);
            }
        }
        let producer =
            config.create_with_context(Failures::default()).map_err(|error| Error::Settings(told(&error)))?;
        Ok(Self { producer })
    }

    /// Hands a record over; waits while the queue is full.
    ///
    /// # Errors
    /// When the record is refused (too large) or the queue stays full for a minute.
    pub fn send(&self, topic: &str, sent: &Sent<'_>) -> Result<(), Error> {
        let deadline = Instant::now() + FULL;
        let mut record = BaseRecord::<[u8], [u8]>::to(topic);
        record.key = sent.key;
        record.payload = sent.value;
        record.partition = sent.partition;
        record.timestamp = sent.timestamp.map(|at| at.micros().div_euclid(1000));
        if !sent.headers.is_empty() {
            let empty = OwnedHeaders::new_with_capacity(sent.headers.len());
            record.headers = Some(
                sent.headers
                    .iter()
                    .fold(empty, |headers, (key, value)| headers.insert(KafkaHeader { key, value: Some(value) })),
            );
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, refused)) => {
                    let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    if !full || Instant::now() >= deadline {
                        return Err(Error::Undelivered { count: 1, reason: told(&error) });
                    }
                    record = refused;
                    // The client's own thread makes room; there is no event to wait for.
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// Waits until everything handed over has arrived.
    ///
    /// # Errors
    /// When something did not, since the last flush, or `wait` was not enough.
    pub fn flush(&self, wait: Duration) -> Result<(), Error> {
        let flushed = self.producer.flush(wait);
        let failures = self.producer.context();
        let count = failures.count.swap(0, Ordering::Relaxed);
        if count > 0 {
            return Err(Error::Undelivered { count, reason: locked(&failures.last).clone() });
        }
        let open = u64::try_from(self.producer.in_flight_count()).unwrap_or(0);
        flushed.map_err(|error| Error::Undelivered { count: open, reason: told(&error) })
    }
}
