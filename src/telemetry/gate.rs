//! What a gateway meets: checks, and the decisions that it follows.

use std::time::Duration;

use super::{OTHER, Severity, Telemetry};
use crate::domain::limits::decision::{Action, DecisionReason};

impl Telemetry {
    /// A check was answered; a reason that this version does not know counts under [`OTHER`].
    pub fn gate_check(&self, action: Action, reason: &str) {
        let known = DecisionReason::from_name(reason).is_some() || matches!(reason, "UNKNOWN" | "STALE");
        let reason = if known { reason } else { OTHER };
        self.metrics().gate_checks.with_label_values(&[action.name(), reason]).inc();
    }

    /// `gate.stale_after` is shorter than the time between two heartbeats, or hardly longer.
    pub fn gate_impatient(&self, stale_after: Duration) {
        let seconds = stale_after.as_secs_f64();
        tracing::warn!(seconds, "gate.stale_after is short: a heartbeat comes every 10 s, so set 20s or more");
    }

    /// A check that cannot be answered, and why. At most one line in 10 s.
    pub fn gate_refused(&self, detail: &str) {
        self.repeated("gate_refused", Severity::Warn, "checks cannot be answered: the gateway gets a 5xx", detail);
    }

    /// A check has a header that is no dimension's. At most one line in 10 s.
    pub fn gate_stray_header(&self, name: &str) {
        self.repeated(
            "gate_stray_header",
            Severity::Warn,
            "checks have a header that names no dimension: it limits nothing",
            name,
        );
    }

    /// How old the oldest partition's heartbeat is.
    pub fn gate_heartbeat_age(&self, seconds: f64) {
        self.metrics().gate_heartbeat_age.with_label_values::<&str>(&[]).set(seconds);
    }

    /// So many scopes have a decision in the gate's table.
    pub fn gate_scopes(&self, scopes: usize) {
        self.metrics().gate_scopes.set(i64::try_from(scopes).unwrap_or(i64::MAX));
    }

    /// The decisions have been read to their end: so many scopes.
    pub fn gate_ready(&self, scopes: usize, took: Duration) {
        tracing::info!(scopes, seconds = took.as_secs_f64(), "the gateway has read all decisions");
    }

    /// The decisions cannot be followed now; what is known holds, and it is tried again. At most one line in 10 s.
    pub fn gate_lost(&self, message: &str) {
        self.repeated(
            "gate_lost",
            Severity::Warn,
            "the gateway cannot follow the decisions; it tries again",
            message,
        );
    }

    /// A decision cannot be read. At most one line in 10 s.
    pub fn gate_unreadable(&self, message: &str) {
        self.repeated("gate_unreadable", Severity::Warn, "the gateway met decisions that it cannot read", message);
    }
}
