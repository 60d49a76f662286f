//! What this process tells of itself: one method per happening, which counts it and, where a person should read of
//! it, logs one line in plain words. Never a line per record; never a global but what Kafka's
//! clients write (`repeats.rs`): a test has its own `Telemetry`.
//!
//! Names and buckets: `metrics.rs`. What goes away with a partition: `partitions.rs`. Readiness: `health.rs`.
//! Where log lines go: `log.rs`.

mod gate;
mod health;
pub mod log;
mod metrics;
mod partitions;
mod repeats;
mod series;
mod unknown;
mod worker;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prometheus::TextEncoder;
use prometheus::proto::{Metric, MetricFamily};

pub use health::{Health, KafkaTrouble, TaskState};
use metrics::Metrics;
use partitions::Partitions;
pub use repeats::{CLIENTS, Line, Repeats, Severity};
use series::CreditSeries;
use unknown::Named;
pub use worker::TransactionFailure;

use crate::domain::credits::CreditSum;
use crate::domain::limits::alert::AlertKind;
use crate::domain::limits::decision::{Action, DecisionReason};
use crate::domain::usage::reject::Reason;

/// The label value of all the rest.
pub const OTHER: &str = "__other__";

/// What became of a usage record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOutcome {
    /// It is in the rows.
    Folded,
    /// Its id was seen before.
    Duplicate,
    /// It is in the dead-letter topic.
    DeadLetter,
    /// It went to its org's partition.
    Forwarded,
}

impl RecordOutcome {
    pub(super) const ALL: [Self; 4] = [Self::Folded, Self::Duplicate, Self::DeadLetter, Self::Forwarded];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Folded => "folded",
            Self::Duplicate => "duplicate",
            Self::DeadLetter => "dead_letter",
            Self::Forwarded => "forwarded",
        }
    }
}

/// How far a partition is behind its logs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LagReading {
    /// Stable records not yet folded.
    pub records: i64,
    /// Seconds since the oldest of them was written at most, 0 when there is none.
    pub seconds: f64,
    /// High watermark - last stable offset.
    pub unstable: i64,
    /// Policies records not yet read.
    pub policies: i64,
}

/// One org's use of its period, for the gauges of the largest orgs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgUse {
    /// Which org.
    pub org: String,
    /// Credits used in the period.
    pub used: CreditSum,
    /// Its allowance; `None` when unlimited.
    pub allowance: Option<CreditSum>,
}

/// How the group moved partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// They came.
    Assigned,
    /// They go, after a handover.
    Revoked,
    /// They are gone without one.
    Lost,
}

#[derive(Default)]
struct State {
    partitions: Partitions,
    unknown_fields: Named,
    credit_series: CreditSeries,
}

struct Inner {
    metrics: Metrics,
    top_orgs: usize,
    state: Mutex<State>,
    repeats: Repeats,
    observed: OnceLock<Observed>,
}

/// What is looked at when somebody asks for the metrics.
struct Observed {
    health: Health,
    free_bytes: Box<dyn Fn() -> Option<u64> + Send + Sync>,
}

impl Observed {
    fn gather(&self, metrics: &Metrics) {
        metrics.ready.set(self.health.ready().is_ok().into());
        metrics.kafka_connected.set(self.health.is_connected().into());
        if let Some(free) = (self.free_bytes)() {
            metrics.store_free.with_label_values::<&str>(&[]).set(i64::try_from(free).unwrap_or(i64::MAX));
        }
        metrics.partition_state.reset();
        for (partition, task) in self.health.tasks() {
            let partition = partition.to_string();
            for state in TaskState::LABELS {
                let is_it = i64::from(state == task.label());
                metrics.partition_state.with_label_values(&[partition.as_str(), state]).set(is_it);
            }
        }
    }
}

/// The metrics and log lines of one process; clones share them.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry")
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new(20)
    }
}

impl Telemetry {
    /// With gauges for the `top_orgs` largest orgs (`metrics.top_orgs`).
    #[must_use]
    pub fn new(top_orgs: usize) -> Self {
        Self::with(Metrics::new(|_| true), top_orgs)
    }

    /// Of a process that only follows decisions and answers checks: it exports no series of a processor.
    #[must_use]
    pub fn of_gate() -> Self {
        Self::with(Metrics::new(metrics::is_of_gate), 0)
    }

