//! What the log itself refuses: which task cannot be read on, and which can (Law 8).

use crate::processor::ports::{PortError, Sink, Source};
use crate::processor::recovery::Halt;

use super::{Worker, WorkerError};

impl<S: Source, K: Sink<Membership = S::Membership>> Worker<S, K> {
    /// The log no longer gives what some task wants: that task halts, the others go on. When no task is at fault
    /// the worker cannot go on.
    pub(super) fn log_refused(&mut self, message: String) -> Result<(), WorkerError> {
        let positions: Vec<(i32, i64, i64)> =
            self.tasks().map(|task| (task.partition(), task.position(), task.policies_position())).collect();
        let mut halted = false;
        for (partition, position, terms) in positions {
            if let Ok((low, high)) = self.source.policies_range(partition)
                && !(low..=high).contains(&terms)
            {
                let halt = Halt::new(
                    "policies_changed",
                    format!(
                        "partition {partition}: the policies were read to offset {terms}, and hold {low} to {high} \
                         now: the topic was cut or is another one"
                    ),
                );
                self.halt(partition, &halt);
                halted = true;
                continue;
            }
            let halt = match self.source.range(partition) {
                Ok(range) if position < range.low => Halt::new(
                    "log_truncated",
                    format!(
                        "partition {partition}: the log begins at offset {} now and records from {position} on were \
                         never folded. Restore the log; `tallyman rebuild --partition {partition}` folds what is \
                         left",
                        range.low
                    ),
                ),
                Ok(range) if position > range.high => Halt::new(
                    "log_changed",
                    format!(
                        "partition {partition}: the log ends at {} now, before the position {position}: it was cut \
                         or is another topic",
                        range.high
                    ),
                ),
                Ok(_) => continue,
                Err(PortError::Retriable(_)) => continue,
                Err(PortError::Fatal(reason)) => Halt::new("log_gone", format!("partition {partition}: {reason}")),
            };
            self.halt(partition, &halt);
            halted = true;
        }
        if halted { Ok(()) } else { Err(WorkerError::Fatal(message)) }
    }
}
