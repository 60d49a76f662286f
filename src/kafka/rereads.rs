//! Partitions that must be read again from an offset before anything else of them is taken. librdkafka refuses a seek
//! while it starts, stops or has given up a partition, so a seek that fails is tried again, and what arrives meanwhile is
//! dropped: no record between is skipped (Law 7). Next to read: `source`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;

use super::batch::StatefulConsumer;
use super::settings::{Topics, told};
use crate::processor::ports::PortError;

/// How long one seek may take.
const SEEK: Duration = Duration::from_secs(1);
/// The wait before a seek that failed is tried again.
const AGAIN: Duration = Duration::from_millis(20);
/// After so long a partition that cannot be read again is reported.
const PATIENCE: Duration = Duration::from_secs(30);

/// A topic that a worker reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    /// Usage.
    Usage,
    /// Policies.
    Policies,
}

impl Input {
    /// Its topic's name.
    pub(super) fn topic(self, topics: &Topics) -> &str {
        match self {
            Self::Usage => &topics.usage,
            Self::Policies => &topics.policies,
        }
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
            let topic = input.topic(topics);
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
