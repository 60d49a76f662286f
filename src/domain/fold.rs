//! The fold: events into rows of the declared views, through a working set in memory.
//!
//! A batch is coalesced before it meets the views. Its distinct (org, dimension values) combinations become small
//! integers, and the records since the last flush become deltas of distinct (combination, hour). At the flush they are
//! frozen, and `row_sets` brings them into the rows, perhaps in another thread, while the fold goes on. What content
//! costs and becomes is folded by `content_fold`.
//!
//! The fold knows no terms, no clock and no randomness (Law 2): rows depend on records alone, in log order.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::content::{Content, Values};
use super::credits::{CreditSum, Credits};
use super::dimension::Dimension;
use super::event::{Event, Status, UsageAdjusted, UsageEvent};
use super::histogram;
use super::interner::{Interner, Symbol};
use super::tally::{Field, Tally};
use super::time::Hour;
use super::view::DIMENSIONS_MAX;
use combos::{ComboId, Combos};
use content_fold::{ContentSet, Recount};
use deltas::Deltas;
pub use row_sets::{Frozen, RowSets};

pub mod combos;
pub mod content_fold;
pub mod deltas;
pub mod plan;
pub mod row_sets;
pub mod working_set;

/// The place of a row: view number, org, bucket, and the values of the view's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowKey<'a> {
    /// Number of the view in the store's list.
    pub view: u8,
    /// The org.
    pub org: &'a str,
    /// Number of the hour or day.
    pub bucket: i32,
    /// Values of the view's dimensions in its order, `None` where absent; beyond `dimensions` meaningless.
    pub values: [Option<&'a str>; DIMENSIONS_MAX],
    /// How many dimensions the view has.
    pub dimensions: u8,
}

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

/// Rows that are not in the working set: the store.
pub trait Rows {
    /// Why a row cannot be read.
    type Error;
    /// The stored row.
    ///
    /// # Errors
    /// When the store cannot be read or holds other bytes than were written.
    fn row(&self, key: &RowKey<'_>) -> Result<Option<Tally>, Self::Error>;
    /// The stored content row.
    ///
    /// # Errors
    /// As `row`.
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
    combo: ComboId,
    fold: &'a Fold,
}

impl<'a> Spend<'a> {
    /// The record's value of that dimension, as its rows have it.
    #[must_use]
    pub fn value(&self, dimension: Dimension) -> Option<&'a str> {
        self.fold.interner.text(self.fold.combos.get(self.combo).values[dimension.index()])
    }
}

/// The fold of one task, up to the rows of its views: those are [`RowSets`].
#[derive(Debug, Default)]
pub struct Fold {
    interner: Interner,
    combos: Combos,
    /// What was added since the last [`Fold::freeze`].
    pending: Deltas<(ComboId, Hour)>,
    /// Memory for the next.
    spare: Deltas<(ComboId, Hour)>,
    /// Credits that the running batch added, for decisions.
    credits: HashMap<(Symbol, Hour), CreditSum, FixedState>,
    /// Each of them with its dimension values, for budgets.
    spends: Vec<(Symbol, ComboId, Hour, Credits)>,
    contents: ContentSet,
}

impl Fold {
    /// Takes one event into the batch and gives its org's number in the working set.
    ///
    /// # Errors
    /// When a content row cannot be read; nothing of the event is folded then.
    pub fn add<R: Rows>(&mut self, event: &Event<'_>, rows: &R) -> Result<Symbol, R::Error> {
        match event {
            Event::Usage(usage) => self.add_usage(usage, rows),
            Event::Adjusted(adjusted) => Ok(self.add_adjustment(adjusted)),
            Event::Outcome(outcome) => {
                let org = self.interner.intern(Some(&outcome.org_id));
                let recounts = self.contents.record(org, outcome, rows)?;
                self.recount(&outcome.org_id, recounts);
                // It costs nothing, and makes its org known to the decisions.
                self.credits.entry((org, event.occurred_at().hour())).or_default();
                Ok(org)
            }
        }
    }

    fn add_usage<R: Rows>(&mut self, event: &UsageEvent<'_>, rows: &R) -> Result<Symbol, R::Error> {
        let mut values = [None; Dimension::COUNT];
        for (value, dim) in values.iter_mut().zip(&event.dims.0) {
            *value = dim.as_deref();
        }
        let tier = &mut values[Dimension::Tier.index()];
        *tier = tier.or_else(|| event.multiplier.map(super::event::Multiplier::tier));

        let org = self.interner.intern(Some(&event.org_id));
        let mut recount = None;
        let used = match &event.content_id {
            Some(id) => {
                let (used, late) = self.contents.spend(org, id, event, &values, rows)?;
                recount = late;
                Some(used)
            }
            None => None,
        };
        let combo = self.combos.find(&event.org_id, &values, &mut self.interner);
        let tally = self.pending.tally((combo, event.occurred_at.hour()));
        count_usage(tally, event);
        *self.credits.entry((org, event.occurred_at.hour())).or_default() += event.credits.into();
        self.spends.push((org, combo, event.occurred_at.hour(), event.credits));
        if let Some(used) = used {
            if used.first {
                tally.add(Field::CONTENTS, 1);
            }
            tally.add(Field::CONTENT_CREDITS, event.credits.micros().into());
        }
        if let Some(attempt) = used.map(|used| used.attempt).or(event.attempt) {
            let (count, credits) = Field::attempt(attempt);
            tally.add(count, 1);
            tally.add(credits, event.credits.micros().into());
        }
        self.recount(&event.org_id, recount);
        Ok(org)
    }

