//! Partitions that must be read again from an offset before anything else of them is taken. librdkafka refuses a seek
//! while it starts, stops or has given up a partition, so a seek that fails is tried again, and what arrives meanwhile is
//! dropped: no record between is skipped (Law 7). Next to read: `source`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;

use super::batch::StatefulConsumer;
use super::settings::{Topics, told};
use crate::processor::ports::{Input, PortError};

/// How long one seek may take.
const SEEK: Duration = Duration::from_secs(1);
/// The wait before a seek that failed is tried again.
const AGAIN: Duration = Duration::from_millis(20);
/// After so long a partition that cannot be read again is reported.
const PATIENCE: Duration = Duration::from_secs(30);

/// The topic's name.
pub(super) fn topic_of(input: Input, topics: &Topics) -> &str {
    match input {
        Input::Usage => &topics.usage,
        Input::Policies => &topics.policies,
    }
}

#[derive(Debug)]
struct Reread {
    offset: i64,
    since: Instant,
    again_at: Instant,
}

/// What is to be read again.
#[derive(Debug, Default)]
pub(super) struct Rereads(BTreeMap<(Input, i32), Reread>);

impl Rereads {
    /// Nothing of the partition is wanted until it is read from `offset`.
    pub(super) fn ask(&mut self, input: Input, partition: i32, offset: i64) {
        let now = Instant::now();
        self.0.insert((input, partition), Reread { offset, since: now, again_at: now });
    }

    /// As `ask`, unless an offset is asked for already that comes before.
    pub(super) fn ask_back(&mut self, input: Input, partition: i32, offset: i64) {
        if self.0.get(&(input, partition)).is_none_or(|reread| offset < reread.offset) {
            self.ask(input, partition, offset);
        }
    }

    /// Whether the partition still has to be read again.
    pub(super) fn is_open(&self, input: Input, partition: i32) -> bool {
        self.0.contains_key(&(input, partition))
    }

    /// The partition is no longer read.
    pub(super) fn cancel(&mut self, partition: i32) {
        self.0.retain(|(_, other), _| *other != partition);
    }

    /// Tries what is due; gives each partition that is read again, with its offset, to `done`.
    ///
    /// # Errors
    /// [`PortError::Partition`] for one that could not be read again for long; it is tried on.
    pub(super) fn serve<'a>(
        &mut self,
        consumer: impl Fn(Input) -> &'a StatefulConsumer,
        topics: &Topics,
        mut done: impl FnMut(Input, i32, i64),
    ) -> Result<(), PortError> {
        let now = Instant::now();
        let mut outcome = Ok(());
        self.0.retain(|&(input, partition), reread| {
            if now < reread.again_at {
                return true;
            }
            let topic = topic_of(input, topics);
            match consumer(input).seek(topic, partition, Offset::Offset(reread.offset), SEEK) {
                Ok(()) => {
                    done(input, partition, reread.offset);
                    false
                }
                Err(error) => {
                    reread.again_at = Instant::now() + AGAIN;
                    if reread.since.elapsed() >= PATIENCE {
                        reread.since = Instant::now();
                        let message = format!(
                            "{topic}/{partition} cannot be read from offset {}: {}",
                            reread.offset,
                            told(&error)
                        );
                        outcome = Err(PortError::Partition { partition, message });
                    }
                    true
                }
            }
        });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;
    use crate::kafka::client::ConsumerState;

    #[test]
    fn what_strayed_first_is_read_again_first_whatever_fails_meanwhile() {
        let consumer: StatefulConsumer =
            ClientConfig::new().set("group.id", "nobody").create_with_context(ConsumerState::default()).unwrap();
        let mut rereads = Rereads::default();
        rereads.ask_back(Input::Usage, 3, 7);
        rereads.ask_back(Input::Usage, 3, 9);
        // Nothing is assigned: librdkafka refuses the seek, as it does while it starts or stops a partition.
        let mut done = Vec::new();
        rereads.serve(|_| &consumer, &Topics::default(), |input, _, offset| done.push((input, offset))).unwrap();
        assert_eq!(done, []);
        assert!(rereads.is_open(Input::Usage, 3) && !rereads.is_open(Input::Policies, 3));
        assert_eq!(rereads.0[&(Input::Usage, 3)].offset, 7);
        rereads.ask(Input::Usage, 3, 20);
        assert_eq!(rereads.0[&(Input::Usage, 3)].offset, 20, "a task that was recovered says where it stands");
        rereads.cancel(3);
        assert!(!rereads.is_open(Input::Usage, 3));
    }
}
