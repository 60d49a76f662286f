//! One decision as the table holds it: what a verdict tells at once, and the whole of it packed. A million of them stand in memory,
//! so the whole is kept as the bytes of our own Avro schema and unpacked for who asks.

use std::borrow::Cow;

use super::key::budget_at;
use crate::codec::{self, DecodeError, Decoder};
use crate::domain::credits::CreditSum;
use crate::domain::limits::decision::{Action, DecisionReason, LimitDecision};
use crate::domain::time::Timestamp;

/// Why a decision is what it is; one that this version does not know is kept as text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Known(DecisionReason),
    Other(Box<str>),
}

/// A decision of the table.
#[derive(Debug)]
pub(super) struct Held {
    key: Box<str>,
    budget_at: usize,
    reason: Told,
    pub(super) version: i64,
    pub(super) period_end: Timestamp,
    /// Packed, or the JSON it came as where this version does not know all of its words, or nothing.
    whole: Box<[u8]>,
}

/// A decision read off the topic, and what of it ranks it among others.
pub(super) struct Read {
    pub(super) held: Held,
    /// `None` for an action that this version does not know.
    pub(super) action: Option<Action>,
    /// Micro-credits; the greatest when unlimited. Saturates: beyond 9 * 10^12 credits all are equally much.
    pub(super) remaining: i64,
}

fn ranked(remaining: Option<i128>) -> i64 {
    remaining.map_or(i64::MAX, |micros| i64::try_from(micros).unwrap_or(i64::MAX))
}

impl Held {
    /// Reads the value that stands under `key`.
    pub(super) fn read(decoder: &mut Decoder, key: &str, value: &[u8]) -> Result<Read, DecodeError> {
        let budget_at = budget_at(key);
        let key = Box::from(key);
        match decoder.decision(value) {
            Ok(decision) => {
                let level = &decision.level;
                let held = Self {
                    key,
                    budget_at,
                    reason: Told::Known(level.reason),
                    version: decision.version,
                    period_end: level.period_end,
                    whole: codec::pack_decision(&decision).into_boxed_slice(),
                };
                let remaining = ranked(decision.figures.remaining.map(CreditSum::micros));
                Ok(Read { held, action: Some(level.action), remaining })
            }
            Err(unavailable @ DecodeError::Unavailable(_)) => Err(unavailable),
            // Perhaps it only says something new: known values are strings, so that a new one breaks no reader.
            Err(DecodeError::Reject(_)) => {
                let notice = decoder.notice(value)?;
                let known = DecisionReason::from_name(&notice.reason);
                let text = value.trim_ascii_start();
                let is_json = text.first() == Some(&b'{');
                let held = Self {
                    key,
                    budget_at,
                    reason: known.map_or_else(|| Told::Other(notice.reason.into()), Told::Known),
                    version: notice.version,
                    period_end: notice.period_end,
                    whole: if is_json { text.into() } else { Box::default() },
                };
                let remaining = ranked(notice.remaining.map(CreditSum::micros));
                Ok(Read { held, action: Action::from_name(&notice.action), remaining })
            }
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The budget's part of the key; empty for an org's own limit.
    pub(super) fn budget(&self) -> &str {
        &self.key[self.budget_at..]
    }

    pub(super) fn reason(&self) -> &str {
        match &self.reason {
            Told::Known(reason) => reason.name(),
            Told::Other(text) => text,
        }
    }

    /// The whole decision; `None` when it holds words that this version does not know.
    pub(super) fn decision(&self) -> Option<LimitDecision> {
        codec::unpack_decision(&self.whole)
    }

    /// The whole decision as JSON; `None` when it was not JSON and holds words that this version does not know.
    pub(super) fn json(&self) -> Option<Cow<'_, [u8]>> {
        // What is packed begins with a text's length, which is even in Avro; `{` is odd.
        if self.whole.first() == Some(&b'{') {
            return Some(Cow::Borrowed(&self.whole));
        }
        self.decision().map(|decision| Cow::Owned(codec::decision_bytes(&decision)))
    }
}
