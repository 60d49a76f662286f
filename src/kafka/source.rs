//! The log as a worker reads it: one member of the consumer group for usage, and beside it plain readers of
//! policies, decisions and committed offsets. Rebalances wait for the worker's answer (Law 5); nothing is
//! committed here (Law 3); a log that no longer holds what was asked for is told, never skipped (Law 8). Next to
//! read: `sink`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::groups::GroupInfo;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;

use super::Error;
use super::batch::{Batch, BatchQueue, Fault, StatefulConsumer};
use super::client::ConsumerState;
use super::lookup::{partition_count, seek};
use super::offsets::OffsetKeeper;
use super::reader::Reader;
use super::settings::{Isolation, KafkaSettings, told};
use crate::processor::ports::{
    Accepted, Committed, LogRange, Polled, PortError, Rebalance, RecordBatch as _, RecordMark, Source, Start,
    mark_of,
};

/// How long a question to the cluster may take.
pub(super) const ASK: Duration = Duration::from_secs(10);
/// How long O* may stay open: a former owner is fenced before it is asked for, so what is open ends at once.
const STABLE: Duration = Duration::from_secs(5);
/// How long the control partition may give nothing before its end.
const CONTROL: Duration = Duration::from_secs(15);
/// How long a poll serves log lines, statistics and errors; what is left then waits for the next poll.
const EVENTS: Duration = Duration::from_millis(100);
/// How long it looks for the rebalance that tells of a lost assignment.
const LOST: Duration = Duration::from_millis(500);

/// The log on a real Kafka.
pub struct KafkaSource {
    settings: KafkaSettings,
    client_id: String,
    keeper: OffsetKeeper,
    partitions: i32,
    usage: BatchQueue,
    policies: BatchQueue,
    /// Partitions whose usage is read; what arrives for others is dropped.
    started: HashSet<i32>,
    /// A rebalance was taken and not answered yet.
    unanswered: bool,
    /// Faults of partitions, by topic, that no poll has told yet.
    faults: VecDeque<(String, Fault)>,
    policies_reader: Arc<StatefulConsumer>,
    /// Sees committed records: decisions, single usage records.
    committed: Reader,
    /// Sees all: high watermarks, and committed offsets without waiting.
    uncommitted: Reader,
    member: Arc<StatefulConsumer>,
}

impl KafkaSource {
    /// Joins the group under `client_id` (`<advertise>/<nonce>/<worker>`); a batch has at most `records_max`
    /// records.
    ///
    /// # Errors
    /// When the settings are refused, the cluster does not answer, or the usage topic does not exist.
    pub fn new(
        settings: &KafkaSettings,
        client_id: &str,
        records_max: usize,
        keeper: OffsetKeeper,
    ) -> Result<Self, Error> {
        let mut config = settings.consumer(client_id, Isolation::Committed);
        config.set("statistics.interval.ms", "1000");
        let mut member: StatefulConsumer = config
            .create_with_context(ConsumerState::new(&settings.topics.usage))
            .map_err(|error| Error::Settings(told(&error)))?;
        let wake = Arc::clone(&member.context().wake);
        member.set_nonempty_callback(move || wake.ring());
        let member = Arc::new(member);

        // Policies ring the same bell, so that a worker that waits for usage sees them at once.
        let state = ConsumerState::ringing(&member.context().wake);
        let policies_reader: StatefulConsumer = settings
            .consumer(&format!("{client_id}/policies"), Isolation::Committed)
            .create_with_context(state)
            .map_err(|error| Error::Settings(told(&error)))?;
        let policies_reader = Arc::new(policies_reader);

        let uncommitted = Reader::new(settings, &format!("{client_id}/offsets"), Isolation::Uncommitted)?;
        let partitions = partition_count(settings, uncommitted.consumer())?;
        member
            .subscribe(&[&settings.topics.usage])
            .map_err(|error| settings.cluster_error("the group cannot be joined", &error))?;
        Ok(Self {
            usage: BatchQueue::new(&member, records_max),
            policies: BatchQueue::new(&policies_reader, records_max),
            committed: Reader::new(settings, &format!("{client_id}/reader"), Isolation::Committed)?,
            settings: settings.clone(),
            client_id: client_id.into(),
            keeper,
            partitions,
            started: HashSet::new(),
            unanswered: false,
            faults: VecDeque::new(),
            policies_reader,
            uncommitted,
            member,
        })
    }

