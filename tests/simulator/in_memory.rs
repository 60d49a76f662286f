//! The in-memory double of the two ports: a log with transactions, a group and offsets, and a crash or a fault wherever
//! a test wants one. It keeps Kafka's promises (atomic commits, read_committed, fencing, an open transaction that
//! holds up stable offsets) and none of its timing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tallyman::domain::time::Timestamp;

use tallyman::processor::metadata::CommitMetadata;
use tallyman::processor::ports::{Committed, Header, Output, OutputTopic, Rebalance, Record, RecordBatch};

mod sink;
mod source;

pub use sink::InMemorySink;
pub use source::InMemorySource;

/// A record of the double.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InMemoryRecord {
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<Header>,
}

/// What goes wrong at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies there: the call unwinds with [`Crash`].
    Crash,
    /// A transaction is aborted and says so.
    Abort,
    /// A transaction is committed and its answer lost.
    CommitUnanswered,
    /// A transaction is aborted and its answer lost.
    AbortUnanswered,
}

/// The payload of an injected crash's unwinding.
#[derive(Clone, Copy, Debug)]
pub struct Crash;

#[derive(Default)]
struct State {
    partitions: i32,
    topics: BTreeMap<(&'static str, i32), Vec<InMemoryRecord>>,
    /// Where a partition ends: past its last record and the markers of transactions that wrote to it.
    ends: BTreeMap<(&'static str, i32), i64>,
    /// First offset that a usage partition still holds.
    low: BTreeMap<i32, i64>,
    offsets: BTreeMap<i32, Committed>,
    members: BTreeMap<String, Member>,
    /// Transactional ids with an open transaction, each with how often it held a reader of stable offsets up.
    open: BTreeMap<String, u32>,
    /// Producers in order of their making; the last one of an id is the only one that may write.
    epochs: BTreeMap<String, u64>,
    /// Calls of the ports so far by name, and what goes wrong at which of them.
    calls: Vec<&'static str>,
    /// Records handed to consumers so far.
    delivered: usize,
    faults: BTreeMap<u64, Fault>,
    now: Timestamp,
}

#[derive(Default)]
struct Member {
    rebalances: VecDeque<Rebalance>,
}

/// The shared log; clones are the same.
#[derive(Clone)]
pub struct InMemoryLog(Arc<Mutex<State>>);

/// The usage topic's name in the double.
pub const USAGE: &str = "usage";
/// The policies topic's name in the double.
pub const POLICIES: &str = "policies";

const fn name_of(topic: OutputTopic) -> &'static str {
    match topic {
        OutputTopic::Decisions => "decisions",
        OutputTopic::Alerts => "alerts",
        OutputTopic::Purchases => "purchases",
        OutputTopic::DeadLetters => "dead-letters",
        OutputTopic::Usage => USAGE,
        OutputTopic::Policies => POLICIES,
    }
}

impl InMemoryLog {
    /// An empty log whose topics have `partitions` partitions.
    #[must_use]
    pub fn new(partitions: i32) -> Self {
        Self(Arc::new(Mutex::new(State { partitions, ..State::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // An injected crash may unwind through a lock; every change below is complete before a step can fail.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record that some producer wrote, and gives its offset.
    pub fn append(
        &self,
        topic: &'static str,
        partition: i32,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Vec<Header>,
    ) -> i64 {
        let record = InMemoryRecord {
            offset: 0,
            timestamp,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers,
        };
        self.lock().append(topic, partition, record)
    }

    /// All records of a topic's partition.
    #[must_use]
    pub fn records(&self, topic: OutputTopic, partition: i32) -> Vec<InMemoryRecord> {
        self.lock().topics.get(&(name_of(topic), partition)).cloned().unwrap_or_default()
    }

    /// Where a topic's partition ends.
    #[must_use]
    pub fn end(&self, topic: OutputTopic, partition: i32) -> i64 {
        self.lock().end(name_of(topic), partition)
    }

    /// Lets go wrong what the port call number `step` (from 0) does.
    pub fn fault_at(&self, step: u64, fault: Fault) {
        self.lock().faults.insert(step, fault);
    }

    /// Port calls so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.lock().calls.len() as u64
    }

    /// The name of each port call so far; a transaction is three: "transact", "commit", "answer".
    #[must_use]
    pub fn calls(&self) -> Vec<&'static str> {
        self.lock().calls.clone()
    }

    /// Records handed to consumers so far: a turn that leaves it and the steps alone had nothing to do.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.lock().delivered
    }

    /// Whether a fault is still to come.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        !self.lock().faults.is_empty()
    }

    /// Drops what a usage partition holds below `low`, as retention does.
    pub fn truncate(&self, partition: i32, low: i64) {
        self.lock().low.insert(partition, low);
    }

    /// Empties a topic's partition, as deleting and creating the topic does.
    pub fn recreate(&self, topic: OutputTopic, partition: i32) {
        let mut state = self.lock();
        state.topics.remove(&(name_of(topic), partition));
        state.ends.remove(&(name_of(topic), partition));
    }

    /// Gives the record at `offset` of a topic's partition another value.
    ///
    /// # Panics
    /// When there is no such record.
    pub fn forge(&self, topic: OutputTopic, partition: i32, offset: i64, value: &[u8]) {
        let mut state = self.lock();
        let records = state.topics.get_mut(&(name_of(topic), partition)).expect("the partition has records");
        let record = records.iter_mut().find(|record| record.offset == offset).expect("the record is there");
        record.value = Some(value.to_vec());
    }

    /// Commits `offset` for every partition without metadata, as a tool that resets a group's offsets does.
    pub fn reset_offsets(&self, offset: i64) {
        let mut state = self.lock();
        for partition in 0..state.partitions {
            state.offsets.insert(partition, Committed { offset, metadata: String::new() });
        }
    }

    /// Forgets the group's committed offsets, as an idle group's expire.
    pub fn expire_offsets(&self) {
        self.lock().offsets.clear();
    }

    /// Writes the metadata of every committed offset as the first version did, without a checksum.
    pub fn strip_checksums(&self) {
        for committed in self.lock().offsets.values_mut() {
            if let Ok(metadata) = committed.metadata.parse::<CommitMetadata>() {
                committed.metadata = CommitMetadata { checksum: None, ..metadata }.to_string();
            }
        }
    }

    /// The committed offset of a partition.
    #[must_use]
    pub fn committed(&self, partition: i32) -> Option<Committed> {
        self.lock().offsets.get(&partition).cloned()
    }

    /// Tells the member `client_id` of a rebalance; it sees it at its next poll.
    pub fn rebalance(&self, client_id: &str, rebalance: Rebalance) {
        self.lock().members.entry(client_id.to_owned()).or_default().rebalances.push_back(rebalance);
    }

    /// The member is no longer in the group: its process died and its session is over. If it polls again it joins
    /// anew and is told that all it owned is lost.
    pub fn gone(&self, client_id: &str) {
        self.lock().members.remove(client_id);
    }

    /// The double's own clock, with which it stamps what transactions write.
    pub fn set_now(&self, now: Timestamp) {
        self.lock().now = now;
    }

    /// One call of a port: counted, and perhaps the one at which something goes wrong.
    fn step(&self, call: &'static str) -> Option<Fault> {
        let mut state = self.lock();
        let step = state.calls.len() as u64;
        state.calls.push(call);
        let fault = state.faults.remove(&step)?;
        drop(state);
        if fault == Fault::Crash {
            std::panic::resume_unwind(Box::new(Crash));
        }
        Some(fault)
    }
}

impl State {
    fn append(&mut self, topic: &'static str, partition: i32, mut record: InMemoryRecord) -> i64 {
        let end = self.ends.entry((topic, partition)).or_default();
        let offset = *end;
        *end += 1;
        record.offset = offset;
        self.topics.entry((topic, partition)).or_default().push(record);
        offset
    }

