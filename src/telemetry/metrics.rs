//! The metric families: every name of CONTRACT.md "Metrics" that has a source. Names, labels and buckets live here
//! and nowhere else. What changes them: `mod.rs`; what is gathered per partition first: `partitions.rs`.

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Counter, CounterVec, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result,
};

use super::RecordOutcome;
use crate::domain::usage::reject::Reason;
use crate::domain::zones;

const SECONDS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
const LONG_SECONDS: &[f64] = &[0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
const HTTP_SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
const BATCH: &[f64] = &[1.0, 10.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0, 50_000.0];
const CREDITS: &[f64] = &[0.0, 0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0];

/// One table for the struct and its making: a family's field, type, name, help and labels stand in one place.
macro_rules! families {
    ($($field:ident: $kind:ident = $made:expr;)*) => {
        /// Every family, registered in one registry.
        pub(super) struct Metrics {
            pub(super) registry: Registry,
            $(pub(super) $field: $kind,)*
        }

        impl Metrics {
            /// All families, those whose name is `exported` in a registry of their own.
            pub(super) fn new(exported: fn(&str) -> bool) -> Self {
                let registry = Registry::new();
                let process = ProcessCollector::for_self();
                registry.register(Box::new(process)).expect("each metric's name is registered once");
                let metrics = Self { $($field: registered(&registry, $made, exported),)* registry };
                super::worker::transaction_outcomes().for_each(|outcome| {
                    metrics.transactions.with_label_values(&[outcome]);
                });
                // What was never counted is 0: else the first of its kind is no increase.
                Reason::ALL.iter().for_each(|reason| {
                    metrics.dead_letters.with_label_values(&[reason.as_str()]);
                });
                RecordOutcome::ALL.iter().for_each(|outcome| {
                    metrics.records.with_label_values(&[outcome.label()]);
                });
                metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
                metrics.time_zones.with_label_values(&[zones::source(), zones::version()]).set(1);
                metrics
            }
        }
    };
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: Result<C>,
    exported: fn(&str) -> bool,
) -> C {
    let family = made.expect("a metric's name and labels are legal constants");
    if family.desc().iter().all(|desc| exported(&desc.fq_name)) {
        registry.register(Box::new(family.clone())).expect("each metric's name is registered once");
    }
    family
}

/// Whether a family is of `tallyman gate`, which has no processor.
pub(super) fn is_of_gate(name: &str) -> bool {
    let prefixes = ["tallyman_gate_", "tallyman_http_", "tallyman_registry_", "tallyman_build_info"];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn sums(name: &str, help: &str, labels: &[&str]) -> Result<CounterVec> {
    CounterVec::new(Opts::new(name, help), labels)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

fn floats(name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
    GaugeVec::new(Opts::new(name, help), labels)
}

fn steps(name: &str, help: &str, steps: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(steps.to_vec())
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
    Histogram::with_opts(steps(name, help, buckets))
}

fn histograms(name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> Result<HistogramVec> {
    HistogramVec::new(steps(name, help, buckets), labels)
}

families! {
    records: IntCounterVec = counters("tallyman_records_total", "Usage records by outcome.", &["outcome"]);
    unknown_fields: IntCounter =
        IntCounter::new("tallyman_unknown_fields_total", "JSON fields of no known name, ignored.");
    dead_letters: IntCounterVec = counters("tallyman_dead_letters_total", "Dead letters.", &["reason"]);
    lag_records: IntGaugeVec = gauges("tallyman_lag_records", "Records not yet folded.", &["partition"]);
    lag_seconds: GaugeVec =
        floats("tallyman_lag_seconds", "Age of the oldest record not yet folded, at most.", &["partition"]);
    policies_lag: IntGaugeVec =
        gauges("tallyman_policies_lag_records", "Records of the policies topic not yet read.", &["partition"]);
    unstable_records: IntGaugeVec =
        gauges("tallyman_unstable_records", "Records that open transactions hold back.", &["partition"]);
    event_to_decision: Histogram = histogram(
        "tallyman_event_to_decision_seconds",
        "From a record's Kafka timestamp to the commit of what it caused, once caught up.",
        SECONDS,
    );
    decisions: IntCounterVec =
        counters("tallyman_decisions_total", "Decisions published.", &["action", "reason"]);
    alerts: IntCounterVec = counters("tallyman_alerts_total", "Alerts published.", &["kind"]);
    blocked_scopes: IntGauge = IntGauge::new("tallyman_blocked_scopes", "Scopes blocked now.");
    overshoot: Histogram =
        histogram("tallyman_overshoot_credits", "Credits folded beyond a limit, once per block.", CREDITS);
    credits: CounterVec = sums(
        "tallyman_credits_total",
        "Credits folded live, approximately; exact sums are in the API.",
        &["product", "model"],
    );
    adjusted: CounterVec =
        sums("tallyman_adjusted_credits_total", "Credits corrected, approximately.", &["direction"]);
    org_used: GaugeVec = floats("tallyman_org_used_credits", "Used in the period by the largest orgs.", &["org"]);
    org_allowance: GaugeVec =
        floats("tallyman_org_allowance_credits", "Allowance of the largest orgs.", &["org"]);
    org_ratio: GaugeVec = floats("tallyman_org_used_ratio", "Used / allowance of the largest orgs.", &["org"]);
    series_dropped: IntCounter =
        IntCounter::new("tallyman_series_dropped_total", "Happenings counted under __other__ labels.");
    orgs_without_policy: IntGauge =
        IntGauge::new("tallyman_orgs_without_policy", "Orgs with usage and without a policy.");
    pending_purchases: IntGauge = IntGauge::new(
        "tallyman_pending_purchases",
        "Orgs whose last purchase request of the period waits for its answer.",
    );
    transactions: IntCounterVec =
        counters("tallyman_transactions_total", "Kafka transactions by how they ended.", &["outcome"]);
    transaction: Histogram =
        histogram("tallyman_transaction_duration_seconds", "Kafka transactions that committed.", SECONDS);
    batch: Histogram = histogram("tallyman_batch_records", "Records in one batch.", BATCH);
    last_commit: GaugeVec =
        floats("tallyman_last_commit_timestamp_seconds", "When offsets were last committed.", &["partition"]);
    ready: IntGauge = IntGauge::new("tallyman_ready", "1 while /readyz answers 200.");
    kafka_connected: IntGauge = IntGauge::new("tallyman_kafka_connected", "1 while Kafka answers.");
    partition_state: IntGaugeVec =
        gauges("tallyman_partition_state", "1 for the state that a partition is in.", &["partition", "state"]);
    halted: IntGaugeVec =
        gauges("tallyman_partition_halted", "1 while a partition is halted.", &["partition", "reason"]);
    registry_errors: IntCounter =
        IntCounter::new("tallyman_registry_errors_total", "Failed calls of the schema registry.");
    store_bytes: IntGauge = IntGauge::new("tallyman_store_bytes", "Bytes of all stores on disk.");
    store_free: IntGaugeVec = gauges("tallyman_store_free_bytes", "Bytes free on the disk of the stores.", &[]);
    store_stall: Counter =
        Counter::new("tallyman_store_stall_seconds_total", "Time that writes waited for a store.");
    store_flush: Histogram =
        histogram("tallyman_store_flush_duration_seconds", "Writes of one store batch.", SECONDS);
    rebalances: IntCounter = IntCounter::new("tallyman_rebalances_total", "Changes of assignment.");
    assigned: IntGauge = IntGauge::new("tallyman_assigned_partitions", "Partitions owned now.");
    restore: Histogram =
        histogram("tallyman_restore_duration_seconds", "From a partition's assignment to live.", LONG_SECONDS);
    gate_checks: IntCounterVec = counters("tallyman_gate_checks_total", "Checks by verdict.", &["action", "reason"]);
    gate_heartbeat_age: GaugeVec = floats(
        "tallyman_gate_heartbeat_age_seconds",
        "Age of the oldest partition's heartbeat, infinite before the first.",
        &[],
    );
    gate_scopes: IntGauge = IntGauge::new("tallyman_gate_scopes", "Scopes with a decision in the gate's table.");
    http_connections: IntGaugeVec =
        gauges("tallyman_http_connections", "Connections that are open now.", &["listener"]);
    http_refused: IntCounterVec = counters(
        "tallyman_http_connections_refused_total",
        "Connections refused with 503 because too many were open.",
        &["listener"],
    );
    http: HistogramVec = histograms(
        "tallyman_http_request_duration_seconds",
        "HTTP requests.",
        HTTP_SECONDS,
        &["method", "route", "status"],
    );
    build_info: IntGaugeVec = gauges("tallyman_build_info", "Always 1; the running version.", &["version"]);
    time_zones: IntGaugeVec = gauges(
        "tallyman_time_zone_database_info",
        "Always 1; the time-zone database in use.",
        &["source", "version"],
    );
}
