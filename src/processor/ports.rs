//! The two ports of a worker: the log it reads and the log it writes. `kafka/` implements them on librdkafka, `twin`
//! in memory with a crash wherever a test wants one. A port moves bytes; it decides nothing.

use std::time::{Duration, Instant};

use crate::domain::time::Timestamp;

/// One header of a record.
pub type Header = (String, Vec<u8>);

/// A record of the usage or policies topic, borrowed from the batch that holds it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Partition it stands in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Kafka's timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// Records as one call to the log gave them: each partition's in offset order.
pub trait RecordBatch {
    /// How many.
    fn len(&self) -> usize;
    /// Record `index`, below `len`.
    fn get(&self, index: usize) -> Record<'_>;
    /// Its headers; empty, without an allocation, when it has none.
    fn headers(&self, index: usize) -> Vec<Header>;
    /// Partitions whose log ends for now, each with the offset up to which it holds no record that was not delivered:
    /// transaction markers at the end are passed over.
    fn ends(&self) -> &[(i32, i64)];
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A topic that a worker reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// Usage.
    Usage,
    /// Policies.
    Policies,
}

/// A change of the partitions that this worker owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// These come in addition. Answer with [`Source::accept`] once each is recovered.
    Assigned(Vec<i32>),
    /// These go to another member, which waits until [`Source::release`].
    Revoked(Vec<i32>),
    /// These are gone already: another member may speak for them. Abort, then [`Source::release`].
    Lost(Vec<i32>),
}

/// What one poll gave.
pub enum Polled<B> {
    /// Records of started partitions; perhaps none.
    Records(B),
    /// The group moved partitions; no records come until it is answered.
    Rebalance(Rebalance),
}

/// A committed input offset: O* of a partition, with the metadata of its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Every record below it is published-through.
    pub offset: i64,
    /// What the committer wrote beside it.
    pub metadata: String,
}

/// The offsets that a partition of the usage topic holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// First offset that is still there.
    pub low: i64,
    /// Last stable offset + 1: a read_committed reader gets no further.
    pub stable: i64,
    /// High watermark.
    pub high: i64,
}

/// The log as a worker reads it.
pub trait Source {
    /// Records of one poll.
    type Batch: RecordBatch;
    /// Proof of this moment's group membership, for a transaction's offsets.
    type Membership;

    /// A change of assignment if there is one, else the usage records that arrived within `wait`.
    ///
    /// # Errors
    /// [`PortError::Partition`] once for a partition that cannot be read on: it is stopped, until `seek`.
    /// [`PortError::Fatal`] when nothing can be read.
    fn poll(&mut self, wait: Duration) -> Result<Polled<Self::Batch>, PortError>;
    /// The policies records that have arrived, without waiting. What is wrong with them is reported by `poll`.
    fn poll_policies(&mut self) -> Self::Batch;
    /// Takes over assigned partitions: read usage from `usage` and policies from `policies`. One with
    /// `start: None` is halted: it is owned and not read. The group is answered in any case (Law 5); a partition that
    /// cannot be read is reported by a later [`Source::poll`].
    fn accept(&mut self, partitions: &[Accepted]);
    /// Lets go of revoked or lost partitions. The group is answered in any case (Law 5).
    fn release(&mut self, partitions: &[i32]);
    /// Reads an owned partition again from other offsets (after a reload, or after `stop`); what was fetched before is
    /// dropped.
    ///
    /// # Errors
    /// When the partition is being taken away.
    fn seek(&mut self, partition: i32, start: Start) -> Result<(), PortError>;
    /// Reads an owned partition no longer, until `seek`: its task is halted. It stays ours.
    fn stop(&mut self, partition: i32);
    /// Pauses or resumes the fetching of usage of one partition (back-pressure).
    ///
    /// # Errors
    /// When the partition is not ours.
    fn pause(&mut self, partition: i32, paused: bool) -> Result<(), PortError>;
    /// Proof of this moment's membership.
    ///
    /// # Errors
    /// When this member is not in the group.
    fn membership(&self) -> Result<Self::Membership, PortError>;
    /// Client ids of the group's members now.
    ///
    /// # Errors
    /// When the coordinator is out of reach.
    fn members(&mut self) -> Result<Vec<String>, PortError>;
    /// The last committed offset of each partition, without waiting for open transactions.
    ///
    /// # Errors
    /// When the coordinator is out of reach.
    fn last_committed(&mut self, partitions: &[i32]) -> Result<Vec<Option<Committed>>, PortError>;
    /// O* of each partition: waits until no open transaction can still change it.
    ///
    /// # Errors
    /// When the coordinator is out of reach or a transaction stays open too long.
    fn stable_committed(&mut self, partitions: &[i32]) -> Result<Vec<Option<Committed>>, PortError>;
    /// The usage offsets that the log holds.
    ///
    /// # Errors
    /// When the log is out of reach.
    fn range(&mut self, partition: i32) -> Result<LogRange, PortError>;
    /// What the client knows of those offsets without asking anybody: for lag.
    fn cached_range(&self, partition: i32) -> Option<LogRange>;
    /// What the client knows of the end of a policies partition without asking anybody: for lag.
    fn cached_policies_end(&self, partition: i32) -> Option<i64>;
    /// The newest timestamp of the broker's own that came since the last call.
    fn broker_time(&mut self) -> Option<BrokerTime>;
    /// The mark of the record at exactly `offset`; `None` when the log holds none there.
    ///
    /// # Errors
    /// When the log is out of reach.
    fn record_mark(&mut self, input: Input, partition: i32, offset: i64) -> Result<Option<RecordMark>, PortError>;
    /// Reads the partition's decisions to the present end, committed ones only, each as (key, value or tombstone).
    ///
    /// # Errors
    /// When the log is out of reach.
    fn read_control(
        &mut self,
        partition: i32,
        each: &mut dyn FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), PortError>;
    /// First offset and high watermark of the policies partition: terms are loaded when they were read up to there.
    ///
    /// # Errors
    /// When the log is out of reach.
    fn policies_range(&mut self, partition: i32) -> Result<(i64, i64), PortError>;
    /// The cluster's id.
    ///
    /// # Errors
    /// When the cluster is out of reach.
    fn cluster_id(&mut self) -> Result<String, PortError>;
    /// Partitions of the usage topic.
    fn partitions(&self) -> i32;
    /// Writes to the log what clients have reported that no call of this port concerned lately. To be called every now and
    /// then, so that lines are logged when they are news.
    fn serve(&mut self) {}
}