    fn with(metrics: Metrics, top_orgs: usize) -> Self {
        let (repeats, observed) = (Repeats::new(), OnceLock::new());
        Self(Arc::new(Inner { metrics, top_orgs, state: Mutex::default(), repeats, observed }))
    }

    /// From now on the metrics show this health, and what this gives as free bytes on the disk of the stores. The first
    /// call counts.
    pub fn observe(&self, health: Health, free_bytes: impl Fn() -> Option<u64> + Send + Sync + 'static) {
        // A second one would be of another instance in this process; each has a Telemetry of its own.
        let _ = self.0.observed.set(Observed { health, free_bytes: Box::new(free_bytes) });
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every write under this lock leaves whole figures, so a poisoned one is as good as any.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every metric in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.rendered(|_| true)
    }

    /// Every metric but those that name organisations.
    #[must_use]
    pub fn render_without_orgs(&self) -> String {
        let names_orgs = |metric: &Metric| metric.get_label().iter().any(|label| label.name() == "org");
        self.rendered(|family| !family.get_metric().iter().any(names_orgs))
    }

    fn rendered(&self, shown: impl Fn(&MetricFamily) -> bool) -> String {
        let state = self.state();
        state.partitions.gather(self.metrics(), self.0.top_orgs);
        if let Some(observed) = self.0.observed.get() {
            observed.gather(self.metrics());
        }
        let mut families = self.metrics().registry.gather();
        families.retain(shown);
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    /// Logs what happened again and again and was counted meanwhile. To be called every second or so.
    pub fn tick(&self) {
        self.0.repeats.tick();
        CLIENTS.tick();
    }

    /// Something that can happen again and again: at most one line of each cause in ten seconds.
    fn repeated(&self, cause: &'static str, severity: Severity, what: &'static str, detail: &str) {
        let line = Line { severity, what: what.into(), detail: detail.to_owned(), count: 1 };
        self.0.repeats.happened(cause, line);
    }

    // What happens to records.

    /// `count` usage records met this outcome.
    pub fn records(&self, outcome: RecordOutcome, count: u64) {
        self.metrics().records.with_label_values(&[outcome.label()]).inc_by(count);
    }

    /// How many usage records met any outcome so far.
    #[must_use]
    pub fn records_so_far(&self) -> u64 {
        RecordOutcome::ALL
            .iter()
            .map(|outcome| self.metrics().records.with_label_values(&[outcome.label()]).get())
            .sum()
    }

    /// `count` JSON fields of no known name were ignored.
    pub fn unknown_fields(&self, count: u64) {
        self.metrics().unknown_fields.inc_by(count);
    }

    /// A producer sends a field that its record does not have. Each field of each source is logged once, some at a time.
    pub fn unknown_field(
        &self,
        record: &str,
        source: &str,
        field: &str,
        nearest: impl FnOnce() -> Option<&'static str>,
    ) {
        if !self.state().unknown_fields.is_news(source, field, Instant::now()) {
            return;
        }
        let hint = nearest().map(|known| format!("; did its producer mean `{known}`?")).unwrap_or_default();
        // It comes from a record: a line break in it would begin a line of the log.
        let name = field.escape_debug();
        tracing::warn!(source, field, record, "`{name}` is no field of {record} and is ignored{hint}");
    }

    /// `count` records went to the dead-letter topic for `reason`; `example` tells place and detail of one of them.
    /// At most one line per reason in 10 s.
    pub fn dead_letter(&self, reason: Reason, count: u64, example: &str) {
        self.metrics().dead_letters.with_label_values(&[reason.as_str()]).inc_by(count);
        let line = Line {
            severity: Severity::Warn,
            what: format!("records went to the dead-letter topic: {}", reason.as_str()).into(),
            detail: example.to_owned(),
            count,
        };
        self.0.repeats.happened(reason.as_str(), line);
    }

    /// Credits were folded live, not in a replay. Pairs that are not among the largest count under `__other__`.
    pub fn credits(&self, product: &str, model: Option<&str>, credits: CreditSum) {
        let pair = (product.to_owned(), model.unwrap_or_default().to_owned());
        let credits = credits.approx().max(0.0);
        if !self.state().credit_series.add(pair, credits, &self.metrics().credits) {
            self.metrics().series_dropped.inc();
        }
    }

    /// A correction of so many credits was folded live: direction `up` or `down`.
    pub fn adjusted(&self, credits: CreditSum) {
        let direction = if credits < CreditSum::ZERO { "down" } else { "up" };
        self.metrics().adjusted.with_label_values(&[direction]).inc_by(credits.approx().abs());
    }

    /// A batch of so many records was taken from the log.
    pub fn batch(&self, records: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a histogram is of floats, a batch far below 2^52")]
        self.metrics().batch.observe(records as f64);
    }

    // What is decided and published.

    /// A decision was published.
    pub fn decided(&self, action: Action, reason: DecisionReason) {
        self.metrics().decisions.with_label_values(&[action.name(), reason.name()]).inc();
    }

    /// An alert was published.
    pub fn alerted(&self, kind: AlertKind) {
        self.metrics().alerts.with_label_values(&[kind.name()]).inc();
    }

    /// So many seconds went by between a record's Kafka timestamp and the commit of what it caused, in a partition that
    /// had caught up.
    pub fn event_to_decision(&self, seconds: f64) {
        self.metrics().event_to_decision.observe(seconds);
    }

    /// A block ended that usage had caused: so many credits were folded beyond the limit meanwhile.
    pub fn overshoot(&self, credits: CreditSum) {
        self.metrics().overshoot.observe(credits.approx());
    }

    // What becomes of partitions.

    /// The group moved partitions; the series of those that go vanish.
    pub fn rebalanced(&self, moved: Moved, partitions: &[i32]) {
        self.metrics().rebalances.inc();
        let mut state = self.state();
        for &partition in partitions {
            match moved {
                Moved::Assigned => drop(state.partitions.assigned.insert(partition)),
                Moved::Revoked | Moved::Lost => state.partitions.gone(partition, self.metrics()),
            }
        }
        let owned = state.partitions.assigned.len();
        drop(state);
        match moved {
            Moved::Assigned => tracing::info!(?partitions, owned, "partitions were assigned"),
            Moved::Revoked => tracing::info!(?partitions, owned, "partitions go to another member"),
            Moved::Lost => tracing::warn!(
                ?partitions,
                owned,
                "partitions are no longer ours: the group has not heard from this member for session.timeout.ms; another \
                 member, if there is one, has them now"
            ),
        }
    }

    /// A partition is live: restored and replayed from position `from` to `to` within `took`.
    pub fn restored(&self, partition: i32, took: Duration, from: i64, to: i64) {
        self.metrics().restore.observe(took.as_secs_f64());
        let (seconds, replayed) = (took.as_secs_f64(), to.saturating_sub(from));
        tracing::info!(partition, seconds, from, to, replayed, "partition is restored and live");
    }

    /// How far a partition is behind; without a reading its series vanish, for nobody knows.
    pub fn lag(&self, partition: i32, reading: Option<LagReading>) {
        let Some(reading) = reading else { return partitions::forget_lag(partition, self.metrics()) };
        let label = partition.to_string();
        let label = &[label.as_str()];
        self.metrics().lag_records.with_label_values(label).set(reading.records);
        self.metrics().lag_seconds.with_label_values(label).set(reading.seconds);
        self.metrics().unstable_records.with_label_values(label).set(reading.unstable);
        self.metrics().policies_lag.with_label_values(label).set(reading.policies);
    }

    /// A partition's periods were last made with another time-zone database: `None` where nothing tells which.
    pub fn zones_changed(&self, partition: i32, before: Option<&str>, now: &str) {
        let before = before.unwrap_or("not recorded");
        tracing::warn!(
            partition,
            before,
            now,
            "the time-zone database is another one: where a zone's rules differ between the two, days and periods of its \
             organisations begin and end at other hours, closed periods too, and `query periods` may give other sums for \
             them. Sums by UTC hour stay. To keep the periods as they were, run with the database of before"
        );
    }

    /// A partition stopped until a person acts. `message` says what happened and what to do.
    pub fn halted(&self, partition: i32, reason: &'static str, message: &str) {
        let mut state = self.state();
        state.partitions.clear_halt(partition, self.metrics());
        state.partitions.of(partition).halted = Some(reason);
        self.metrics().halted.with_label_values(&[partition.to_string().as_str(), reason]).set(1);
        drop(state);
        tracing::error!(partition, reason, error = message, "partition is halted; the others go on");
    }

    /// A halted partition goes on.
    pub fn unhalted(&self, partition: i32) {
        if self.state().partitions.clear_halt(partition, self.metrics()) {
            tracing::info!(partition, "partition goes on");
        }
    }

    /// How many orgs of a partition have usage and no policy, and how many of its scopes are blocked now.
    pub fn orgs(&self, partition: i32, without_policy: u64, blocked: u64) {
        let mut state = self.state();
        let figures = state.partitions.of(partition);
        (figures.without_policy, figures.blocked) = (without_policy, blocked);
    }

    /// How many orgs of a partition wait for the answer to a purchase request.
    pub fn pending_purchases(&self, partition: i32, count: u64) {
        self.state().partitions.of(partition).pending_purchases = count;
    }

    /// The largest orgs of a partition; those of all partitions are merged into `tallyman_org_*`.
    pub fn set_top_orgs(&self, partition: i32, orgs: Vec<OrgUse>) {
        self.state().partitions.of(partition).top_orgs = orgs;
    }

    // What the rooms around the worker meet.

    /// Kafka does not do what it is asked.
    pub fn kafka_is_away(&self, trouble: &KafkaTrouble) {
        tracing::error!("{}", trouble.message);
    }

    /// Kafka does again what it is asked.
    pub fn kafka_is_back(&self, trouble: &KafkaTrouble) {
        tracing::info!(seconds = trouble.since.elapsed().as_secs_f64(), "Kafka does again what it is asked");
    }

    /// A store batch of so many rows was written.
    pub fn flushed(&self, partition: i32, took: Duration, rows: usize) {
        self.metrics().store_flush.observe(took.as_secs_f64());
        tracing::debug!(partition, rows, seconds = took.as_secs_f64(), "store batch written");
    }

    /// A store's bytes on disk, and RocksDB's running total of stalled microseconds since the store was opened.
    pub fn store(&self, partition: i32, bytes: u64, stall_micros: u64) {
        let mut state = self.state();
        let figures = state.partitions.of(partition);
        // A smaller total is that of a store opened anew.
        let since = stall_micros.checked_sub(figures.stall_micros).unwrap_or(stall_micros);
        (figures.store_bytes, figures.stall_micros) = (bytes, stall_micros);
        self.metrics().store_stall.inc_by(Duration::from_micros(since).as_secs_f64());
    }

    /// The schema registry did not answer as it should; the call is tried again. At most one line in 10 s.
    pub fn registry_error(&self, message: &str) {
        self.metrics().registry_errors.inc();
        let what = "records wait for the schema registry; none is lost";
        self.repeated("registry", Severity::Warn, what, message);
    }

    // What HTTP meets, and the process.

    /// An HTTP request was answered. `route` is the matched pattern, never the path itself.
    pub fn http(&self, method: &str, route: &str, status: u16, took: Duration) {
        let status = status.to_string();
        self.metrics().http.with_label_values(&[method, route, status.as_str()]).observe(took.as_secs_f64());
    }

    /// A listener opened: its series begin.
    pub fn http_listening(&self, listener: &str) {
        self.metrics().http_connections.with_label_values(&[listener]).set(0);
        self.metrics().http_refused.with_label_values(&[listener]).inc_by(0);
    }

    /// A listener has so many connections more, or less.
    pub fn http_connections(&self, listener: &str, change: i64) {
        self.metrics().http_connections.with_label_values(&[listener]).add(change);
    }

    /// A listener has as many connections as it may have and refused another. At most one line in 10 s.
    pub fn http_refused(&self, listener: &str) {
        self.metrics().http_refused.with_label_values(&[listener]).inc();
        let what = "connections were refused with 503: too many are open";
        self.repeated("http_refused", Severity::Warn, what, listener);
    }

    /// The process is up. `what` names the command and what it joined.
    pub fn started(&self, what: &str) {
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "started: {what}");
    }

    /// The process drains and ends, and why.
    pub fn stopping(&self, why: &str) {
        tracing::info!("stopping: {why}");
    }
}

#[cfg(test)]
mod tests;
