//! Decisions as Tallyman publishes them, and a table to put them in.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tallyman::clock::ManualClock;
use tallyman::codec::{DecodeError, Decoder};
use tallyman::domain::limits::scope::{BudgetScope, Scope};
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::gateway::table::{Applied, Came, Rules, Table};

/// What the clock shows at first: 2026-11-20T12:00:00Z.
pub const NOON: i64 = 1_795_176_000_000_000;
/// End of every decision's period: an hour later.
pub const RESET: i64 = NOON + 3_600_000_000;
pub const PARTITIONS: usize = 4;

/// A table, the clock it tells heartbeats by, and the follower's part of it.
pub struct Bench {
    pub table: Arc<Table>,
    pub clock: ManualClock,
    pub decoder: Decoder,
}

impl Bench {
    /// A table that is ready and empty, its heartbeats never heard.
    pub fn new(rules: Rules) -> Self {
        let clock = ManualClock::new(Timestamp::from_micros(NOON));
        let table = Arc::new(Table::new(rules, Arc::new(clock.clone())));
        table.set_partitions(PARTITIONS);
        table.set_ready();
        Self { table, clock, decoder: Decoder::new(None) }
    }

    pub fn try_put(&mut self, key: &str, value: &Value) -> Result<Applied, DecodeError> {
        self.take(key, value, Came::Now)
    }

    pub fn take(&mut self, key: &str, value: &Value, came: Came) -> Result<Applied, DecodeError> {
        self.table.apply(&mut self.decoder, (key.as_bytes(), Some(value.to_string().as_bytes())), came)
    }

    pub fn put(&mut self, scope: &Scope, value: &Value) -> Applied {
        self.try_put(&scope.key(), value).unwrap()
    }

    pub fn remove(&mut self, scope: &Scope) -> Applied {
        self.table.apply(&mut self.decoder, (scope.key().as_bytes(), None), Came::Now).unwrap()
    }

    /// Every partition's decider was heard so long ago, as records tell that stood in the topic already.
    pub fn heard(&mut self, ago: Duration) {
        let at = NOON - i64::try_from(ago.as_micros()).unwrap();
        for partition in 0..PARTITIONS {
            let value = json!({"type": "Heartbeat", "partition": partition, "at": at, "log_time": at});
            let came = Came::Before(Timestamp::from_micros(at));
            self.take(&format!("!heartbeat|{partition}"), &value, came).unwrap();
        }
    }
}

/// A scope under a budget; a dimension without a value is a `*` budget's.
pub fn scope(org: &str, dimension: Option<Dimension>, value: Option<&str>, budget: &str) -> Scope {
    let budget = BudgetScope { dimension, value: value.map(Into::into), budget_id: budget.into() };
    Scope { org_id: org.into(), budget: Some(budget) }
}

/// A decision's JSON.
pub fn decision(scope: &Scope, action: &str, remaining: Option<i64>, version: i64) -> Value {
    let budget = scope.budget.as_ref();
    let reason = match (action, budget) {
        ("BLOCK", None) => "ALLOWANCE_SPENT",
        ("BLOCK", Some(_)) => "BUDGET_SPENT",
        (_, None) => "WITHIN_ALLOWANCE",
        (_, Some(_)) => "WITHIN_BUDGET",
    };
    json!({
        "type": "LimitDecision",
        "org_id": scope.org_id,
        "dimension": budget.and_then(|budget| budget.dimension).map(Dimension::name),
        "value": budget.and_then(|budget| budget.value.clone()),
        "budget_id": budget.map(|budget| &budget.budget_id),
        "budget_name": budget.map(|_| "a budget"),
        "period": budget.map(|_| "month"),
        "action": action, "reason": reason, "level": 0, "used": "0.000000", "allowance": "10.000000",
        "extra": "0.000000", "remaining": remaining.map(|credits| format!("{credits}.000000")),
        "credits_per_second": "0.000000", "period_start": 0, "period_end": RESET, "valid_until": RESET,
        "version": version, "decided_at": version, "forecast_alerted_on": null, "purchases_requested": 0,
        "cause_partition": null, "cause_offset": null, "cause_event_id": null, "cause_trace_id": null,
        "policy_offset": null,
    })
}
