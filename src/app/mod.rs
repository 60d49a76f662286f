//! Wiring: builds the rooms in order, and takes them down in reverse. It decides nothing about records.
//!
//! Start: topics are checked, the listener is bound (its address is this member's name in the group), workers join the
//! group, HTTP answers. Stop: workers drain and leave the group, then HTTP ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::codec::{Decoder, Encoder, SchemaRegistry};
use crate::config::{self, ConfigError, Settings};
use crate::domain::terms::records::DefaultTerms;
use crate::domain::zones;
use crate::gateway::{Gateway, GatewayError, Source};
use crate::http::{self, ApiState, Gate, HttpError, Listeners};
use crate::kafka::{self, ClusterWatch, KafkaSettings, KafkaSink, KafkaSource, OffsetKeeper};
use crate::processor::settings::{AdoptFrom, TaskSettings, WorkerSettings};
use crate::processor::trusted_clock::TrustedClock;
use crate::processor::worker::{Shared, Worker, WorkerError};
use crate::query::{Query, TopicNames};
use crate::registry;
use crate::store::{self, FoldSettings, Shelf, Store, StoreError, StoreMemory};
use crate::telemetry::{Health, Telemetry};

use ending::EndsAll;

pub mod bench;
pub mod dev;
mod ending;
pub mod gate;
pub mod run;

/// Records of one batch.
const BATCH_RECORDS_MAX: usize = 10_000;
/// The most workers of one instance: each has its own connections, queues and producer.
const WORKERS_MAX: usize = 8;
/// The longest wait for records in one turn of a worker's loop.
const POLL_WAIT: Duration = Duration::from_millis(20);
/// The longest time that outputs gather after a transaction.
const GATHER_MAX: Duration = Duration::from_millis(10);
/// The shortest time between two flushes.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// Rows at which a flush is due at once.
const FLUSH_ROWS_MAX: usize = 800_000;
/// How long a drain may take before the process ends without it: what is not persisted is replayed.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What the thread that follows the decisions is called in messages.
const FOLLOWER: &str = "the thread that follows the decisions";

