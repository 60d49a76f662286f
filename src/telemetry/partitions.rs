//! What each owned partition last said of itself. Gauges without a `partition` label are sums over it, and the
//! largest orgs are merged from it, so that a partition's share goes away with the partition.

use std::collections::{BTreeMap, BTreeSet};

use super::{OrgUse, metrics::Metrics};

/// The last figures of one partition.
#[derive(Default)]
pub(super) struct Partition {
    pub(super) without_policy: u64,
    pub(super) blocked: u64,
    pub(super) pending_purchases: u64,
    pub(super) store_bytes: u64,
    /// RocksDB's running total when it was last read: the counter takes differences.
    pub(super) stall_micros: u64,
    pub(super) top_orgs: Vec<OrgUse>,
    pub(super) halted: Option<&'static str>,
}

/// Removes what is shown of a partition's lag.
pub(super) fn forget_lag(partition: i32, metrics: &Metrics) {
    let label = partition.to_string();
    let label = &[label.as_str()];
    // A series that was never set has nothing to remove: that error is no error.
    let _ = metrics.lag_records.remove_label_values(label);
    let _ = metrics.lag_seconds.remove_label_values(label);
    let _ = metrics.unstable_records.remove_label_values(label);
    let _ = metrics.policies_lag.remove_label_values(label);
}

/// All owned partitions.
#[derive(Default)]
pub(super) struct Partitions {
    pub(super) assigned: BTreeSet<i32>,
    figures: BTreeMap<i32, Partition>,
}

impl Partitions {
    /// The figures of a partition, empty ones at first.
    pub(super) fn of(&mut self, partition: i32) -> &mut Partition {
        self.figures.entry(partition).or_default()
    }

    /// Forgets a partition and its series.
    pub(super) fn gone(&mut self, partition: i32, metrics: &Metrics) {
        self.clear_halt(partition, metrics);
        self.assigned.remove(&partition);
        self.figures.remove(&partition);
        forget_lag(partition, metrics);
        let _ = metrics.last_commit.remove_label_values(&[partition.to_string().as_str()]);
    }

    /// Takes the halt of a partition back; tells whether there was one.
    pub(super) fn clear_halt(&mut self, partition: i32, metrics: &Metrics) -> bool {
        let halted = self.figures.get_mut(&partition).and_then(|figures| figures.halted.take());
        if let Some(reason) = halted {
            let _ = metrics.halted.remove_label_values(&[partition.to_string().as_str(), reason]);
        }
        halted.is_some()
    }

    /// Writes the sums and the `top` largest orgs into their gauges.
    pub(super) fn gather(&self, metrics: &Metrics, top: usize) {
        let sum = |pick: fn(&Partition) -> u64| {
            i64::try_from(self.figures.values().map(pick).sum::<u64>()).unwrap_or(i64::MAX)
        };
        metrics.blocked_scopes.set(sum(|figures| figures.blocked));
        metrics.orgs_without_policy.set(sum(|figures| figures.without_policy));
        metrics.pending_purchases.set(sum(|figures| figures.pending_purchases));
        metrics.store_bytes.set(sum(|figures| figures.store_bytes));
        metrics.assigned.set(i64::try_from(self.assigned.len()).unwrap_or(i64::MAX));

        let mut orgs: Vec<&OrgUse> = self.figures.values().flat_map(|figures| &figures.top_orgs).collect();
        orgs.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.org.cmp(&b.org)));
        for family in [&metrics.org_used, &metrics.org_allowance, &metrics.org_ratio] {
            family.reset();
        }
        for org in orgs.into_iter().take(top) {
            let label = &[org.org.as_str()];
            metrics.org_used.with_label_values(label).set(org.used.approx());
            let Some(allowance) = org.allowance else { continue };
            metrics.org_allowance.with_label_values(label).set(allowance.approx());
            // Percent is null at an allowance of 0 (CONTRACT.md, Meaning: Allowance); so is the ratio.
            if allowance.micros() > 0 {
                metrics.org_ratio.with_label_values(label).set(org.used.approx() / allowance.approx());
            }
        }
    }
}
