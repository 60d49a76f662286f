//! Which partitions librdkafka fetches, partition by partition: one that it refuses or gives up keeps no other from being
//! read. Next to read: `source`.

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;

use super::batch::{Fault, StatefulConsumer};
use super::client::locked;
use super::reader::Reader;
use crate::processor::ports::PortError;
use crate::telemetry::{CLIENTS, Line, Severity};

/// Lets `consumer` fetch partitions from their offsets, all at once or, where it refuses that, each by itself; gives those
/// that it refuses. Answers an assignment in any case.
pub(super) fn fetch(consumer: &StatefulConsumer, topic: &str, from: &[(i32, i64)]) -> Vec<(i32, KafkaError)> {
    let assign = |from: &[(i32, i64)]| {
        let mut list = TopicPartitionList::new();
        for &(partition, offset) in from {
            list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        }
        consumer.incremental_assign(&list)?;
        locked(&consumer.context().fetched).extend(from.iter().map(|(partition, _)| *partition));
        Ok(())
    };
    let Err(error) = assign(from) else { return Vec::new() };
    tracing::warn!(%error, topic, "librdkafka refuses to read some partitions");
    let refused = from.iter().filter_map(|&one| Some((one.0, assign(&[one]).err()?))).collect::<Vec<_>>();
    if refused.len() == from.len() {
        let _ = consumer.incremental_assign(&TopicPartitionList::new());
    }
    refused
}

/// Lets `consumer` fetch those of `partitions` no longer that it fetches; false when there is none or it refuses: what
/// still comes is dropped by whoever takes it.
pub(super) fn unfetch(consumer: &StatefulConsumer, topic: &str, partitions: &[i32]) -> bool {
    let list = consumer.context().fetched_of(topic, partitions.iter().copied());
    if list.count() == 0 {
        return false;
    }
    let unassigned = consumer.incremental_unassign(&list);
    if let Err(error) = &unassigned {
        tracing::warn!(%error, topic, ?partitions, "librdkafka refuses to let partitions go");
    }
    unassigned.is_ok()
}

/// What a fault of one partition means; `None` when librdkafka reads it on.
pub(super) fn stopped(topic: &str, fault: Fault, reader: &Reader) -> Option<PortError> {
    let message = reader.fault(topic, fault).to_string();
    match fault.code {
        // The log no longer holds what was to be read, or is closed to us (Law 8).
        RDKafkaErrorCode::AutoOffsetReset
        | RDKafkaErrorCode::OffsetOutOfRange
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownPartition
        | RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::GroupAuthorizationFailed => {
            Some(PortError::Partition { partition: fault.partition, message })
        }
        _ => {
            let what = "a partition reports an error; it is read on";
            let line = Line { severity: Severity::Warn, what: what.into(), detail: message, count: 1 };
            CLIENTS.happened("partition", line);
            None
        }
    }
}
