//! Live traffic: one event at a time for the sample organisations, as services behind gateways send it: what is blocked
//! is refused before it spends anything.

use std::collections::VecDeque;

use super::Levels;
use super::sample::load;
use super::watch::{Seen, blocks};
use crate::cli::generator::Generator;
use crate::clock::{Clock as _, SystemClock};
use crate::codec::{ValueEncoding, encode_usage};
use crate::domain::limits::scope::Scope;
use crate::domain::time::Timestamp;
use crate::kafka::{self, Producer, Sent};

/// Events whose times are remembered.
const REMEMBERED: usize = 512;

/// What sends.
pub(super) struct Traffic<'a> {
    generator: Generator,
    producer: &'a Producer,
    topic: &'a str,
    value: Vec<u8>,
    sent: VecDeque<(String, Timestamp)>,
}

impl<'a> Traffic<'a> {
    pub(super) fn new(producer: &'a Producer, topic: &'a str) -> Self {
        let seed = SystemClock.now().micros().unsigned_abs();
        Self {
            generator: Generator::new(load(seed, 0.005)),
            producer,
            topic,
            value: Vec::with_capacity(1_024),
            sent: VecDeque::with_capacity(REMEMBERED),
        }
    }

    /// Sends the next event, unless its org, or a value of it under a budget, is blocked.
    pub(super) fn send_one(&mut self, levels: &Levels) -> Result<(), kafka::Error> {
        let event = self.generator.next(SystemClock.now());
        let binds = |scope: &Scope| {
            let Some(budget) = &scope.budget else { return true };
            budget.dimension.is_none_or(|dimension| {
                budget.value.is_some() && event.dims.get(dimension) == budget.value.as_deref()
            })
        };
        let mut of_org = levels.iter().filter(|(scope, _)| *scope.org_id == *event.org_id);
        if of_org.any(|(scope, decision)| binds(scope) && blocks(decision)) {
            return Ok(());
        }
        self.value.clear();
        encode_usage(&event, ValueEncoding::Json, &mut self.value);
        let key = Some(event.org_id.as_bytes());
        self.producer.send(self.topic, &Sent { key, value: Some(&self.value), ..Sent::default() })?;
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((event.event_id.into_owned(), event.occurred_at));
        Ok(())
    }

    /// When the event that caused a decision was sent, if it is one of the latest of ours.
    pub(super) fn sent_at(&self, seen: &Seen) -> Option<Timestamp> {
        let cause = seen.decision.cause.event_id.as_deref()?;
        self.sent.iter().rev().find(|(id, _)| id == cause).map(|(_, at)| *at)
    }
}
