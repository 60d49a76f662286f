//! The log as a worker reads it: one member of the consumer group for usage, and beside it plain readers of
//! policies, decisions and committed offsets. Rebalances wait for the worker's answer (Law 5), and each gets one, whatever
//! a single partition does; nothing is committed here (Law 3); a log that no longer holds what was asked for is
//! reported, never skipped (Law 8). Next to read: `rereads`, `sink`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::groups::GroupInfo;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::Error;
use super::batch::{Batch, BatchQueue, StatefulConsumer, events_waiting};
use super::client::ConsumerState;
use super::fetch::{fetch, stopped, unfetch};
use super::lookup::{committed_offsets, partition_count, retriable};
use super::offsets::OffsetKeeper;
use super::reader::Reader;
use super::rereads::{Rereads, topic_of};
use super::settings::{Isolation, KafkaSettings, told};
use crate::processor::ports::{
    Accepted, BrokerTime, Committed, Input, LogRange, Polled, PortError, Rebalance, RecordBatch as _, RecordMark,
    Source, Start,
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
    rereads: Rereads,
    /// A rebalance was taken and not answered yet.
    unanswered: bool,
    /// Partitions that stop being fetched, and those that start again, once no rebalance is open: also one that was not polled
    /// yet would take an unassign or an assign for its answer.
    stopping: Vec<i32>,
    starting: Vec<(i32, Start)>,
    /// Faults of partitions that no poll has reported yet.
    faults: VecDeque<PortError>,
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
        let state = ConsumerState::ringing(&member.context().wake, &settings.topics.policies);
        let policies_reader: StatefulConsumer = settings
            .consumer(&format!("{client_id}/policies"), Isolation::Committed)
            .set("statistics.interval.ms", "1000")
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
            rereads: Rereads::default(),
            unanswered: false,
            stopping: Vec::new(),
            starting: Vec::new(),
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
            for input in [Input::Usage, Input::Policies] {
                let consumer = Arc::clone(self.consumer(input));
                let event = consumer.poll(Duration::ZERO);
                served |= event.is_some() || events_waiting(&consumer) > 0;
                match event {
                    Some(Ok(strayed)) => self.lead_back(input, strayed.partition(), Some(strayed.offset())),
                    Some(Err(KafkaError::PartitionEOF(partition))) => self.lead_back(input, partition, None),
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
                && self.concerns_us(&rebalance)
            {
                return Ok(Some(rebalance));
            }
        }
        Ok(None)
    }

    fn consumer(&self, input: Input) -> &Arc<StatefulConsumer> {
        match input {
            Input::Usage => &self.member,
            Input::Policies => &self.policies_reader,
        }
    }

    fn queue(&mut self, input: Input) -> &mut BatchQueue {
        match input {
            Input::Usage => &mut self.usage,
            Input::Policies => &mut self.policies,
        }
    }

    fn forward(&mut self, partition: i32) {
        self.usage.forward(&self.settings.topics.usage, partition);
        self.policies.forward(&self.settings.topics.policies, partition);
    }

    /// What stands in a consumer's own queue has lost its forwarding: it is led to ours again, and read again from the
    /// record that strayed, before anything behind it is taken (Law 7).
    fn lead_back(&mut self, input: Input, partition: i32, strayed: Option<i64>) {
        if !self.started.contains(&partition) {
            return;
        }
        self.forward(partition);
        if let Some(offset) = strayed {
            self.rereads.ask_back(input, partition, offset);
        }
    }

    /// Answers by itself a rebalance that takes nothing: there is nothing to let go. An assignment of nothing is the worker's
    /// all the same: it has joined the group, and is not needed.
    fn concerns_us(&mut self, rebalance: &Rebalance) -> bool {
        self.unanswered = true;
        match rebalance {
            Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) if partitions.is_empty() => {
                self.release(&[]);
            }
            _ => return true,
        }
        false
    }

    /// What has arrived of started partitions.
    fn take(&mut self, input: Input) -> Batch {
        let (started, rereads, faults) = (&self.started, &self.rereads, &mut self.faults);
        let (topic, committed) = (topic_of(input, &self.settings.topics), &self.committed);
        let queue = if input == Input::Usage { &mut self.usage } else { &mut self.policies };
        queue.take(
            |partition| started.contains(&partition) && !rereads.is_open(input, partition),
            |fault| {
                if started.contains(&fault.partition) {
                    faults.extend(stopped(topic, fault, committed));
                }
            },
        )
    }

    /// Seeks what is to be read again.
    fn reread(&mut self) {
        let (member, policies) = (Arc::clone(&self.member), Arc::clone(&self.policies_reader));
        let consumer = |input| if input == Input::Usage { &*member } else { &*policies };
        let mut rereads = std::mem::take(&mut self.rereads);
        let topics = self.settings.topics.clone();
        let served = rereads.serve(consumer, &topics, |input, partition, offset| {
            self.queue(input).reads_from(partition, offset);
        });
        self.rereads = rereads;
        self.faults.extend(served.err());
    }

    /// Law 7: batch consume takes the end of a partition for a record, so that librdkafka, which pauses all partitions in
    /// a rebalance, would read on one offset beyond it: a record skipped, or an offset out of range. To be called before
    /// a rebalance is answered, while all is paused.
    fn mend_positions(&mut self) {
        for &partition in &self.started {
            if let Some(next) = self.usage.next_offset(partition) {
                self.rereads.ask_back(Input::Usage, partition, next);
            }
        }
        self.reread();
    }

    /// Lets librdkafka fetch partitions from where they start. One that it refuses is a fault of that partition.
    fn start(&mut self, accepted: &[(i32, Start)]) {
        for &(partition, start) in accepted {
            self.rereads.cancel(partition);
            self.usage.reads_from(partition, start.usage);
            self.policies.reads_from(partition, start.policies);
            self.forward(partition);
            self.started.insert(partition);
        }
        for (input, offset) in
            [(Input::Usage, (|start| start.usage) as fn(Start) -> i64), (Input::Policies, |start| start.policies)]
        {
            let consumer = Arc::clone(self.consumer(input));
            let topic = topic_of(input, &self.settings.topics);
            let from: Vec<_> = accepted.iter().map(|&(partition, start)| (partition, offset(start))).collect();
            for (partition, error) in fetch(&consumer, topic, &from) {
                let message = format!("{topic}/{partition} cannot be read: {}", told(&error));
                self.faults.push_back(PortError::Partition { partition, message });
            }
        }
        for &(partition, _) in accepted {
            self.forward(partition);
        }
    }

    fn unfetch(&self, partitions: &[i32]) {
        for input in [Input::Usage, Input::Policies] {
            unfetch(self.consumer(input), topic_of(input, &self.settings.topics), partitions);
        }
    }

    /// Nothing of the partition is delivered any more.
    fn drop_partition(&mut self, partition: i32) {
        self.started.remove(&partition);
        self.starting.retain(|(starting, _)| *starting != partition);
        self.rereads.cancel(partition);
        self.faults
            .retain(|fault| !matches!(fault, PortError::Partition { partition: of, .. } if *of == partition));
    }

    /// No rebalance is open: partitions that stopped need no longer be fetched.
    fn unfetch_stopped(&mut self) {
        let stopping = std::mem::take(&mut self.stopping);
        self.unfetch(&stopping);
    }

    /// No rebalance is open: partitions that were halted are fetched again, though they were paused before.
    fn start_again(&mut self) {
        let starting = std::mem::take(&mut self.starting);
        if !starting.is_empty() {
            self.start(&starting);
        }
        for (partition, _) in starting {
            let resumed = self.pause(partition, false);
            self.faults.extend(resumed.err());
        }
    }
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
            if !self.unanswered {
                self.unfetch_stopped();
                self.start_again();
            }
            self.reread();
            if let Some(fault) = self.faults.pop_front() {
                if let PortError::Partition { partition, .. } = &fault {
                    self.stop(*partition);
                }
                return Err(fault);
            }
            let batch = self.take(Input::Usage);
            if !batch.is_empty() || !batch.ends().is_empty() {
                return Ok(Polled::Records(batch));
            }
            if !self.faults.is_empty() {
                continue;
            }
            if !self.policies.is_empty() || !self.member.context().wake.wait_until(deadline) {
                return Ok(Polled::Records(batch));
            }
        }
    }

    fn poll_policies(&mut self) -> Batch {
        // A fault is reported by the next `poll`, so that no record that came with it is dropped.
        self.take(Input::Policies)
    }

    fn accept(&mut self, partitions: &[Accepted]) {
        // A halted partition stays ours without librdkafka reading it: the group's assignment and the fetched set
        // may differ.
        let started: Vec<_> =
            partitions.iter().filter_map(|accepted| Some((accepted.partition, accepted.start?))).collect();
        self.mend_positions();
        self.start(&started);
        self.unanswered = false;
        self.unfetch_stopped();
    }

    fn release(&mut self, partitions: &[i32]) {
        for &partition in partitions {
            self.drop_partition(partition);
        }
        self.stopping.retain(|partition| !partitions.contains(partition));
        self.mend_positions();
        // Policies are an assignment of our own: there is no group to answer.
        unfetch(&self.policies_reader, &self.settings.topics.policies, partitions);
        if !unfetch(&self.member, &self.settings.topics.usage, partitions) {
            // Nothing of them was fetched, or librdkafka refuses; without an answer all others would stay paused.
            let _ = self.member.incremental_unassign(&TopicPartitionList::new());
        }
        self.unanswered = false;
        self.unfetch_stopped();
    }

    fn seek(&mut self, partition: i32, start: Start) -> Result<(), PortError> {
        if !self.started.contains(&partition) {
            // It was halted; librdkafka does not read it.
            self.starting.retain(|(starting, _)| *starting != partition);
            self.starting.push((partition, start));
            return Ok(());
        }
        // A partition that went and came back may have lost its forwarding after it was started: see `forward`.
        self.forward(partition);
        self.rereads.ask(Input::Usage, partition, start.usage);
        self.rereads.ask(Input::Policies, partition, start.policies);
        self.reread();
        Ok(())
    }

    fn stop(&mut self, partition: i32) {
        self.drop_partition(partition);
        self.stopping.push(partition);
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
        let consumer = self.uncommitted.consumer();
        committed_offsets(&self.keeper, consumer, &self.settings.topics.usage, partitions, ASK)
    }

    fn stable_committed(&mut self, partitions: &[i32]) -> Result<Vec<Option<Committed>>, PortError> {
        committed_offsets(&self.keeper, &self.member, &self.settings.topics.usage, partitions, STABLE)
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

    fn cached_policies_end(&self, partition: i32) -> Option<i64> {
        self.policies_reader.context().range(partition).map(|range| range.stable)
    }

    fn broker_time(&mut self) -> Option<BrokerTime> {
        self.usage.take_broker_time()
    }

    fn record_mark(&mut self, input: Input, partition: i32, offset: i64) -> Result<Option<RecordMark>, PortError> {
        Ok(self.committed.mark(topic_of(input, &self.settings.topics), partition, offset, ASK)?)
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

    fn serve(&mut self) {
        self.committed.serve();
        self.uncommitted.serve();
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
