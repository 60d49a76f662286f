//! Publish, then persist (Law 3): when a task begins to speak, what it proposes, and what it takes as published once a
//! commit is known. Next to read: `flush`.

use crate::clock::Clock as _;
use crate::codec::{Encoder, RegistryError};
use crate::domain::limits::decision::Heartbeat;
use crate::domain::time::Timestamp;
use crate::processor::checksum::{Checksum, settings_crc};
use crate::processor::metadata::CommitMetadata;
use crate::processor::orgs::Law;
use crate::processor::ports::{CommitOffset, Output, OutputTopic};
use crate::processor::recovery::Halt;
use crate::store::PoliciesRead;
use crate::telemetry::{OrgUse, Telemetry};

use super::{Task, TaskError};

/// Orgs of one page when all are loaded.
const ORGS_PAGE: usize = 10_000;

impl Task {
    /// Whether it has replayed up to O* and loaded its terms, and may begin to speak (Law 5).
    #[must_use]
    pub const fn is_ready_to_speak(&self) -> bool {
        !self.speaking
            && self.meta.position >= self.recovered.published_through
            && self.meta.policies_position >= self.recovered.policies_end
    }

    /// The next offset at which a replay must pause so that the task begins to speak: records beyond are live.
    #[must_use]
    pub const fn mute_ends_at(&self) -> Option<i64> {
        if self.speaking { None } else { Some(self.recovered.published_through) }
    }

