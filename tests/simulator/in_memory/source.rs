//! The reading end of the double: batches in a fixed order, rebalances where the test puts them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tallyman::processor::ports::{
    Accepted, BrokerTime, Committed, Input, LogRange, Polled, PortError, Rebalance, RecordMark, Source, Start,
    mark_of,
};

use super::sink::init;
use super::{InMemoryBatch, InMemoryLog, InMemoryRecord, POLICIES, State, USAGE};

/// How often an open transaction holds up the reading of stable offsets before it times out.
const OPEN_WAITS: u32 = 1;

/// A consumer of the double.
pub struct InMemorySource {
    log: InMemoryLog,
    client_id: String,
    batch_max: usize,
    owned: BTreeSet<i32>,
    usage: BTreeMap<i32, i64>,
    policies: BTreeMap<i32, i64>,
    paused: BTreeSet<i32>,
}

impl InMemorySource {
    /// A consumer that joins the group as `client_id` and takes at most `batch_max` records of a partition at once.
    #[must_use]
    pub fn new(log: &InMemoryLog, client_id: &str, batch_max: usize) -> Self {
        log.lock().members.entry(client_id.to_owned()).or_default();
        Self {
            log: log.clone(),
            client_id: client_id.to_owned(),
            batch_max,
            owned: BTreeSet::new(),
            usage: BTreeMap::new(),
            policies: BTreeMap::new(),
            paused: BTreeSet::new(),
        }
    }

    fn read(&self, topic: &'static str, positions: &BTreeMap<i32, i64>) -> (InMemoryBatch, Vec<(i32, i64)>) {
        let mut state = self.log.lock();
        let mut batch = InMemoryBatch::default();
        let mut next = Vec::new();
        for (&partition, &from) in positions {
            if topic == USAGE && self.paused.contains(&partition) {
                continue;
            }
            let records = state.topics.get(&(topic, partition)).map_or([].as_slice(), Vec::as_slice);
            let taken = records.iter().filter(|record| record.offset >= from).take(self.batch_max);
            batch.records.extend(taken.map(|record| (partition, record.clone())));
            let last = batch.records.last().filter(|(last, _)| *last == partition);
            let mut to = last.map_or(from, |(_, record)| record.offset + 1);
            let (end, more) = (state.end(topic, partition), records.last().is_some_and(|last| last.offset >= to));
            if to <= end && !more {
                to = end;
                batch.ends.push((partition, to));
            }
            next.push((partition, to));
        }
        state.delivered += batch.records.len();
        (batch, next)
    }
}

fn at(state: &State, input: Input, partition: i32, offset: i64) -> Option<&InMemoryRecord> {
    let topic = if input == Input::Usage { USAGE } else { POLICIES };
    state.topics.get(&(topic, partition))?.iter().find(|record| record.offset == offset)
}

impl Source for InMemorySource {
    type Batch = InMemoryBatch;
    type Membership = String;

    fn poll(&mut self, _wait: Duration) -> Result<Polled<InMemoryBatch>, PortError> {
        self.log.step("poll");
        let mut state = self.log.lock();
        let was_member = state.members.contains_key(&self.client_id);
        let member = state.members.entry(self.client_id.clone()).or_default();
        if !was_member && !self.owned.is_empty() {
            return Ok(Polled::Rebalance(Rebalance::Lost(self.owned.iter().copied().collect())));
        }
        if let Some(rebalance) = member.rebalances.pop_front() {
            return Ok(Polled::Rebalance(rebalance));
        }
        // As librdkafka does it: what the log no longer holds is an error of that partition, which is read no longer.
        let below = |&(partition, position): &(&i32, &i64)| {
            !self.paused.contains(partition) && state.low.get(partition).is_some_and(|low| *position < *low)
        };
        if let Some((partition, position)) = self.usage.iter().find(below).map(|(&partition, &at)| (partition, at))
        {
            drop(state);
            self.stop(partition);
            let message = format!("usage/{partition} has no offset {position}");
            return Err(PortError::Partition { partition, message });
        }
        drop(state);
        let (batch, next) = self.read(USAGE, &self.usage);
        self.usage.extend(next);
        Ok(Polled::Records(batch))
    }

    fn poll_policies(&mut self) -> InMemoryBatch {
        let (batch, next) = self.read(POLICIES, &self.policies);
        self.policies.extend(next);
        batch
    }

