//! The fold: events into facts of the cube, through its open segment in memory.
//!
//! An event costs a look-up of each of its texts and one append. At a flush the segment is frozen, and
//! `cube::seal` makes blocks and totals of it, perhaps in another thread, while the fold goes on. What content costs and
//! becomes is folded by `content_fold`.
//!
//! The fold knows no terms, no clock and no randomness (Law 2): facts depend on records alone, in log order.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::domain::credits::{CreditSum, Credits};
use crate::domain::cube::histogram;
use crate::domain::cube::interner::Symbol;
use crate::domain::cube::segment::{Addition, Frozen, Segment, Symbols};
use crate::domain::cube::tally::Field;
use crate::domain::time::Hour;
use crate::domain::usage::content::{Content, Values};
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::event::{Event, Status, UsageAdjusted, UsageEvent};
use content_fold::{ContentSet, Recount};

pub mod content_fold;

/// The place of a content row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentKey<'a> {
    /// The org.
    pub org: &'a str,
    /// Whether `id` is a content id, else it is the id of an event without content.
    pub is_content: bool,
    /// The id.
    pub id: &'a str,
}

/// Content rows that are not in memory: the store.
pub trait Contents {
    /// Why a row cannot be read.
    type Error;
    /// The stored row.
    ///
    /// # Errors
    /// When the store cannot be read or holds other bytes than were written.
    fn content(&self, key: &ContentKey<'_>) -> Result<Option<Content>, Self::Error>;
}

/// What a batch added to one org in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrgDelta<'a> {
    /// The org's number in the working set.
    pub symbol: Symbol,
    /// The org.
    pub org: &'a str,
    /// The hour.
    pub hour: Hour,
    /// Credits added, perhaps negative.
    pub credits: CreditSum,
}

/// Credits that one record of the running batch spent or corrected.
#[derive(Clone, Copy, Debug)]
pub struct Spend<'a> {
    /// The org's number in the working set.
    pub symbol: Symbol,
    /// The hour.
    pub hour: Hour,
    /// Credits, perhaps negative.
    pub credits: Credits,
    values: [Symbol; Dimension::COUNT],
    fold: &'a Fold,
}

impl<'a> Spend<'a> {
    /// The record's value of that dimension, as its rows have it.
    #[must_use]
    pub fn value(&self, dimension: Dimension) -> Option<&'a str> {
        self.fold.segment.text(self.values[dimension.index()])
    }
}

/// The fold of one task.
#[derive(Debug, Default)]
pub struct Fold {
    /// What was added since the last [`Fold::freeze`].
    segment: Segment,
    /// Memory for the next.
    spare: Frozen,
    /// Credits that the running batch added, for decisions.
    credits: HashMap<(Symbol, Hour), CreditSum, FixedState>,
    /// Each of them with its dimension values, for budgets.
    spends: Vec<(Symbols, Hour, Credits)>,
    contents: ContentSet,
}

impl Fold {
    /// Takes one event into the batch and gives its org's number.
    ///
    /// # Errors
    /// When a content row cannot be read; nothing of the event is folded then.
    pub fn add<C: Contents>(&mut self, event: &Event<'_>, contents: &C) -> Result<Symbol, C::Error> {
        match event {
            Event::Usage(usage) => self.add_usage(usage, contents),
            Event::Adjusted(adjusted) => Ok(self.add_adjustment(adjusted)),
            Event::Outcome(outcome) => {
                let org = self.segment.intern(&outcome.org_id);
                let recounts = self.contents.record(org, outcome, contents)?;
                self.recount(&outcome.org_id, recounts);
                // It costs nothing, and makes its org known to the decisions.
                self.credits.entry((org, event.occurred_at().hour())).or_default();
                Ok(org)
            }
        }
    }

    fn add_usage<C: Contents>(&mut self, event: &UsageEvent<'_>, contents: &C) -> Result<Symbol, C::Error> {
        let mut values = [None; Dimension::COUNT];
        for (value, dim) in values.iter_mut().zip(&event.dims.0) {
            *value = dim.as_deref();
        }
        let tier = &mut values[Dimension::Tier.index()];
        *tier = tier.or_else(|| event.multiplier.map(crate::domain::usage::event::Multiplier::tier));

        let (mut used, mut recount) = (None, None);
        if let Some(id) = &event.content_id {
            let org = self.segment.intern(&event.org_id);
            let (spent, late) = self.contents.spend(org, id, event, &values, contents)?;
            (used, recount) = (Some(spent), late);
        }
        let (symbols, hour) = (self.segment.symbols(&event.org_id, &values), event.occurred_at.hour());
        let mut addition = self.segment.append(symbols, hour);
        count_usage(&mut addition, event);
        let credits = event.credits.micros();
        if let Some(used) = used {
            if used.first {
                addition.add(Field::CONTENTS, 1);
            }
            addition.add(Field::CONTENT_CREDITS, credits);
        }
        if let Some(attempt) = used.map(|used| used.attempt).or(event.attempt) {
            let (count, of_credits) = Field::attempt(attempt);
            addition.add(count, 1).add(of_credits, credits);
        }
        self.spend(symbols, hour, event.credits);
        self.recount(&event.org_id, recount);
        Ok(symbols.org)
    }

