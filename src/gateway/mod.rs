//! The client side: a gateway's view of the decisions topic, in memory, and what it says of a request. A public API of
//! the library: `examples/gateway.rs` uses nothing else.
//!
//! [`Gateway`] follows the topic in a thread of its own ([`follower`]) and writes what comes into a [`table::Table`], which any
//! number of threads ask without a lock. Nothing here publishes, and nothing decides who may spend: it tells what was
//! decided (CONTRACT.md, Meaning: Gateway). Next to read: `table`, then `shard`.

mod dimensions;
mod follower;
mod held;
mod key;
mod node;
mod root;
mod shard;
pub mod table;
mod told;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::codec::SchemaRegistry;
use crate::kafka::{self, KafkaSettings};
use crate::telemetry::Telemetry;

use follower::Follower;
use table::{Request, Rules, Table, Verdict, WhenStale};

/// Why a gateway cannot start or is not ready.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The settings for Kafka.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// No thread can be had.
    #[error("the operating system refuses the gateway's thread: {0}; check the limit of threads")]
    Thread(#[from] std::io::Error),
    /// The decisions topic was not read to its end in time.
    #[error(
        "the decisions were not read to their end within {0:?}; is Kafka reachable, and does the topic exist?"
    )]
    NotReady(Duration),
}

/// What a gateway follows and tells with.
pub struct Source {
    /// The cluster and the name of its decisions topic.
    pub kafka: KafkaSettings,
    /// Where schemas of Confluent-framed decisions come from, if they are framed.
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    /// By whose passing heartbeats grow old.
    pub clock: Arc<dyn Clock>,
    /// Who hears of trouble.
    pub telemetry: Telemetry,
}

impl Source {
    /// Decisions as JSON or in Avro single-object encoding, the machine's clock, telemetry of its own.
    #[must_use]
    pub fn new(kafka: KafkaSettings) -> Self {
        Self { kafka, registry: None, clock: Arc::new(SystemClock), telemetry: Telemetry::default() }
    }
}

/// Two heartbeats come within this: a shorter `gate.stale_after` calls a healthy processor silent.
const PATIENT: Duration = Duration::from_secs(20);

/// A table that follows the decisions topic for as long as this lives.
pub struct Gateway {
    table: Arc<Table>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Gateway {
    /// Starts to read the decisions. Kafka may be out of reach for now: it is tried again and again.
    ///
    /// # Errors
    /// When the settings cannot be used or no thread can be had.
    pub fn start(source: Source, rules: Rules) -> Result<Self, GatewayError> {
        source.kafka.check()?;
        if rules.stale != WhenStale::Keep && rules.stale_after < PATIENT {
            source.telemetry.gate_impatient(rules.stale_after);
        }
        let table = Arc::new(Table::new(rules, Arc::clone(&source.clock)));
        let stop = Arc::new(AtomicBool::new(false));
        let follower = Follower::new(source, Arc::clone(&table), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("gateway".into()).spawn(move || follower.run())?;
        Ok(Self { table, stop, thread })
    }

    /// What was decided for such a request; see [`Table::check`]. Before [`Gateway::is_ready`] most organisations
    /// are unknown.
    #[must_use]
    pub fn check(&self, request: &Request<'_>) -> Verdict {
        self.table.check(request)
    }

    /// Whether the decisions have been read to their end once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.table.is_ready()
    }

    /// Whether it still follows. Only a panic ends that: then what it knows grows old, and it should be started again.
    #[must_use]
    pub fn is_following(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits until [`Gateway::is_ready`].
    ///
    /// # Errors
    /// [`GatewayError::NotReady`] after `patience`.
    pub fn wait_until_ready(&self, patience: Duration) -> Result<(), GatewayError> {
        if self.table.wait_until_ready(patience) { Ok(()) } else { Err(GatewayError::NotReady(patience)) }
    }

    /// The table itself, to be asked from elsewhere.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Its thread ends by itself: waiting for one that asks a dead cluster would take as long as that does.
        self.stop.store(true, Ordering::Relaxed);
    }
}
