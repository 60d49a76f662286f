//! The fold of content: what a piece cost, how often it was tried, and what became of it.
//!
//! An outcome counts in the hour in which it occurred, under its own dimension values where it names them and the
//! content's otherwise. A later outcome takes the earlier one back where that was counted and counts anew; of a
//! later record each field that it names replaces the earlier one. Credits that a settled piece still costs later
//! follow to where its outcome is counted, so that the credits of an outcome are always those of its content.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

use super::{ContentKey, Contents, owned};
use crate::domain::cube::interner::Symbol;
use crate::domain::cube::segment::Segment;
use crate::domain::cube::tally::{Field, Tally};
use crate::domain::time::Hour;
use crate::domain::usage::content::{Content, Settled, Values};
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::event::{Outcome, OutcomeRecorded, Subject, UsageEvent};

/// What a usage event was for its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Its first event.
    pub first: bool,
    /// Which attempt.
    pub attempt: i64,
}

/// An addition to rows other than the event's own.
#[derive(Debug)]
pub struct Recount {
    /// In which hour.
    pub hour: Hour,
    /// Under which dimension values.
    pub values: Box<Values>,
    /// What to add.
    pub tally: Tally,
}

#[derive(Debug)]
struct Slot {
    org: Symbol,
    is_content: bool,
    id: Box<str>,
    content: Content,
    dirty: bool,
}

/// Content rows in memory.
#[derive(Debug, Default)]
pub struct ContentSet {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    dirty: Vec<u32>,
    hasher: FixedState,
}

impl ContentSet {
    /// Counts a usage event to its content. What a settled piece costs in addition is given as a recount.
    ///
    /// # Errors
    /// When the stored row cannot be read; nothing is changed then.
    pub fn spend<C: Contents>(
        &mut self,
        org: Symbol,
        id: &str,
        event: &UsageEvent<'_>,
        values: &[Option<&str>; Dimension::COUNT],
        contents: &C,
    ) -> Result<(Spent, Option<Recount>), C::Error> {
        let key = ContentKey { org: &event.org_id, is_content: true, id };
        let content = self.touch(org, &key, contents)?;
        let first = content.events == 0;
        content.events += 1;
        let attempt = event.attempt.unwrap_or_else(|| i64::try_from(content.events).unwrap_or(i64::MAX));
        content.attempts = content.attempts.max(attempt);
        content.credits += event.credits.into();
        content.values = owned(values);
        let recount = content.settled.as_ref().and_then(|settled| {
            let mut tally = Tally::new();
            tally.add(Field::outcome(settled.outcome?).1, event.credits.micros().into());
            Some(Recount { hour: settled.hour, values: settled.values.clone(), tally })
        });
        Ok((Spent { first, attempt }, recount))
    }

    /// Counts an outcome: first what it takes back, then what it adds.
    ///
    /// # Errors
    /// When the stored row cannot be read; nothing is changed then.
    pub fn record<C: Contents>(
        &mut self,
        org: Symbol,
        event: &OutcomeRecorded<'_>,
        contents: &C,
    ) -> Result<Vec<Recount>, C::Error> {
        let (is_content, id) = match &event.subject {
            Subject::Content(id) => (true, id),
            Subject::Event(id) => (false, id),
        };
        let content = self.touch(org, &ContentKey { org: &event.org_id, is_content, id }, contents)?;
        let earlier = content.settled.take();
        let before = earlier.as_ref();
        let outcome = event.outcome.or_else(|| before.and_then(|before| before.outcome));
        let values = std::array::from_fn(|place| {
            event.dims.0[place].as_deref().or(content.values[place].as_deref()).map(Into::into)
        });
        let settled = Settled {
            outcome,
            rating: event.rating.or_else(|| before.and_then(|before| before.rating)),
            value: event
                .value
                .map(|value| i128::from(value.micros()))
                .or_else(|| before.and_then(|before| before.value)),
            hour: event.occurred_at.hour(),
            values: Box::new(values),
            first_attempt: outcome == Some(Outcome::Accepted) && content.attempts == 1,
        };
        let added = count(content, &settled, 1);
        let taken_back = earlier.map(|earlier| count(content, &earlier, -1));
        content.settled = Some(settled);
        Ok(taken_back.into_iter().chain([added]).collect())
    }

    fn touch<C: Contents>(
        &mut self,
        org: Symbol,
        key: &ContentKey<'_>,
        contents: &C,
    ) -> Result<&mut Content, C::Error> {
        let Self { table, slots, dirty, hasher } = self;
        let hash = hasher.hash_one((org, key.is_content, key.id));
        let same = |slot: &Slot| slot.org == org && slot.is_content == key.is_content && &*slot.id == key.id;
        let found = table.find(hash, |&place| same(&slots[place as usize])).copied();
        let place = if let Some(place) = found {
            place
        } else {
            let content = contents.content(key)?.unwrap_or_default();
            let place = u32::try_from(slots.len()).expect("the working set is bounded far below 2^32 rows");
            slots.push(Slot { org, is_content: key.is_content, id: key.id.into(), content, dirty: false });
            table.insert_unique(hash, place, |&place| {
                let slot = &slots[place as usize];
                hasher.hash_one((slot.org, slot.is_content, &*slot.id))
            });
            place
        };
        let slot = &mut slots[place as usize];
        if !slot.dirty {
            slot.dirty = true;
            dirty.push(place);
        }
        Ok(&mut slot.content)
    }

    /// Hands over rows changed since the last flush.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn dirty<E>(
        &self,
        segment: &Segment,
        mut put: impl FnMut(&ContentKey<'_>, &Content) -> Result<(), E>,
    ) -> Result<(), E> {
        for &place in &self.dirty {
            let slot = &self.slots[place as usize];
            let org = segment.text(slot.org).expect("a row has an org");
            put(&ContentKey { org, is_content: slot.is_content, id: &slot.id }, &slot.content)?;
        }
        Ok(())
    }

    /// How many rows changed since the last flush.
    #[must_use]
    pub const fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// Takes all rows as flushed.
    pub fn flushed(&mut self) {
        for place in self.dirty.drain(..) {
            self.slots[place as usize].dirty = false;
        }
    }

    /// About the bytes held on the heap.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.slots.len() * (size_of::<Slot>() + size_of::<Values>() + 160)
    }

    /// Forgets all rows; only right after a flush.
    ///
    /// # Panics
    /// When a row is not flushed: it would be lost.
    pub fn clear(&mut self) {
        assert!(self.dirty.is_empty(), "a row is forgotten only when it is flushed");
        self.table.clear();
        self.slots.clear();
    }
}

/// What a settled outcome counts, once (`sign` 1) or taken back (-1).
fn count(content: &Content, settled: &Settled, sign: i128) -> Recount {
    let mut tally = Tally::new();
    if let Some(outcome) = settled.outcome {
        let (count, credits) = Field::outcome(outcome);
        tally.add(count, sign);
        tally.add(credits, sign * content.credits.micros());
    }
    if settled.first_attempt {
        tally.add(Field::ACCEPTED_FIRST, sign);
    }
    if let Some(rating) = settled.rating {
        tally.add(Field::RATINGS, sign);
        tally.add(Field::RATING_SUM, sign * i128::from(rating));
    }
    if let Some(value) = settled.value {
        tally.add(Field::VALUE, sign * value);
    }
    Recount { hour: settled.hour, values: settled.values.clone(), tally }
}
