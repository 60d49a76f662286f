//! Workers over the double of the log, real stores below a directory, and a clock that is turned by hand.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::in_memory::{Crash, InMemoryLog, InMemorySink, InMemorySource};
use tallyman::clock::{Clock as _, ManualClock};
use tallyman::codec::{Decoder, Encoder, OutputEncoding, SchemaRegistry};
use tallyman::domain::terms::records::DefaultTerms;
use tallyman::domain::time::Timestamp;
use tallyman::processor::ports::{Rebalance, Sink, Source};
use tallyman::processor::settings::{AdoptFrom, TaskSettings, WorkerSettings};
use tallyman::processor::trusted_clock::TrustedClock;
use tallyman::processor::worker::{Shared, Worker, WorkerError};
use tallyman::store::{FoldSettings, Shelf, Store, StoreError, StoreMemory};
use tallyman::telemetry::{Health, TaskState, Telemetry};
use tempfile::TempDir;

/// Partitions of each topic.
pub const PARTITIONS: i32 = 2;
/// The consumer group.
pub const GROUP: &str = "sim/group";
/// Microseconds of an hour.
pub const HOUR: i64 = 3_600_000_000;
/// Microseconds of a day.
pub const DAY: i64 = 24 * HOUR;
/// 2026-11-20T10:00:00Z.
pub const START: Timestamp = Timestamp::from_micros(1_795_168_800_000_000);
/// No phase of a scenario takes as many turns: beyond them a worker turns for ever.
const TURNS_MAX: usize = 300;

/// What differs from test to test.
#[derive(Clone)]
pub struct Options {
    /// Records of a partition in one batch.
    pub batch: usize,
    /// Rows at which a flush is due.
    pub flush_rows: usize,
    /// Bytes of rows kept in memory; 0 forgets them at each flush.
    pub working_set: usize,
    /// Without a committed offset: from where.
    pub adopt: Option<AdoptFrom>,
    /// Whom the codec asks.
    pub registry: Option<Arc<dyn SchemaRegistry>>,
    /// How outputs are encoded.
    pub encoding: OutputEncoding,
    /// How far ahead limits are guarded.
    pub guard: Option<Duration>,
    /// How long what waits gathers after a transaction.
    pub gather: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: 7,
            flush_rows: 150,
            working_set: 1 << 20,
            adopt: None,
            registry: None,
            encoding: OutputEncoding::Json,
            guard: None,
            gather: Duration::ZERO,
        }
    }
}

/// A directory for stores; in memory where there is such a place: it is processes that die here, not machines.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The log and the clock that all workers of a test share.
pub struct World {
    /// The log.
    pub log: InMemoryLog,
    /// The clock of decisions.
    pub clock: ManualClock,
    /// Memory of all stores.
    pub memory: StoreMemory,
    /// What differs.
    pub options: Options,
    /// The metrics of all workers.
    pub telemetry: Telemetry,
}

/// The fold's settings.
pub fn fold_settings(guard: Option<Duration>) -> FoldSettings {
    FoldSettings {
        dedupe_window: DAY,
        max_future: 300_000_000,
        max_age: 90 * DAY,
        codec_version: 1,
        rates: guard.is_some(),
    }
}

impl World {
    /// An empty log at [`START`].
    pub fn new(options: Options) -> Self {
        let world = Self {
            log: InMemoryLog::new(PARTITIONS),
            clock: ManualClock::new(START),
            memory: StoreMemory::new(64 << 20),
            options,
            telemetry: Telemetry::new(10),
        };
        world.set_now(START);
        world
    }

    /// Turns the clocks of decisions and of the log.
    pub fn set_now(&self, now: Timestamp) {
        self.clock.set(now);
        self.log.set_now(now);
    }