    fn accept(&mut self, partitions: &[Accepted]) {
        self.log.step("accept");
        for Accepted { partition, start } in partitions {
            self.owned.insert(*partition);
            if let Some(start) = start {
                self.usage.insert(*partition, start.usage);
                self.policies.insert(*partition, start.policies);
            }
        }
    }

    fn release(&mut self, partitions: &[i32]) {
        self.log.step("release");
        for partition in partitions {
            self.owned.remove(partition);
            self.usage.remove(partition);
            self.policies.remove(partition);
            self.paused.remove(partition);
        }
    }

    fn seek(&mut self, partition: i32, start: Start) -> Result<(), PortError> {
        let takes = |rebalance: &Rebalance| match rebalance {
            Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => partitions.contains(&partition),
            Rebalance::Assigned(_) => false,
        };
        // As librdkafka does it: a partition that is being taken away cannot be read again.
        if self.log.lock().members.get(&self.client_id).is_some_and(|member| member.rebalances.iter().any(takes)) {
            return Err(PortError::Retriable(format!("partition {partition} is being taken away")));
        }
        self.usage.insert(partition, start.usage);
        self.policies.insert(partition, start.policies);
        Ok(())
    }

    fn stop(&mut self, partition: i32) {
        self.usage.remove(&partition);
        self.policies.remove(&partition);
    }

    fn pause(&mut self, partition: i32, paused: bool) -> Result<(), PortError> {
        if paused {
            self.paused.insert(partition);
        } else {
            self.paused.remove(&partition);
        }
        Ok(())
    }

    fn membership(&self) -> Result<String, PortError> {
        Ok(self.client_id.clone())
    }

    fn members(&mut self) -> Result<Vec<String>, PortError> {
        Ok(self.log.lock().members.keys().cloned().collect())
    }

    fn last_committed(&mut self, partitions: &[i32]) -> Result<Vec<Option<Committed>>, PortError> {
        self.log.step("last_committed");
        let state = self.log.lock();
        Ok(partitions.iter().map(|partition| state.offsets.get(partition).cloned()).collect())
    }

    fn stable_committed(&mut self, partitions: &[i32]) -> Result<Vec<Option<Committed>>, PortError> {
        self.log.step("stable_committed");
        let mut state = self.log.lock();
        if let Some((open, waits)) = state.open.iter_mut().next() {
            let message = format!("the transaction of {open} is open");
            *waits += 1;
            // Kafka ends an abandoned transaction after its timeout, also one whose owner nobody knows.
            if *waits == OPEN_WAITS {
                let open = open.clone();
                init(&mut state, &open);
            }
            return Err(PortError::Retriable(message));
        }
        Ok(partitions.iter().map(|partition| state.offsets.get(partition).cloned()).collect())
    }

    fn range(&mut self, partition: i32) -> Result<LogRange, PortError> {
        self.cached_range(partition).ok_or_else(|| PortError::Fatal("no such partition".into()))
    }

    fn cached_range(&self, partition: i32) -> Option<LogRange> {
        let state = self.log.lock();
        let end = state.end(USAGE, partition);
        Some(LogRange { low: state.low.get(&partition).copied().unwrap_or(0), stable: end, high: end })
    }

    fn cached_policies_end(&self, partition: i32) -> Option<i64> {
        Some(self.log.lock().end(POLICIES, partition))
    }

    fn broker_time(&mut self) -> Option<BrokerTime> {
        // What this log stamps, tests choose.
        None
    }

    fn record_mark(&mut self, input: Input, partition: i32, offset: i64) -> Result<Option<RecordMark>, PortError> {
        let state = self.log.lock();
        let batch = at(&state, input, partition, offset)
            .map(|record| InMemoryBatch { records: vec![(partition, record.clone())], ends: Vec::new() });
        Ok(batch.map(|batch| mark_of(&tallyman::processor::ports::RecordBatch::get(&batch, 0))))
    }

    fn read_control(
        &mut self,
        partition: i32,
        each: &mut dyn FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), PortError> {
        self.log.step("read_control");
        let records = self.log.records(tallyman::processor::ports::OutputTopic::Decisions, partition);
        for record in &records {
            each(record.key.as_deref().unwrap_or_default(), record.value.as_deref());
        }
        Ok(())
    }

    fn policies_range(&mut self, partition: i32) -> Result<(i64, i64), PortError> {
        Ok((0, self.log.lock().end(POLICIES, partition)))
    }

    fn cluster_id(&mut self) -> Result<String, PortError> {
        Ok("twin".into())
    }

    fn partitions(&self) -> i32 {
        self.log.lock().partitions
    }
}
