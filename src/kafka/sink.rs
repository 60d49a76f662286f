//! The log as a worker writes it: one transactional producer that publishes outputs and the input offsets that
//! caused them in one transaction (Law 3). It tells what became of each transaction and never guesses. Next to
//! read: `processor`'s worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::Error;
use super::client::{client_error, log_line};
use super::offsets::OffsetKeeper;
use super::settings::{KafkaSettings, told};
use crate::processor::ports::{CommitOffset, Output, PortError, Sink, TransactError};

/// How long one step of a transaction may take, retries included.
const STEP: Duration = Duration::from_secs(10);
/// How long taking a transactional id may take: the broker first ends what its former producer had open.
const INIT: Duration = Duration::from_secs(30);
/// How long an abort lets records on their way arrive.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a full queue or records on their way are waited for between two looks. Delivered records report nothing, so there
/// is no event to wait for.
const LOOK: Duration = Duration::from_micros(200);

/// The most lines that are served at once.
const SERVED_MAX: i32 = 1_000;

/// The context of a producer: its log lines become ours; delivery failures fail the transaction, nobody else asks.
struct SinkContext;

impl ClientContext for SinkContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_error(&error, reason);
    }
}

impl ProducerContext for SinkContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::debug!(%error, "an output was not delivered; its transaction fails");
        }
    }
}

/// The log on a real Kafka.
pub struct KafkaSink {
    settings: KafkaSettings,
    client_id: String,
    transactional_id: String,
    keeper: OffsetKeeper,
    /// `None` only while [`Sink::renew`] could not make a new one.
    producer: Option<BaseProducer<SinkContext>>,
}

impl KafkaSink {
    /// A sink whose producer has taken `transactional_id` over: what another producer of it had open is ended.
    ///
    /// # Errors
    /// When the settings are refused or the coordinator does not answer.
    pub fn new(
        settings: &KafkaSettings,
        client_id: &str,
        transactional_id: &str,
        keeper: OffsetKeeper,
    ) -> Result<Self, Error> {
        let mut sink = Self {
            settings: settings.clone(),
            client_id: client_id.into(),
            transactional_id: transactional_id.into(),
            keeper,
            producer: None,
        };
        sink.producer = Some(sink.initialised(transactional_id)?);
        Ok(sink)
    }

    fn initialised(&self, transactional_id: &str) -> Result<BaseProducer<SinkContext>, Error> {
        let producer: BaseProducer<SinkContext> = self
            .settings
            .transactional(&format!("{}/sink", self.client_id), transactional_id)
            .create_with_context(SinkContext)
            .map_err(|error| Error::Settings(told(&error)))?;
        retried(Instant::now() + INIT, |left| producer.init_transactions(left)).map_err(|error| {
            self.settings
                .cluster_error(format!("transactional id {transactional_id} cannot be taken over"), &error)
        })?;
        Ok(producer)
    }

    /// Everything but the commit. Whatever fails here, the transaction can only end aborted.
    fn publish(
        &self,
        producer: &BaseProducer<SinkContext>,
        outputs: &[Output],
        offsets: &[CommitOffset],
        membership: &ConsumerGroupMetadata,
    ) -> Result<(), KafkaError> {
        producer.begin_transaction()?;
        let mut list = TopicPartitionList::new();
        for commit in offsets {
            let mut element = list.add_partition(&self.settings.topics.usage, commit.partition);
            element.set_offset(Offset::Offset(commit.offset))?;
            element.set_metadata(&commit.metadata);
        }
        // Offsets first: while the broker still writes the former commit's markers, librdkafka tries this again
        // after retry.backoff.ms, but an output's partition only after 20 ms.
        retried(Instant::now() + STEP, |left| producer.send_offsets_to_transaction(&list, membership, left))?;
        outputs.iter().try_for_each(|output| self.send(producer, output))
    }

    fn send(&self, producer: &BaseProducer<SinkContext>, output: &Output) -> Result<(), KafkaError> {
        let deadline = Instant::now() + STEP;
        let mut record =
            BaseRecord::<[u8], [u8]>::to(self.settings.topics.of(output.topic)).partition(output.partition);
        record.key = output.key.as_deref();
        record.payload = output.value.as_deref();
        if !output.headers.is_empty() {
            let empty = OwnedHeaders::new_with_capacity(output.headers.len());
            record.headers = Some(
                output
                    .headers
                    .iter()
                    .fold(empty, |headers, (key, value)| headers.insert(Header { key, value: Some(value) })),
            );
        }
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, refused)) => {
                    let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    if !full || Instant::now() >= deadline {
                        return Err(error);
                    }
                    record = refused;
                    serve(producer);
                }
            }
        }
    }
}