/// Why the application cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// Topics are missing or have other settings than CONTRACT.md's.
    #[error(
        "the topics are not as they must be:\n  {0}\nCreate missing ones with `tallyman topics create`; if other \
         settings are meant, set kafka.accept_topic_settings = true"
    )]
    Topics(String),
    /// The HTTP interface.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The HTTP address.
    #[error(
        "cannot listen on {address}: {source}; set http.listen (gate.listen) or probe_listen to a free address (port 0 \
         picks one)"
    )]
    Listen {
        /// The address as set.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The registry's address.
    #[error("registry.url: {0}")]
    Registry(String),
    /// A worker ended.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// What follows the decisions.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// A worker did not end in time.
    #[error("a worker did not drain within 10 s; what it had not persisted is replayed at the next start")]
    Drain,
    /// The HTTP server's task, or the thread that follows the decisions or watches the cluster, ended by a panic.
    #[error("{0} panicked; the log names the place. This is a fault of tallyman: report it. Start it again")]
    Panicked(&'static str),
    /// The store's memory or directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A question of a bench.
    #[error(transparent)]
    Query(#[from] crate::query::QueryError),
    /// A thread or the async runtime cannot be started.
    #[error("the operating system refuses: {0}")]
    System(#[from] std::io::Error),
}

/// What differs between `run`, `dev` and a test in process.
pub struct Wiring {
    /// Wall-clock time, for decisions.
    pub clock: Arc<dyn Clock>,
    /// Who keeps committed offsets.
    pub offsets: OffsetKeeper,
    /// Whether the topics are checked before anything starts.
    pub check_topics: bool,
    /// From where to go on when O* is missing.
    pub adopt_from: Option<AdoptFrom>,
}

/// A running instance.
pub struct App {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    telemetry: Telemetry,
    health: Health,
    query: Query,
    gateway: Gateway,
    watch: ClusterWatch,
    workers: Vec<JoinHandle<Result<(), WorkerError>>>,
    runtime: tokio::runtime::Runtime,
    http: tokio::task::JoinHandle<Result<(), HttpError>>,
    http_stop: tokio::sync::oneshot::Sender<()>,
}

/// The registry's client, where one is set.
///
/// # Errors
/// When its address is no URL.
pub fn registry_client(config: &config::Registry) -> Result<Option<Arc<dyn SchemaRegistry>>, AppError> {
    let Some(url) = &config.url else { return Ok(None) };
    let password = config.password.as_ref().map_or("", |password| password.0.as_str());
    let credentials = config.username.as_deref().map(|user| (user, password));
    let client = registry::Client::new(url, credentials).map_err(|error| AppError::Registry(error.to_string()))?;
    Ok(Some(Arc::new(client)))
}

/// The fold's own settings (Law 2).
#[must_use]
pub fn fold_settings(settings: &Settings) -> FoldSettings {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    FoldSettings {
        dedupe_window: micros(settings.dedupe_window),
        max_future: micros(settings.time.max_future),
        max_age: micros(settings.time.max_age),
        codec_version: crate::codec::store_values::CODEC_VERSION,
        rates: settings.limits_guard.is_some(),
    }
}

fn check_topics(settings: &Settings, kafka: &KafkaSettings) -> Result<(), AppError> {
    let problems = kafka::check_topics(kafka)?;
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let acceptable = problems.iter().all(kafka::TopicProblem::is_acceptable);
    if told.is_empty() {
        return Ok(());
    }
    if settings.accept_topic_settings && acceptable {
        for problem in told {
            tracing::warn!("accepted by kafka.accept_topic_settings: {problem}");
        }
        return Ok(());
    }
    Err(AppError::Topics(told.join("\n  ")))
}

/// What must be so before the group is joined; the partitions of the usage topic. What this machine lacks must be known
/// before partitions are taken from an instance that can hold them.
fn check(settings: &Settings, topics: bool) -> Result<i32, AppError> {
    let kafka = &settings.kafka;
    http::check_listen(settings.http.listen)?;
    kafka.check()?;
    store::prepare_place(&settings.store.dir, store_space(settings))?;
    store::open_files_of_store(kafka.partitions)?;
    if topics {
        check_topics(settings, kafka)?;
    }
    Ok(kafka::cluster_info(kafka)?.partitions)
}

impl App {
    /// Starts an instance; it runs until [`App::stop`] or until a worker cannot go on.
    ///
    /// # Errors
    /// When anything it needs is missing; nothing is left running then.
    pub fn start(settings: &Settings, wiring: Wiring) -> Result<Self, AppError> {
        let kafka = settings.kafka.clone();
        let default_terms = settings.default_terms()?.clone();
        let partitions = check(settings, wiring.check_topics)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listeners = runtime.block_on(listen(settings.http.listen, settings.http.probe_listen))?;
        let address = listeners.main.local_addr()?;
        let advertise = settings.http.advertise.clone().unwrap_or_else(|| address.to_string());

        let count = match &wiring.offsets {
            OffsetKeeper::Broker => worker_count(partitions),
            // The embedded broker stalls where a group's members come and go.
            OffsetKeeper::InProcess(_) => 1,
        };
        let shared = Shared {
            shelf: Shelf::default(),
            telemetry: Telemetry::new(settings.top_orgs),
            health: Health::new(count),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let dir = settings.store.dir.clone();
        shared.telemetry.observe(shared.health.clone(), move || store::free_bytes(&dir).ok());
        let watch = ClusterWatch::start(&kafka, shared.health.clone(), shared.telemetry.clone())?;
        let crew = Crew {
            settings: worker_settings(settings, &wiring, default_terms.clone(), partitions),
            opener: Opener::new(settings, store::open_files_of_store(partitions)?, shared.telemetry.clone()),
            kafka,
            offsets: wiring.offsets,
            registry: registry_client(&settings.registry)?,
            encoding: settings.output_encoding,
            shared: shared.clone(),
        };
        let (gateway, gate) = crew.follow(settings, &wiring.clock)?;
        let workers = (0..count).map(|number| crew.hire(number, &advertise)).collect::<Result<_, _>>()?;
        let health = shared.health.clone();
        let topics = TopicNames {
            usage: settings.kafka.topics.usage.clone(),
            policies: settings.kafka.topics.policies.clone(),
        };
        let caught_up = move |partition| health.has_caught_up(partition);
        let query = Query::new(shared.shelf, partitions, default_terms, wiring.clock, caught_up).naming(topics);
        let state = ApiState::new(query.clone(), shared.telemetry.clone(), shared.health.clone())
            .with_gate(gate)
            .with_probe_orgs(settings.probe_orgs);
        let started = told(&listeners)?;
        let (http_stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let ends_all = EndsAll(Arc::clone(&shared.stop));
        let http = runtime.spawn(async move {
            let _ends_all = ends_all;
            // An error is the sender's end, which is a reason to stop too.
            http::serve(listeners, state, async move { drop(stopped.await) }).await
        });
        shared.telemetry.started(&started);
        Ok(Self {
            address,
            stop: shared.stop,
            telemetry: shared.telemetry,
            health: shared.health,
            query,
            gateway,
            watch,
            workers,
            runtime,
            http,
            http_stop,
        })
    }

    /// Where it answers HTTP.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its readiness.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Questions to its stores, as HTTP asks them.
    #[must_use]
    pub const fn query(&self) -> &Query {
        &self.query
    }

    /// The flag that makes it drain and end, for a signal's handler.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// The async runtime, for a signal's handler.
    #[must_use]
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    /// Whether it was asked to stop, or a part of it has ended: it cannot go on, and [`App::wait`] says why.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.lost().is_some()
    }

    /// What panicked of the threads that nobody waits for.
    fn lost(&self) -> Option<&'static str> {
        let follower = (!self.gateway.is_following()).then_some(FOLLOWER);
        follower.or_else(|| (!self.watch.is_watching()).then_some("the thread that watches the cluster"))
    }

    /// Waits until it is asked to stop or a part of it ends, then drains within ten seconds.
    ///
    /// # Errors
    /// What ended by itself: a worker, the HTTP server, a thread beside them; or [`AppError::Drain`].
    pub fn wait(self) -> Result<(), AppError> {
        while !self.is_ending() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let lost = self.lost().map_or(Ok(()), |part| Err(AppError::Panicked(part)));
        self.stop.store(true, Ordering::Relaxed);
        self.health.stopping();
        self.telemetry.stopping("draining");
        let drained = drain(self.workers);
        // The server may have ended by itself; then nobody listens, and its own error is told below.
        let _ = self.http_stop.send(());
        let served = self.runtime.block_on(self.http);
        // A question that still reads a store must not keep the process.
        self.runtime.shutdown_background();
        drained.and(served.map_or(Err(AppError::Panicked("the HTTP server")), |ended| Ok(ended?))).and(lost)
    }

    /// Stops it and waits.
    ///
    /// # Errors
    /// As [`App::wait`].
    pub fn stop(self) -> Result<(), AppError> {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }
}

/// Listens where it is set to.
async fn listen(main: SocketAddr, probes: Option<SocketAddr>) -> Result<Listeners, AppError> {
    let bind = async |address: SocketAddr| {
        tokio::net::TcpListener::bind(address).await.map_err(|source| AppError::Listen { address, source })
    };
    let probes = match probes {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    Ok(Listeners { main: bind(main).await?, probes })
}

/// Where it listens, for people and for who asked for port 0.
fn told(listeners: &Listeners) -> Result<String, AppError> {
    let main = format!("http://{}", listeners.main.local_addr()?);
    Ok(match &listeners.probes {
        Some(probes) => format!("{main} (probes and metrics also at http://{})", probes.local_addr()?),
        None => main,
    })
}

/// Waits for the workers, each of which publishes, persists and lets go; the first error of one that could not.
fn drain(workers: Vec<JoinHandle<Result<(), WorkerError>>>) -> Result<(), AppError> {
    let deadline = Instant::now() + DRAIN_MAX;
    let mut outcome = Ok(());
    for worker in workers {
        while !worker.is_finished() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let ended = if worker.is_finished() {
            // A panic is told by the worker's own thread; only its end can still panic.
            worker.join().map_or(Err(AppError::Panicked("the end of a worker")), |ended| Ok(ended?))
        } else {
            Err(AppError::Drain)
        };
        outcome = outcome.and(ended);
    }
    outcome
}

fn worker_settings(
    settings: &Settings,
    wiring: &Wiring,
    default_terms: DefaultTerms,
    partitions: i32,
) -> WorkerSettings {
    let task = TaskSettings {
        fold: fold_settings(settings),
        guard: settings.limits_guard,
        default_terms,
        usage_topic: settings.kafka.topics.usage.clone(),
        policies_topic: settings.kafka.topics.policies.clone(),
        clock: Arc::new(TrustedClock::new(Arc::clone(&wiring.clock))),
        working_set_bytes_max: working_set_bytes_max(settings.memory_limit_bytes, partitions),
        top_orgs: settings.top_orgs,
    };
    WorkerSettings {
        task: Arc::new(task),
        group_id: settings.kafka.group_id.clone(),
        adopt_from: wiring.adopt_from,
        poll_wait: POLL_WAIT,
        gather: Duration::ZERO..=GATHER_MAX,
        flush_interval: FLUSH_INTERVAL,
        flush_rows_max: FLUSH_ROWS_MAX,
    }
}

/// What every worker is made of.
struct Crew {
    settings: WorkerSettings,
    opener: Opener,
    kafka: KafkaSettings,
    offsets: OffsetKeeper,
    registry: Option<Arc<dyn SchemaRegistry>>,
    encoding: crate::codec::OutputEncoding,
    shared: Shared,
}

impl Crew {
    /// What follows the decisions, and what answers checks from them.
    fn follow(&self, settings: &Settings, clock: &Arc<dyn Clock>) -> Result<(Gateway, Gate), AppError> {
        let source = Source {
            kafka: self.kafka.clone(),
            registry: self.registry.clone(),
            clock: Arc::clone(clock),
            telemetry: self.shared.telemetry.clone(),
        };
        let gateway = Gateway::start(source, settings.gate.rules)?;
        let telemetry = self.shared.telemetry.clone();
        let gate = Gate::new(gateway.table(), telemetry, Arc::clone(clock), settings.gate.block_status);
        Ok((gateway, gate))
    }

    /// Makes worker `number` and lets it run in a thread of its own.
    fn hire(&self, number: usize, advertise: &str) -> Result<JoinHandle<Result<(), WorkerError>>, AppError> {
        let client_id = format!("{advertise}/{}/{number}", nonce());
        let id = format!("{}/{client_id}", self.kafka.group_id);
        let source = KafkaSource::new(&self.kafka, &client_id, BATCH_RECORDS_MAX, self.offsets.clone())?;
        let sink = KafkaSink::new(&self.kafka, &client_id, &id, self.offsets.clone())?;
        let codec = (Decoder::new(self.registry.clone()), Encoder::new(self.encoding, self.registry.clone()));
        let opener = self.opener.clone();
        let open = Box::new(move |partition| opener.open(partition));
        let shared = self.shared.clone();
        let mut worker = Worker::new(number, (source, sink), codec, self.settings.clone(), shared.clone(), open);
        let thread = std::thread::Builder::new().name(format!("worker-{number}"));
        // One worker that cannot go on ends the instance: another one takes its partitions over.
        Ok(thread.spawn(move || ending::run(number, &shared, || worker.run()))?)
    }
}

/// Bytes that must be free for a store to be opened.
const fn store_space(settings: &Settings) -> u64 {
    store::space_needed(settings.store_memory_bytes())
}

#[derive(Clone)]
struct Opener {
    dir: PathBuf,
    space: u64,
    fold: FoldSettings,
    memory: StoreMemory,
    telemetry: Telemetry,
}

impl Opener {
    fn new(settings: &Settings, open_files: i32, telemetry: Telemetry) -> Self {
        let bytes = usize::try_from(settings.store_memory_bytes()).unwrap_or(usize::MAX);
        let memory = StoreMemory::new(bytes).with_open_files(open_files);
        let (dir, space) = (settings.store.dir.clone(), store_space(settings));
        Self { dir, space, fold: fold_settings(settings), memory, telemetry }
    }

    fn open(&self, partition: i32) -> Result<Store, StoreError> {
        // A disk that is nearly full would only halt the partition again, after a replay.
        store::check_space(&self.dir, self.space)?;
        let store = Store::create_or_open(&self.dir, partition, &self.fold, &self.memory)?;
        if let Some(before) = store.note_zones(zones::version())? {
            self.telemetry.zones_changed(partition, before.as_deref(), zones::version());
        }
        Ok(store)
    }
}

/// One worker a core, for the fold is what costs; no more than there are partitions, and a bounded number.
fn worker_count(partitions: i32) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.clamp(1, WORKERS_MAX).min(usize::try_from(partitions).unwrap_or(1).max(1))
}

/// A quarter of the memory is for working sets, shared by the partitions; half is the store's; the rest is fetched
/// records and what is on its way.
fn working_set_bytes_max(memory: u64, partitions: i32) -> usize {
    let share = memory / 4 / u64::from(partitions.unsigned_abs().max(1));
    usize::try_from(share).unwrap_or(usize::MAX)
}

/// Tells two starts at one address apart: a transactional id is never used by two processes at once.
fn nonce() -> String {
    format!("{:08x}", rand::random::<u32>())
}