    /// Begins to speak: every org is loaded from the store, which was just persisted, and queued for a decision.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn speak(&mut self) -> Result<(), TaskError> {
        let now = self.instant(self.settings.clock.now());
        let law = Law { terms: &self.terms, default: &self.settings.default_terms, now };
        let reader = self.store.reader();
        let snapshot = reader.snapshot();
        let mut after: Option<String> = None;
        loop {
            let page = snapshot.orgs(after.as_deref(), ORGS_PAGE)?;
            for org in &page {
                let place = self.orgs.find(org, &self.store, law)?;
                self.orgs.enqueue(place);
            }
            match page.into_iter().last() {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        for org in self.terms.orgs().map(|org| org.as_str().to_owned()).collect::<Vec<_>>() {
            let place = self.orgs.find(&org, &self.store, law)?;
            self.orgs.enqueue(place);
        }
        for level in std::mem::take(&mut self.recovered.levels) {
            let place = self.orgs.find(&level.scope.org_id, &self.store, law)?;
            self.orgs.restore(place, &level);
        }
        self.orgs.recall(&self.store, law)?;
        self.speaking = true;
        self.meta.position = self.meta.position.max(self.log_end);
        Ok(())
    }

    /// Decides what waits, at most `count_max` orgs and scopes beside those that batches changed; the changes are
    /// proposals until `committed`.
    pub fn decide(&mut self, count_max: usize) {
        let now = self.instant(self.settings.clock.now());
        self.orgs.ring(now);
        // A proposal that could not be encoded yet is not what `previous` would say: the queue waits for its commit.
        if self.changes.is_empty() && self.endings.is_empty() && self.orgs.has_queue() {
            let law = Law { terms: &self.terms, default: &self.settings.default_terms, now };
            let mut changes = self.orgs.decide(count_max, law);
            self.changes.append(&mut changes);
            let rest = count_max.saturating_sub(self.changes.len());
            self.orgs.decide_budgets(rest, law, &mut self.changes, &mut self.endings);
        }
    }

    /// Whether there is anything to publish besides the position.
    #[must_use]
    pub const fn has_outputs(&self) -> bool {
        !self.outbox.is_empty() || !self.changes.is_empty() || !self.endings.is_empty()
    }

    /// Whether orgs wait to be decided: at once, or after the next flush.
    #[must_use]
    pub const fn wants_flush(&self) -> bool {
        self.orgs.wants_flush()
    }

    /// Whether queued orgs remain to be decided.
    #[must_use]
    pub const fn has_queue(&self) -> bool {
        self.orgs.has_queue()
    }

    /// Whether its position is ahead of the last known commit.
    #[must_use]
    pub fn is_ahead_of_commit(&self) -> bool {
        (self.meta.position, self.meta.policies_position) != self.committed
    }

    /// Puts all that it has to say into `outputs`: dead letters and forwards, decisions, and the alerts and purchases that go with them.
    ///
    /// # Errors
    /// When the schema of an output cannot be registered; ask again later.
    pub fn propose(&self, encoder: &mut Encoder, outputs: &mut Vec<Output>) -> Result<(), RegistryError> {
        outputs.extend(self.outbox.iter().cloned());
        for change in &self.changes {
            outputs.push(Output {
                topic: OutputTopic::Decisions,
                partition: self.partition,
                key: Some(change.decision.scope.key().into_bytes()),
                value: Some(encoder.decision(&change.decision)?),
                headers: Vec::new(),
            });
            if let Some(alert) = &change.alert {
                outputs.push(Output {
                    topic: OutputTopic::Alerts,
                    partition: self.partition,
                    key: Some(alert.scope.org_id.clone().into_bytes()),
                    value: Some(encoder.alert(alert)?),
                    headers: Vec::new(),
                });
            }
            if let Some(purchase) = &change.purchase {
                outputs.push(Output {
                    topic: OutputTopic::Purchases,
                    partition: self.partition,
                    key: Some(purchase.org_id.clone().into_bytes()),
                    value: Some(encoder.purchase(purchase)?),
                    headers: Vec::new(),
                });
            }
        }
        outputs.extend(self.endings.iter().map(|ending| Output {
            topic: OutputTopic::Decisions,
            partition: self.partition,
            key: Some(ending.scope.key().into_bytes()),
            value: None,
            headers: Vec::new(),
        }));
        Ok(())
    }

    /// The sign of life that tells gateways that silence means no change.
    ///
    /// # Errors
    /// As `propose`.
    pub fn heartbeat(&self, encoder: &mut Encoder, at: Timestamp) -> Result<Output, RegistryError> {
        let heartbeat = Heartbeat { partition: self.partition, at, log_time: self.meta.log_time };
        Ok(Output {
            topic: OutputTopic::Decisions,
            partition: self.partition,
            key: Some(format!("!heartbeat|{}", self.partition).into_bytes()),
            value: Some(encoder.heartbeat(&heartbeat)?),
            headers: Vec::new(),
        })
    }

    /// The offset to commit in the transaction that publishes what was proposed.
    #[must_use]
    pub fn offset(&self, transactional_id: &str) -> CommitOffset {
        let metadata = CommitMetadata {
            transactions: self.transactions + 1,
            policies: self.meta.policies_position,
            transactional_id: transactional_id.to_owned(),
            checksum: Some(self.checksum(&self.meta.policies)),
        };
        CommitOffset { partition: self.partition, offset: self.meta.position, metadata: metadata.to_string() }
    }

    /// What the log is up to its position.
    fn checksum(&self, policies: &PoliciesRead) -> Checksum {
        Checksum::of(&self.meta, policies, settings_crc(&self.settings.fold))
    }

    /// Whether the replay came to what O* was committed with (Law 3). To be asked when it stands at O*.
    ///
    /// # Errors
    /// With both sides and the way out, when it came to something else.
    pub fn check_replay(&self) -> Result<(), Halt> {
        let Some(then) = &self.recovered.checksum else { return Ok(()) };
        let differences = then.differences(&self.checksum(&self.committed_policies));
        if differences.is_empty() {
            return Ok(());
        }
        let partition = self.partition;
        let message = format!(
            "partition {partition}: the log up to offset {} is not what it was when that offset was committed: {}. The log \
             or the policies were changed, the schema registry denies a schema that it knew or knows one that it denied, or \
             the store is another log's. Restore what changed and run `tallyman rebuild --partition {partition}`; to accept \
             what the log gives now, start once with `tallyman run --adopt-from end`",
            self.recovered.published_through,
            differences.join("; "),
        );
        Err(Halt::new("log_differs", message))
    }

    /// Takes what was proposed as published: the commit is known.
    pub fn committed(&mut self, at: Timestamp, telemetry: &Telemetry) {
        self.transactions += 1;
        self.committed = (self.meta.position, self.meta.policies_position);
        self.committed_policies = self.meta.policies;
        self.outbox.clear();
        for change in std::mem::take(&mut self.changes) {
            let decision = change.decision;
            let scope = self.orgs.published(change.place, &decision);
            if change.again {
                self.orgs.decide_again(change.place, scope);
            }
            self.decided_at = self.decided_at.max(decision.decided_at);
            telemetry.decided(decision.level.action, decision.level.reason);
            if let Some(alert) = &change.alert {
                telemetry.alerted(alert.kind);
            }
            if let Some(overshoot) = change.overshoot {
                telemetry.overshoot(overshoot);
            }
            self.new_levels.insert(decision.scope.key(), Some(decision));
        }
        for ending in std::mem::take(&mut self.endings) {
            self.orgs.buried(&ending);
            self.new_levels.insert(ending.scope.key(), None);
        }
        for caused in self.causes.drain(..) {
            #[expect(clippy::cast_precision_loss, reason = "a latency is a float by its metric's format")]
            telemetry.event_to_decision(at.micros_since(caused).max(0) as f64 / 1e6);
        }
        telemetry.committed(self.partition, at);
    }

    /// Refreshes the gauges of its orgs.
    pub fn report(&mut self, telemetry: &Telemetry) {
        let (without_policy, blocked) = self.orgs.counts(&self.terms);
        telemetry.orgs(self.partition, without_policy as u64, blocked as u64);
        let now = self.instant(self.settings.clock.now());
        telemetry.pending_purchases(self.partition, self.orgs.pending_purchases(&self.terms, now) as u64);
        let mut orgs: Vec<_> = self.orgs.gauges().collect();
        let top = self.settings.top_orgs;
        if orgs.len() > top {
            orgs.select_nth_unstable_by_key(top, |(_, used, _)| std::cmp::Reverse(*used));
            orgs.truncate(top);
        }
        let orgs = orgs.into_iter().map(|(org, used, allowance)| OrgUse { org: org.to_owned(), used, allowance });
        telemetry.set_top_orgs(self.partition, orgs.collect());
    }
}