/// `step` again while its error says so and there is time left.
fn retried(deadline: Instant, mut step: impl FnMut(Duration) -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match step(left) {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && !left.is_zero() => {
                tracing::debug!(%error, "a step of a transaction is tried again");
                thread::sleep(LOOK);
            }
            done => return done,
        }
    }
}

/// What an error says about this producer's life.
fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::TransactionCoordinatorFenced
        )
    )
}

/// Serves what waits and lets a moment pass. rust-rdkafka's poll takes whole milliseconds and spins through what is left of
/// its time, so it is only ever asked for what is there.
fn serve(producer: &BaseProducer<SinkContext>) {
    producer.poll(Duration::ZERO);
    thread::sleep(LOOK);
}

/// Waits until no record is on its way and every report is served.
fn settle(producer: &BaseProducer<SinkContext>, deadline: Instant) {
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        serve(producer);
    }
}

/// The commit itself. rust-rdkafka's flush polls in steps of 100 ms, so what is on its way is waited for in short
/// ones first.
fn commit(producer: &BaseProducer<SinkContext>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + STEP;
    settle(producer, deadline);
    retried(deadline, |left| producer.commit_transaction(left))
}

/// Ends a failed transaction.
fn abort(producer: &BaseProducer<SinkContext>, cause: &KafkaError) -> TransactError {
    let reason = told(cause);
    if is_fenced(cause) {
        return TransactError::Fenced(reason);
    }
    // Before the broker knows the transaction's partitions it would refuse to end it.
    settle(producer, Instant::now() + SETTLE);
    // The abort waits for the reports of what it drops, and leaves it to others to serve them.
    let aborted = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            while !aborted.load(Ordering::Relaxed) {
                serve(producer);
            }
        });
        let outcome = retried(Instant::now() + STEP, |left| producer.abort_transaction(left));
        aborted.store(true, Ordering::Relaxed);
        outcome
    });
    match outcome {
        Ok(()) => TransactError::Aborted(reason),
        Err(error) if is_fenced(&error) => TransactError::Fenced(told(&error)),
        Err(error) => TransactError::Unknown(format!("{reason}; and it cannot be aborted: {}", told(&error))),
    }
}

impl Sink for KafkaSink {
    type Membership = ConsumerGroupMetadata;

    fn transact(
        &mut self,
        outputs: &[Output],
        offsets: &[CommitOffset],
        membership: &ConsumerGroupMetadata,
    ) -> Result<(), TransactError> {
        let Some(producer) = &self.producer else {
            return Err(TransactError::Unknown("there is no producer; it could not be renewed".into()));
        };
        if outputs.is_empty() && offsets.is_empty() {
            return Ok(());
        }
        // Serves the log lines and errors since the last transaction.
        producer.poll(Duration::ZERO);
        self.publish(producer, outputs, offsets, membership).map_err(|error| abort(producer, &error))?;
        match commit(producer) {
            Ok(()) => {
                self.keeper.keep(offsets);
                Ok(())
            }
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                Err(abort(producer, &KafkaError::Transaction(error)))
            }
            Err(error) if is_fenced(&error) => Err(TransactError::Fenced(told(&error))),
            Err(error) => Err(TransactError::Unknown(told(&error))),
        }
    }

    fn fence(&mut self, transactional_id: &str) -> Result<(), PortError> {
        Ok(self.initialised(transactional_id).map(drop)?)
    }

    fn renew(&mut self) -> Result<(), PortError> {
        // The old one goes first: the new one's epoch would only fence it.
        self.producer = None;
        self.producer = Some(self.initialised(&self.transactional_id)?);
        Ok(())
    }

    fn serve(&mut self) {
        if let Some(producer) = &self.producer {
            // One call serves one line of librdkafka's log.
            for _ in 0..producer.in_flight_count().min(SERVED_MAX) {
                producer.poll(Duration::ZERO);
            }
        }
    }

    fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    fn client_id(&self) -> &str {
        &self.client_id
    }
}