/// What a record that the broker itself stamped tells of its clock.
#[derive(Clone, Copy, Debug)]
pub struct BrokerTime {
    /// The record's timestamp.
    pub at: Timestamp,
    /// When it came here.
    pub seen: Instant,
}

/// Where to read a partition from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// First usage offset to deliver.
    pub usage: i64,
    /// First policies offset to deliver.
    pub policies: i64,
}

/// An assigned partition and where to start it; `None` for a halted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Which.
    pub partition: i32,
    /// From where.
    pub start: Option<Start>,
}

/// What identifies one record in the log: a truncated and regrown or recreated topic holds another at its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordMark {
    /// Its offset.
    pub offset: i64,
    /// Kafka's timestamp.
    pub timestamp: Timestamp,
    /// CRC-32 of its key and value, see [`mark_of`].
    pub crc: u32,
}

/// The mark of a record.
#[must_use]
pub fn mark_of(record: &Record<'_>) -> RecordMark {
    let mut crc = crc32fast::Hasher::new();
    for part in [record.key, record.value] {
        // A length before each part tells (key "ab", value "") from (key "a", value "b"), and absent from empty.
        crc.update(&part.map_or(u32::MAX, |part| u32::try_from(part.len()).unwrap_or(u32::MAX)).to_le_bytes());
        crc.update(part.unwrap_or_default());
    }
    RecordMark { offset: record.offset, timestamp: record.timestamp, crc: crc.finalize() }
}

/// The topics that a worker writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputTopic {
    /// Decisions and heartbeats.
    Decisions,
    /// Alerts.
    Alerts,
    /// Purchase requests.
    Purchases,
    /// Dead letters.
    DeadLetters,
    /// A usage record forwarded to its org's partition.
    Usage,
    /// A policies record forwarded to its org's partition.
    Policies,
}

/// A record to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Where.
    pub topic: OutputTopic,
    /// In which partition.
    pub partition: i32,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<Header>,
}

/// An input offset that a transaction commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// Of which usage partition.
    pub partition: i32,
    /// Next offset to read.
    pub offset: i64,
    /// What to write beside it (Law 3).
    pub metadata: String,
}

/// The log as a worker writes it: one transactional producer.
pub trait Sink {
    /// What the source proves its membership with.
    type Membership;

    /// Publishes all outputs and offsets in one transaction and returns when its commit is known.
    ///
    /// # Errors
    /// [`TransactError::Aborted`] when nothing of it will ever be seen; [`TransactError::Unknown`] when nobody can tell
    /// before [`Sink::renew`]; [`TransactError::Fenced`] when another producer has this id.
    fn transact(
        &mut self,
        outputs: &[Output],
        offsets: &[CommitOffset],
        membership: &Self::Membership,
    ) -> Result<(), TransactError>;
    /// Ends whatever a gone owner's producer of this id has open.
    ///
    /// # Errors
    /// When the coordinator is out of reach.
    fn fence(&mut self, transactional_id: &str) -> Result<(), PortError>;
    /// Replaces the producer by a new one of the same id: what the old one had open is resolved when this returns.
    ///
    /// # Errors
    /// When the coordinator is out of reach.
    fn renew(&mut self) -> Result<(), PortError>;
    /// Writes to the log what the client has reported since the last transaction. As [`Source::serve`].
    fn serve(&mut self) {}
    /// This producer's id.
    fn transactional_id(&self) -> &str;
    /// The client id under which this worker is a member of the group.
    fn client_id(&self) -> &str;
}

/// A port that does not work.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// It may work later; ask again.
    #[error("{0}")]
    Retriable(String),
    /// One partition cannot be read on; the others can.
    #[error("{message}")]
    Partition {
        /// Which.
        partition: i32,
        /// What happened.
        message: String,
    },
    /// It will not work without a person.
    #[error("{0}")]
    Fatal(String),
}

/// How a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum TransactError {
    /// It is aborted; nothing of it is visible.
    #[error("the transaction was aborted: {0}")]
    Aborted(String),
    /// It may or may not be committed.
    #[error("the transaction's outcome is unknown: {0}")]
    Unknown(String),
    /// Another producer took this transactional id over; this one must fall silent.
    #[error("this producer was fenced: {0}")]
    Fenced(String),
}
