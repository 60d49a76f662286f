//! Keeps a table as the decisions topic says: reads it to its end, then what comes, for as long as the gateway lives. What
//! cannot be followed any further is read anew, and taken over only when its end is reached, so that no decision of
//! yesterday shows through meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Source;
use super::table::{Applied, Came, Table};
use crate::codec::{DecodeError, Decoder};
use crate::domain::time::Timestamp;
use crate::kafka::{self, Followed, TopicFollower};

/// The longest wait for a record in one turn: so soon is the end of the gateway noticed.
const TURN: Duration = Duration::from_millis(100);
/// Time between two attempts where the cluster, or the schema registry, does not answer.
const AGAIN: Duration = Duration::from_millis(500);

/// What was read of a partition since it was read anew: the last value of each key, and when it was written.
type Read = HashMap<Vec<u8>, (Option<Vec<u8>>, Timestamp)>;
/// The same of each partition.
type Staged = HashMap<i32, Read>;

/// The thread of a gateway.
pub(super) struct Follower {
    source: Source,
    table: Arc<Table>,
    stop: Arc<AtomicBool>,
    decoder: Decoder,
}

impl Follower {
    pub(super) fn new(source: Source, table: Arc<Table>, stop: Arc<AtomicBool>) -> Self {
        let decoder = Decoder::new(source.registry.clone());
        Self { source, table, stop, decoder }
    }