    fn add_adjustment(&mut self, event: &UsageAdjusted<'_>) -> Symbol {
        let values = std::array::from_fn(|dimension| event.dims.0[dimension].as_deref());
        let combo = self.combos.find(&event.org_id, &values, &mut self.interner);
        let tally = self.pending.tally((combo, event.occurred_at.hour()));
        tally.add(Field::CREDITS, event.credits.micros().into());
        tally.add(Field::EVENTS, event.events.into());
        tally.add(Field::ADJUSTMENTS, 1);
        let org = self.combos.get(combo).org;
        *self.credits.entry((org, event.occurred_at.hour())).or_default() += event.credits.into();
        self.spends.push((org, combo, event.occurred_at.hour(), event.credits));
        org
    }

    fn recount(&mut self, org: &str, recounts: impl IntoIterator<Item = Recount>) {
        for Recount { hour, values, tally } in recounts {
            let values: [Option<&str>; Dimension::COUNT] = std::array::from_fn(|place| values[place].as_deref());
            let combo = self.combos.find(org, &values, &mut self.interner);
            self.pending.tally((combo, hour)).merge(&tally);
        }
    }

    /// What the running batch added to each org and hour.
    pub fn org_deltas(&self) -> impl Iterator<Item = OrgDelta<'_>> {
        self.credits.iter().map(|(&(symbol, hour), &credits)| OrgDelta {
            symbol,
            org: self.interner.text(symbol).expect("an event has an org"),
            hour,
            credits,
        })
    }

    /// Each record of the running batch that spent or corrected credits, in its order.
    #[must_use]
    pub fn spends(&self) -> impl ExactSizeIterator<Item = Spend<'_>> {
        let spend = |&(symbol, combo, hour, credits)| Spend { symbol, hour, credits, combo, fold: self };
        self.spends.iter().map(spend)
    }

    /// What was added to each product and model since the last `freeze`, absent as `None`; for metrics.
    pub fn product_model_deltas(&self) -> impl Iterator<Item = (Option<&str>, Option<&str>, &Tally)> {
        self.pending.iter().map(|((combo, _), tally)| {
            let values = &self.combos.get(combo).values;
            let text = |dimension: Dimension| self.interner.text(values[dimension.index()]);
            (text(Dimension::Product), text(Dimension::Model), tally)
        })
    }

    /// Ends the running batch: what it added to orgs is forgotten, what it added to rows stays.
    pub fn end_batch(&mut self) {
        self.credits.clear();
        self.spends.clear();
    }

    /// Takes all that was added since the last time, for [`RowSets::settle`]; rows are only looked at once they are
    /// persisted, so this is done once a flush: the more was added, the more of it falls together.
    pub fn freeze(&mut self) -> Frozen {
        let added = std::mem::replace(&mut self.pending, std::mem::take(&mut self.spare));
        Frozen { added, texts: self.interner.news(), combos: self.combos.news() }
    }

    /// Takes the memory of what was settled back, to be filled again.
    pub fn thaw(&mut self, settled: Frozen) {
        self.spare = settled.added;
    }

    /// Hands every content row that changed since the last time to `put`.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn contents<E>(&mut self, put: impl FnMut(&ContentKey<'_>, &Content) -> Result<(), E>) -> Result<(), E> {
        self.contents.dirty(&self.interner, put)?;
        self.contents.flushed();
        Ok(())
    }

    /// How many rows and combinations wait for a flush.
    #[must_use]
    pub const fn dirty_len(&self) -> usize {
        self.pending.len() + self.contents.dirty_len()
    }

    /// About the bytes that it holds, besides its rows.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.combos.heap_bytes() + self.interner.heap_bytes() + self.contents.heap_bytes()
    }

    /// Forgets all (Law 6); its [`RowSets`] must forget at the same time, for every symbol given out before is void.
    ///
    /// # Panics
    /// When something was added and not settled: it would be lost.
    pub fn forget(&mut self) {
        assert!(self.pending.is_empty(), "what was added is forgotten only when it is settled");
        self.contents.clear();
        self.combos.clear();
        self.interner.clear();
    }
}

fn count_usage(tally: &mut Tally, event: &UsageEvent<'_>) {
    let credits = i128::from(event.credits.micros());
    tally.add(Field::CREDITS, credits);
    tally.add(Field::EVENTS, 1);
    let (count, of_credits) = match event.status {
        Status::Ok => (Field::OK, Field::OK_CREDITS),
        Status::Error => (Field::ERROR, Field::ERROR_CREDITS),
        Status::Cancelled => (Field::CANCELLED, Field::CANCELLED_CREDITS),
    };
    tally.add(count, 1);
    tally.add(of_credits, credits);
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
            tally.add(field, value.into());
        }
    }
    if let Some(multiplier) = event.multiplier {
        tally.add(Field::MULTIPLIER_MIN, multiplier.0.into());
        tally.add(Field::MULTIPLIER_MAX, multiplier.0.into());
    }
    if let Some(latency) = event.latency_ms {
        tally.add(Field::latency_bucket(histogram::bucket_of(latency.unsigned_abs())), 1);
    }
}

/// Owned copies of dimension values.
fn owned(values: &[Option<&str>; Dimension::COUNT]) -> Box<Values> {
    Box::new(values.map(|value| value.map(Into::into)))
}