    fn end(&self, topic: &'static str, partition: i32) -> i64 {
        self.ends.get(&(topic, partition)).copied().unwrap_or(0)
    }

    /// What a transaction writes: its records, and a marker, which nobody reads, in each partition it wrote to.
    fn publish(&mut self, outputs: &[Output]) {
        let mut written = BTreeSet::new();
        for output in outputs {
            let record = InMemoryRecord {
                offset: 0,
                timestamp: self.now,
                key: output.key.clone(),
                value: output.value.clone(),
                headers: output.headers.clone(),
            };
            written.insert((name_of(output.topic), output.partition));
            self.append(name_of(output.topic), output.partition, record);
        }
        for place in written {
            *self.ends.entry(place).or_default() += 1;
        }
    }
}

/// A batch of the double: owned copies.
#[derive(Debug, Default)]
pub struct InMemoryBatch {
    records: Vec<(i32, InMemoryRecord)>,
    ends: Vec<(i32, i64)>,
}

impl RecordBatch for InMemoryBatch {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn get(&self, index: usize) -> Record<'_> {
        let (partition, record) = &self.records[index];
        Record {
            partition: *partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
        }
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        self.records[index].1.headers.clone()
    }

    fn ends(&self) -> &[(i32, i64)] {
        &self.ends
    }
}
