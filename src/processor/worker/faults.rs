//! What the log refuses of one partition: its task halts, or is read again; the others go on (Law 8). A task that halted
//! for a cause that may pass is started again by itself.

use std::time::{Duration, Instant};

use crate::clock::Clock as _;
use crate::processor::ports::{Polled, PortError, Sink, Source};
use crate::processor::recovery::Halt;

use super::{Slot, Worker, WorkerError};

impl<S: Source, K: Sink<Membership = S::Membership>> Worker<S, K> {
    /// The source cannot read a partition on and has stopped it. Its task is recovered from its store in a few seconds: what
    /// the log holds now is recovery's to judge, for a log that was cut and grew again holds the position too.
    pub(super) fn refused(&mut self, partition: i32, message: &str) {
        if matches!(self.slots.get(&partition), Some(Slot::Running(_))) {
            let message = format!("partition {partition}: {message}; the log is looked at again in a few seconds");
            self.halt(partition, &Halt::passing("log_gone", message));
        }
    }

    /// The clock is not believed: nothing is decided, published or persisted, and what is in memory may follow from it, so
    /// all tasks are recovered once it is right. The group is answered meanwhile.
    pub(super) fn distrust_clock(&mut self, fault: &str) -> Result<(), WorkerError> {
        self.broken = true;
        self.shared.health.turned(self.number);
        self.shared.health.waits(self.number, fault);
        self.shared.telemetry.clock_not_believed(fault);
        match self.source.poll(self.settings.poll_wait) {
            Ok(Polled::Rebalance(rebalance)) => return self.rebalance(rebalance),
            Err(PortError::Partition { partition, message }) => self.refused(partition, &message),
            Err(fatal @ PortError::Fatal(_)) => return Err(fatal.into()),
            // Records are read again.
            Ok(Polled::Records(_)) | Err(PortError::Retriable(_)) => {}
        }
        self.hold_clock_against_kafka();
        Ok(())
    }

    /// Shows the clock what the last records tell of the broker's.
    pub(super) fn hold_clock_against_kafka(&mut self) {
        let clock = &self.settings.task.clock;
        if let Some(time) = self.source.broker_time().filter(|_| clock.is_machine()) {
            clock.observe(time);
        }
    }

    /// Starts those halted tasks again whose cause may have passed.
    ///
    /// # Errors
    /// As `recover`.
    pub(super) fn restart_halted(&mut self) -> Result<(), WorkerError> {
        let now = Instant::now();
        let is_due = |slot: &Slot| matches!(slot, Slot::Halted { again_at: Some(at), .. } if *at <= now);
        let due: Vec<i32> =
            self.slots.iter().filter(|(_, slot)| is_due(slot)).map(|(&partition, _)| partition).collect();
        if due.is_empty() {
            return Ok(());
        }
        // Recovery may take long.
        self.publish_gathered();
        if self.broken {
            return Ok(());
        }
        let stores = self.open_stores(&due, Duration::ZERO);
        for accepted in self.recover(stores, false)? {
            let Some(start) = accepted.start else { continue };
            let partition = accepted.partition;
            let started = self.source.seek(partition, start).and_then(|()| self.source.pause(partition, false));
            if let Err(error @ (PortError::Retriable(_) | PortError::Partition { .. })) = started {
                self.shared.telemetry.resume_failed(partition, &error.to_string());
                self.wait(partition);
            }
        }
        Ok(())
    }
}