    /// Serves what stands in the consumers' own queues; a rebalance if there is one.
    fn serve_events(&mut self) -> Result<Option<Rebalance>, PortError> {
        let started = Instant::now();
        let mut served = true;
        // All that waits is served: while brokers are away, the rebalance that takes what is ours stands behind thousands of
        // errors, and nothing can be published before it is answered.
        while (served && started.elapsed() < EVENTS) || (self.member.assignment_lost() && started.elapsed() < LOST)
        {
            served = false;
            for is_usage in [true, false] {
                let consumer = Arc::clone(if is_usage { &self.member } else { &self.policies_reader });
                let event = consumer.poll(Duration::ZERO);
                served |= event.is_some();
                match event {
                    Some(Ok(strayed)) => self.lead_back(is_usage, strayed.partition(), Some(strayed.offset()))?,
                    Some(Err(KafkaError::PartitionEOF(partition))) => self.lead_back(is_usage, partition, None)?,
                    Some(Err(error)) => consumer.context().consumer_error(&error),
                    None => {}
                }
                if let Some(fatal) = consumer.context().take_fatal() {
                    return Err(PortError::Fatal(format!(
                        "the consumer cannot go on: {fatal}; restart this instance"
                    )));
                }
            }
            if let Some(rebalance) = self.member.context().next_rebalance()
                && self.concerns_us(&rebalance)?
            {
                return Ok(Some(rebalance));
            }
        }
        Ok(None)
    }

    /// What stands in a consumer's own queue has lost its forwarding: it is led to ours again, and read again from the
    /// record that strayed, before anything behind it is taken (Law 7).
    fn lead_back(&mut self, is_usage: bool, partition: i32, strayed: Option<i64>) -> Result<(), PortError> {
        if !self.started.contains(&partition) {
            return Ok(());
        }
        let topics = &self.settings.topics;
        let (queue, topic, consumer) = if is_usage {
            (&mut self.usage, &topics.usage, &self.member)
        } else {
            (&mut self.policies, &topics.policies, &self.policies_reader)
        };
        queue.forward(topic, partition);
        strayed.map_or(Ok(()), |offset| seek(consumer, topic, partition, offset))
    }

    /// Answers by itself a rebalance that moves nothing: there is nothing to recover or to let go.
    fn concerns_us(&mut self, rebalance: &Rebalance) -> Result<bool, PortError> {
        self.unanswered = true;
        match rebalance {
            Rebalance::Assigned(partitions) if partitions.is_empty() => self.accept(&[]).map(|()| false),
            Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) if partitions.is_empty() => {
                self.release(&[]).map(|()| false)
            }
            _ => Ok(true),
        }
    }

    /// What has arrived of started partitions, of usage or of policies.
    fn take(&mut self, usage: bool) -> Batch {
        let topics = &self.settings.topics;
        let (queue, topic) =
            if usage { (&mut self.usage, &topics.usage) } else { (&mut self.policies, &topics.policies) };
        let (started, faults) = (&self.started, &mut self.faults);
        queue.take(
            |record| started.contains(&record.partition),
            |fault| {
                if started.contains(&fault.partition) {
                    faults.push_back((topic.clone(), fault));
                }
            },
        )
    }

    /// A fault of one partition, once: librdkafka has stopped reading it, the others go on with the next poll.
    fn told_fault(&mut self) -> Result<(), PortError> {
        let Some((topic, fault)) = self.faults.pop_front() else { return Ok(()) };
        let error = self.committed.fault(&topic, fault);
        match fault.code {
            // The log no longer holds what was to be read, or is closed to us (Law 8).
            RDKafkaErrorCode::AutoOffsetReset
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed => Err(PortError::Fatal(error.to_string())),
            _ => {
                tracing::warn!(%error, "a partition reports an error; it is read on");
                Ok(())
            }
        }
    }

    /// Law 7: batch consume takes the end of a partition for a record, so that librdkafka, which pauses all partitions in
    /// a rebalance, would read on one offset beyond it: a record skipped, or an offset out of range. To be called before
    /// a rebalance is answered, while all is paused.
    fn mend_positions(&self) -> Result<(), PortError> {
        for &partition in &self.started {
            if let Some(next) = self.usage.next_offset(partition) {
                seek(&self.member, &self.settings.topics.usage, partition, next)?;
            }
        }
        Ok(())
    }

    /// Lets librdkafka fetch `partition` from where `start` says.
    fn start(&mut self, accepted: &[(i32, Start)]) -> Result<(), PortError> {
        let (mut usage, mut policies) = (TopicPartitionList::new(), TopicPartitionList::new());
        let topics = &self.settings.topics;
        for &(partition, start) in accepted {
            self.usage.forget(partition);
            self.usage.forward(&topics.usage, partition);
            self.policies.forward(&topics.policies, partition);
            let added =
                usage.add_partition_offset(&topics.usage, partition, Offset::Offset(start.usage)).and_then(|()| {
                    policies.add_partition_offset(&topics.policies, partition, Offset::Offset(start.policies))
                });
            added.map_err(|error| fatal("partitions cannot be started", &error))?;
        }
        self.member
            .incremental_assign(&usage)
            .map_err(|error| retriable("partitions cannot be accepted", &error))?;
        for &(partition, _) in accepted {
            super::client::locked(&self.member.context().fetched).insert(partition);
            super::client::locked(&self.policies_reader.context().fetched).insert(partition);
            self.started.insert(partition);
        }
        if !accepted.is_empty() {
            self.policies_reader
                .incremental_assign(&policies)
                .map_err(|error| retriable("policies cannot be read", &error))?;
        }
        for &(partition, _) in accepted {
            self.usage.forward(&self.settings.topics.usage, partition);
            self.policies.forward(&self.settings.topics.policies, partition);
        }
        Ok(())
    }

    fn committed_with(
        &self,
        consumer: &StatefulConsumer,
        partitions: &[i32],
        wait: Duration,
    ) -> Result<Vec<Option<Committed>>, PortError> {
        if let Some(kept) = self.keeper.kept(partitions) {
            return Ok(kept);
        }
        let topic = &self.settings.topics.usage;
        let mut list = TopicPartitionList::new();
        for &partition in partitions {
            list.add_partition(topic, partition);
        }
        let found = consumer
            .committed_offsets(list, wait)
            .map_err(|error| retriable("the committed offsets cannot be read", &error))?;
        partitions
            .iter()
            .map(|&partition| {
                let element = found.find_partition(topic, partition).ok_or_else(|| {
                    PortError::Retriable(format!("no committed offset of partition {partition} was told"))
                })?;
                element.error().map_err(|error| retriable("a committed offset cannot be read", &error))?;
                Ok(match element.offset() {
                    Offset::Offset(offset) => Some(Committed { offset, metadata: element.metadata().to_owned() }),
                    _ => None,
                })
            })
            .collect()
    }
}