    /// The instant that it is.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn settings(&self) -> WorkerSettings {
        let task = TaskSettings {
            fold: fold_settings(self.options.guard),
            guard: self.options.guard,
            default_terms: DefaultTerms::Allow,
            usage_topic: "usage".into(),
            policies_topic: "policies".into(),
            clock: Arc::new(TrustedClock::new(Arc::new(self.clock.clone()))),
            working_set_bytes_max: self.options.working_set,
            top_orgs: 10,
        };
        WorkerSettings {
            task: Arc::new(task),
            group_id: GROUP.into(),
            adopt_from: self.options.adopt,
            poll_wait: Duration::ZERO,
            // Only rows and orders make a flush due, never the machine's clock.
            flush_interval: Duration::from_hours(1),
            gather: self.options.gather..=self.options.gather,
            flush_rows_max: self.options.flush_rows,
        }
    }

    /// Opens a store of `dir`.
    pub fn store(&self, dir: &Path, partition: i32) -> Result<Store, StoreError> {
        Store::create_or_open(dir, partition, &fold_settings(self.options.guard), &self.memory)
    }

    /// A worker on `ports` with its stores below `dir`.
    pub fn worker<S: Source, K: Sink<Membership = S::Membership>>(
        &self,
        ports: (S, K),
        dir: &Path,
    ) -> (Worker<S, K>, Health) {
        let health = Health::new(1);
        let shared = Shared {
            shelf: Shelf::default(),
            telemetry: self.telemetry.clone(),
            health: health.clone(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let codec = (
            Decoder::new(self.options.registry.clone()),
            Encoder::new(self.options.encoding, self.options.registry.clone()),
        );
        let (dir, memory, fold) = (dir.to_owned(), self.memory.clone(), fold_settings(self.options.guard));
        let open = Box::new(move |partition| Store::create_or_open(&dir, partition, &fold, &memory));
        (Worker::new(0, ports, codec, self.settings(), shared, open), health)
    }

    /// A member of the group on plain ports that is assigned all partitions.
    pub fn member(&self, client: &str, dir: &Path) -> Member {
        let ports = (
            InMemorySource::new(&self.log, client, self.options.batch),
            InMemorySink::new(&self.log, GROUP, client),
        );
        let (worker, health) = self.worker(ports, dir);
        self.log.rebalance(client, Rebalance::Assigned((0..PARTITIONS).collect()));
        Member { client: client.to_owned(), worker, health, log: self.log.clone() }
    }

    /// All rows of a partition's store, which nobody has open.
    pub fn dump(&self, dir: &Path, partition: i32) -> String {
        let store = self.store(dir, partition).unwrap();
        let mut out = Vec::new();
        store.dump(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}

/// A worker on the double.
pub struct Member {
    /// Its client id.
    pub client: String,
    /// It.
    pub worker: Worker<InMemorySource, InMemorySink>,
    /// What it tells of its partitions.
    pub health: Health,
    log: InMemoryLog,
}

/// What stopped a worker.
#[derive(Debug)]
pub enum Stop {
    /// An injected crash.
    Crash,
    /// It gave up.
    Error(WorkerError),
}

impl Member {
    /// One turn.
    pub fn turn(&mut self) -> Result<(), Stop> {
        match catch_unwind(AssertUnwindSafe(|| self.worker.turn())) {
            Ok(turned) => turned.map_err(Stop::Error),
            Err(payload) => Err(crash(payload)),
        }
    }

    /// Turns until nothing happens any more.
    pub fn settle(&mut self) -> Result<(), Stop> {
        let mut idle = 0;
        for _ in 0..TURNS_MAX {
            let before = (self.log.steps() + 1, self.log.delivered());
            self.turn()?;
            // A turn in which nothing happens is one poll. A partition that waits for its terms takes two of them.
            let quiet = before == (self.log.steps(), self.log.delivered());
            idle = if quiet { idle + 1 } else { 0 };
            if idle == 3 {
                return Ok(());
            }
        }
        panic!("the worker turns for ever");
    }

    /// Lets go of `partitions`: published, persisted, closed.
    pub fn release(&mut self, partitions: &[i32]) -> Result<(), Stop> {
        self.log.rebalance(&self.client, Rebalance::Revoked(partitions.to_vec()));
        self.turn()
    }

    /// Why a partition is halted, if it is.
    pub fn halt_of(&self, partition: i32) -> Option<(&'static str, String)> {
        self.health.tasks().into_iter().find(|(number, _)| *number == partition).and_then(|(_, state)| match state
        {
            TaskState::Halted { reason, message } => Some((reason, message)),
            _ => None,
        })
    }
}

fn crash(payload: Box<dyn Any + Send>) -> Stop {
    match payload.downcast::<Crash>() {
        Ok(_) => Stop::Crash,
        Err(other) => std::panic::resume_unwind(other),
    }
}