    fn add_adjustment(&mut self, event: &UsageAdjusted<'_>) -> Symbol {
        let values = std::array::from_fn(|dimension| event.dims.0[dimension].as_deref());
        let (symbols, hour) = (self.segment.symbols(&event.org_id, &values), event.occurred_at.hour());
        let mut addition = self.segment.append(symbols, hour);
        addition.add(Field::CREDITS, event.credits.micros());
        addition.add(Field::EVENTS, event.events);
        addition.add(Field::ADJUSTMENTS, 1);
        self.spend(symbols, hour, event.credits);
        symbols.org
    }

    fn spend(&mut self, symbols: Symbols, hour: Hour, credits: Credits) {
        *self.credits.entry((symbols.org, hour)).or_default() += credits.into();
        self.spends.push((symbols, hour, credits));
    }

    fn recount(&mut self, org: &str, recounts: impl IntoIterator<Item = Recount>) {
        for Recount { hour, values, tally } in recounts {
            let values: [Option<&str>; Dimension::COUNT] = std::array::from_fn(|place| values[place].as_deref());
            let symbols = self.segment.symbols(org, &values);
            self.segment.append_all(symbols, hour, &tally);
        }
    }

    /// What the running batch added to each org and hour.
    ///
    /// # Panics
    /// Never: an event has an org.
    pub fn org_deltas(&self) -> impl Iterator<Item = OrgDelta<'_>> {
        self.credits.iter().map(|(&(symbol, hour), &credits)| OrgDelta {
            symbol,
            org: self.segment.text(symbol).expect("an event has an org"),
            hour,
            credits,
        })
    }

    /// Each record of the running batch that spent or corrected credits, in its order.
    #[must_use]
    pub fn spends(&self) -> impl ExactSizeIterator<Item = Spend<'_>> {
        let spend =
            |&(Symbols { org, values }, hour, credits)| Spend { symbol: org, hour, credits, values, fold: self };
        self.spends.iter().map(spend)
    }

    /// Ends the running batch: what it added to orgs is forgotten, what it added to facts stays.
    pub fn end_batch(&mut self) {
        self.credits.clear();
        self.spends.clear();
    }

    /// Takes all that was added since the last time, to be sealed.
    pub fn freeze(&mut self) -> Frozen {
        self.segment.freeze(std::mem::take(&mut self.spare))
    }

    /// Takes the memory of what was sealed back, to be filled again.
    pub fn thaw(&mut self, sealed: Frozen) {
        self.spare = sealed;
    }

    /// Hands every content row that changed since the last time to `put`.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn contents<E>(&mut self, put: impl FnMut(&ContentKey<'_>, &Content) -> Result<(), E>) -> Result<(), E> {
        self.contents.dirty(&self.segment, put)?;
        self.contents.flushed();
        Ok(())
    }

    /// How many additions and content rows wait for a flush.
    #[must_use]
    pub const fn dirty_len(&self) -> usize {
        self.segment.len() + self.contents.dirty_len()
    }

    /// About the bytes that it holds.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.segment.heap_bytes() + self.contents.heap_bytes()
    }

    /// Forgets all texts and content rows (Law 6); its [`crate::domain::cube::seal::Sealer`] must forget at the same time, for every
    /// symbol given out before is void.
    ///
    /// # Panics
    /// When something was added and not frozen: it would be lost.
    pub fn forget(&mut self) {
        self.contents.clear();
        self.segment.forget();
    }
}

fn count_usage(addition: &mut Addition<'_>, event: &UsageEvent<'_>) {
    let credits = event.credits.micros();
    let (count, of_credits) = match event.status {
        Status::Ok => (Field::OK, Field::OK_CREDITS),
        Status::Error => (Field::ERROR, Field::ERROR_CREDITS),
        Status::Cancelled => (Field::CANCELLED, Field::CANCELLED_CREDITS),
    };
    addition.add(Field::CREDITS, credits).add(Field::EVENTS, 1).add(count, 1).add(of_credits, credits);
    let sums = [
        (Field::INPUT_TOKENS, event.input_tokens),
        (Field::OUTPUT_TOKENS, event.output_tokens),
        (Field::CACHED_INPUT_TOKENS, event.cached_input_tokens),
        (Field::REASONING_TOKENS, event.reasoning_tokens),
        (Field::LATENCY_SUM_MS, event.latency_ms),
        (Field::LATENCY_COUNT, event.latency_ms.and(Some(1))),
        (Field::FIRST_TOKEN_SUM_MS, event.time_to_first_token_ms),
        (Field::FIRST_TOKEN_COUNT, event.time_to_first_token_ms.and(Some(1))),
    ];
    for (field, value) in sums {
        if let Some(value) = value {
            addition.add(field, value);
        }
    }
    if let Some(multiplier) = event.multiplier {
        addition.add(Field::MULTIPLIER_MIN, multiplier.0.into()).add(Field::MULTIPLIER_MAX, multiplier.0.into());
    }
    if let Some(latency) = event.latency_ms {
        addition.add(Field::latency_bucket(histogram::bucket_of(latency.unsigned_abs())), 1);
    }
}

/// Owned copies of dimension values.
fn owned(values: &[Option<&str>; Dimension::COUNT]) -> Box<Values> {
    Box::new(values.map(|value| value.map(Into::into)))
}