pub(super) fn retriable(what: &str, error: &KafkaError) -> PortError {
    PortError::Retriable(format!("{what}: {}", told(error)))
}

fn fatal(what: &str, error: &KafkaError) -> PortError {
    PortError::Fatal(format!("{what}: {}", told(error)))
}

impl Source for KafkaSource {
    type Batch = Batch;
    type Membership = ConsumerGroupMetadata;

    fn poll(&mut self, wait: Duration) -> Result<Polled<Batch>, PortError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(rebalance) = self.serve_events()? {
                return Ok(Polled::Rebalance(rebalance));
            }
            let batch = self.take(true);
            if !batch.is_empty() || !batch.ends().is_empty() {
                return Ok(Polled::Records(batch));
            }
            self.told_fault()?;
            if !self.policies.is_empty() || !self.member.context().wake.wait_until(deadline) {
                return Ok(Polled::Records(batch));
            }
        }
    }

    fn poll_policies(&mut self) -> Result<Batch, PortError> {
        // A fault is told by the next `poll`, so that no record that came with it is dropped.
        Ok(self.take(false))
    }

    fn accept(&mut self, partitions: &[Accepted]) -> Result<(), PortError> {
        let started: Vec<_> =
            partitions.iter().filter_map(|accepted| Some((accepted.partition, accepted.start?))).collect();
        // A halted partition stays ours without librdkafka reading it: the group's assignment and the fetched set
        // may differ.
        self.mend_positions()?;
        self.start(&started)?;
        self.unanswered = false;
        Ok(())
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), PortError> {
        for partition in partitions {
            self.started.remove(partition);
        }
        let policies = self.policies_reader.context().fetched_of(partitions.iter().copied());
        if policies.count() > 0 {
            // An assignment of our own, so there is no group to answer.
            let mut list = TopicPartitionList::new();
            for element in policies.elements() {
                list.add_partition(&self.settings.topics.policies, element.partition());
            }
            self.policies_reader
                .incremental_unassign(&list)
                .map_err(|error| retriable("policies cannot be let go", &error))?;
        }
        // They are no longer ours whatever else fails, so the answer is given in any case.
        let mended = self.mend_positions();
        let usage = self.member.context().fetched_of(partitions.iter().copied());
        self.unanswered = false;
        self.member
            .incremental_unassign(&usage)
            .map_err(|error| retriable("partitions cannot be let go", &error))
            .and(mended)
    }

    fn seek(&mut self, partition: i32, start: Start) -> Result<(), PortError> {
        if !self.started.contains(&partition) {
            // It was halted; librdkafka has not read it so far.
            return self.start(&[(partition, start)]);
        }
        self.usage.forget(partition);
        let topics = &self.settings.topics;
        // A partition that went and came back may have lost its forwarding after it was started: see `forward`.
        self.usage.forward(&topics.usage, partition);
        self.policies.forward(&topics.policies, partition);
        seek(&self.member, &topics.usage, partition, start.usage)?;
        seek(&self.policies_reader, &topics.policies, partition, start.policies)
    }

    fn pause(&mut self, partition: i32, paused: bool) -> Result<(), PortError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.settings.topics.usage, partition);
        let done = if paused { self.member.pause(&list) } else { self.member.resume(&list) };
        done.map_err(|error| retriable("a partition cannot be paused or resumed", &error))
    }

    fn membership(&self) -> Result<ConsumerGroupMetadata, PortError> {
        let outside = || PortError::Retriable("this member is not in the group".into());
        if matches!(self.member.rebalance_protocol(), RebalanceProtocol::None) || self.member.assignment_lost() {
            return Err(outside());
        }
        self.member.group_metadata().ok_or_else(outside)
    }

    fn members(&mut self) -> Result<Vec<String>, PortError> {
        if let OffsetKeeper::InProcess(_) = self.keeper {
            // The embedded broker lists no members, and this process is the only one.
            return Ok(vec![self.client_id.clone()]);
        }
        let group = &self.settings.group_id;
        let list = self
            .uncommitted
            .consumer()
            .fetch_group_list(Some(group), ASK)
            .map_err(|error| retriable("the group's members cannot be listed", &error))?;
        let members = list.groups().iter().filter(|found| found.name() == group).flat_map(GroupInfo::members);
        Ok(members.map(|member| member.client_id().to_owned()).collect())
    }

    fn last_committed(&mut self, partitions: &[i32]) -> Result<Vec<Option<Committed>>, PortError> {
        self.committed_with(self.uncommitted.consumer(), partitions, ASK)
    }

    fn stable_committed(&mut self, partitions: &[i32]) -> Result<Vec<Option<Committed>>, PortError> {
        self.committed_with(&self.member, partitions, STABLE)
    }

    fn range(&mut self, partition: i32) -> Result<LogRange, PortError> {
        let topic = &self.settings.topics.usage;
        // Stable first: it never is beyond the high watermark that is asked for after it.
        let (_, stable) = self.committed.watermarks(topic, partition, ASK)?;
        let (low, high) = self.uncommitted.watermarks(topic, partition, ASK)?;
        Ok(LogRange { low, stable, high })
    }

    fn cached_range(&self, partition: i32) -> Option<LogRange> {
        self.member.context().range(partition)
    }

    fn record_mark(&mut self, partition: i32, offset: i64) -> Result<Option<RecordMark>, PortError> {
        let topic = self.settings.topics.usage.clone();
        self.committed.start(&topic, &[(partition, Offset::Offset(offset))])?;
        let deadline = Instant::now() + ASK;
        let step = self.committed.step(deadline);
        self.committed.stop();
        if !step.batch.is_empty() {
            let record = step.batch.get(0);
            return Ok((record.offset == offset).then(|| mark_of(&record)));
        }
        match step.fault {
            Some(Fault {
                code: RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange, ..
            }) => Ok(None),
            Some(fault) => Err(self.committed.fault(&topic, fault).into()),
            None if !step.ends.is_empty() => Ok(None),
            None => {
                Err(PortError::Retriable(format!("{topic}/{partition} gave no record at {offset} in {ASK:?}")))
            }
        }
    }

    fn read_control(
        &mut self,
        partition: i32,
        each: &mut dyn FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), PortError> {
        let topic = self.settings.topics.decisions.clone();
        let (low, high) = self.uncommitted.watermarks(&topic, partition, ASK)?;
        if low >= high {
            return Ok(());
        }
        self.committed.read_to(&topic, &[(partition, Offset::Offset(low), high)], CONTROL, &mut |batch| {
            for index in 0..batch.len() {
                let record = batch.get(index);
                each(record.key.unwrap_or_default(), record.value);
            }
        })?;
        Ok(())
    }

    fn policies_range(&mut self, partition: i32) -> Result<(i64, i64), PortError> {
        Ok(self.uncommitted.watermarks(&self.settings.topics.policies, partition, ASK)?)
    }

    fn cluster_id(&mut self) -> Result<String, PortError> {
        self.member
            .client()
            .fetch_cluster_id(ASK)
            .ok_or_else(|| PortError::Retriable("the cluster does not tell its id".into()))
    }

    fn partitions(&self) -> i32 {
        self.partitions
    }
}

impl Drop for KafkaSource {
    /// Leaves the group. What is unanswered is answered first: the client's close waits for it.
    fn drop(&mut self) {
        self.member.context().close();
        if self.unanswered {
            // Whichever was asked: an empty assign answers an assign, an empty unassign a revocation.
            let _ = self.member.incremental_assign(&TopicPartitionList::new());
            let _ = self.member.incremental_unassign(&TopicPartitionList::new());
        }
    }
}