    /// Follows until told to stop.
    pub(super) fn run(mut self) {
        while !self.is_stopped() {
            if let Err(error) = self.follow() {
                self.source.telemetry.gate_lost(&error.to_string());
                self.source.telemetry.tick();
                self.wait();
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn wait(&self) {
        let until = Instant::now() + AGAIN;
        while !self.is_stopped() && Instant::now() < until {
            std::thread::park_timeout(TURN);
        }
    }

    /// From the start of the topic until told to stop.
    fn follow(&mut self) -> Result<(), kafka::Error> {
        let began = Instant::now();
        let mut topic = TopicFollower::open(&self.source.kafka, &self.source.kafka.topics.decisions)?;
        self.table.set_partitions(usize::try_from(topic.partitions()).unwrap_or(0));
        let mut open: BTreeSet<i32> = (0..topic.partitions()).collect();
        // What an earlier attempt took in may have been removed since, and its tombstone too.
        self.table.start_again();
        let mut staged = self.table.is_ready().then(Staged::new);
        while !self.is_stopped() {
            self.source.telemetry.tick();
            let met = topic.next(TURN, |record| {
                let Some(key) = record.key else { return };
                match staged.as_mut() {
                    _ if !open.contains(&record.partition) => self.apply(key, record.value, Came::Now),
                    Some(staged) => {
                        let staged = staged.entry(record.partition).or_default();
                        staged.insert(key.to_vec(), (record.value.map(<[u8]>::to_vec), record.timestamp));
                    }
                    None => self.apply(key, record.value, Came::Before(record.timestamp)),
                }
            })?;
            let Followed::End(partition) = met else { continue };
            if !open.remove(&partition) {
                continue;
            }
            if let Some(staged) = &mut staged {
                let read = staged.remove(&partition).unwrap_or_default();
                self.replace(partition, read);
            }
            if open.is_empty() {
                staged = None;
                self.table.set_ready();
                self.source.telemetry.gate_ready(self.table.len(), began.elapsed());
            }
        }
        Ok(())
    }

    /// Makes the table say of a partition what was read, and no more.
    fn replace(&mut self, partition: i32, read: Read) {
        for key in self.table.keys_of(partition) {
            if !read.contains_key(key.as_bytes()) {
                self.apply(key.as_bytes(), None, Came::Now);
            }
        }
        for (key, (value, at)) in read {
            self.apply(&key, value.as_deref(), Came::Before(at));
        }
    }

    /// Takes a record in. While the schema registry does not answer it waits: no decision is skipped for that.
    fn apply(&mut self, key: &[u8], value: Option<&[u8]>, came: Came) {
        loop {
            match self.table.apply(&mut self.decoder, (key, value), came) {
                Ok(Applied::Changed | Applied::Outdated) => return,
                Ok(Applied::Unheard) => {
                    let key = String::from_utf8_lossy(key);
                    return self.source.telemetry.gate_unreadable(&format!("{key}: a scope of no known kind"));
                }
                Err(DecodeError::Reject(reject)) => {
                    let what =
                        format!("{}: {}; its last decision holds", String::from_utf8_lossy(key), reject.detail);
                    return self.source.telemetry.gate_unreadable(&what);
                }
                Err(DecodeError::Unavailable(error)) => {
                    self.source.telemetry.registry_error(&error.to_string());
                    if self.is_stopped() {
                        return;
                    }
                    self.wait();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::codec::decision_bytes;
    use crate::domain::credits::CreditSum;
    use crate::domain::limits::decision::{Action, Cause, DecisionReason, Figures, Level, LimitDecision};
    use crate::domain::limits::scope::Scope;
    use crate::gateway::table::{Request, Rules};
    use crate::kafka::KafkaSettings;

    fn blocked(org: &str, version: i64) -> (Vec<u8>, Option<Vec<u8>>) {
        let level = Level {
            action: Action::Block,
            reason: DecisionReason::AllowanceSpent,
            level: 100,
            allowance: Some(CreditSum::ZERO),
            extra: None,
            budget: None,
            period_start: Timestamp::default(),
            period_end: Timestamp::default(),
            valid_until: Timestamp::default(),
            forecast_alerted_on: None,
            purchases_requested: 0,
        };
        let (scope, figures, cause) = (Scope::org(org), Figures::default(), Cause::default());
        let decision = LimitDecision { scope, level, figures, version, decided_at: Timestamp::default(), cause };
        (org.as_bytes().to_vec(), Some(decision_bytes(&decision)))
    }

    #[test]
    fn what_is_read_anew_takes_the_place_of_what_was_known_of_its_partition_alone() {
        let source = Source::new(KafkaSettings::default());
        let table = Arc::new(Table::new(Rules::default(), Arc::clone(&source.clock)));
        table.set_partitions(1);
        let mut follower = Follower::new(source, Arc::clone(&table), Arc::default());
        for org in ["gone", "kept", "removed"] {
            let (key, value) = blocked(org, 5);
            follower.apply(&key, value.as_deref(), Came::Now);
        }
        table.set_ready();
        follower.replace(1, HashMap::new());
        assert_eq!(table.len(), 3, "none of them stands in another partition");
        let read = [blocked("kept", 6), blocked("new", 1), (b"removed".to_vec(), None)];
        let at = Timestamp::default();
        follower.replace(0, read.into_iter().map(|(key, value)| (key, (value, at))).collect());
        let version = |org| table.check(&Request::of(org)).version();
        assert_eq!(["gone", "kept", "removed", "new"].map(version), [None, Some(6), None, Some(1)]);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_heartbeat_that_is_read_anew_is_as_old_as_its_record() {
        let source = Source::new(KafkaSettings::default());
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let table = Arc::new(Table::new(Rules::default(), Arc::new(clock)));
        table.set_partitions(1);
        let mut follower = Follower::new(source, Arc::clone(&table), Arc::default());
        let value = br#"{"type":"Heartbeat","partition":0,"at":1000000000,"log_time":0}"#.to_vec();
        let read = |millis| {
            let written = Timestamp::from_millis(millis);
            Read::from([(b"!heartbeat|0".to_vec(), (Some(value.clone()), written))])
        };
        follower.replace(0, read(1_000_000 - 61_000));
        assert!(table.is_stale("acme"));
        follower.replace(0, read(1_000_000 - 59_000));
        assert!(!table.is_stale("acme"));
    }

    #[test]
    fn what_was_read_of_a_topic_that_was_lost_before_its_end_is_forgotten() {
        let source = Source::new(KafkaSettings::default());
        let table = Arc::new(Table::new(Rules::default(), Arc::clone(&source.clock)));
        let mut follower = Follower::new(source, Arc::clone(&table), Arc::default());
        let (key, value) = blocked("gone", 5);
        follower.apply(&key, value.as_deref(), Came::Now);
        assert!(!table.check(&Request::of("gone")).is_blocked(), "nobody is answered from what is half read");
        table.start_again();
        table.set_ready();
        assert_eq!((table.len(), table.check(&Request::of("gone")).version()), (0, None));
    }
}
