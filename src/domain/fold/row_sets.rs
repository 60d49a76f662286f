//! The rows of every view, and how what a fold has frozen is brought into them: each view takes the deltas of the narrowest
//! finer view (`plan`), and `working_set` keeps the rows at hand.
//!
//! It shares nothing with the fold but symbols, of which it keeps its own copy, so that a flush needs no lock. Rows
//! depend on what was frozen alone, in any split of it (Law 2).

use super::combos::{Combo, ComboId};
use super::deltas::Deltas;
use super::plan::{Step, plan};
use super::working_set::{RowId, WorkingSet};
use super::{RowKey, Rows};
use crate::domain::interner::{Symbol, Texts};
use crate::domain::tally::Tally;
use crate::domain::time::Hour;
use crate::domain::view::{DIMENSIONS_MAX, View};

/// What a fold took in between two flushes: its deltas, and the texts and combinations that are new in them.
#[derive(Debug)]
pub struct Frozen {
    pub(super) added: Deltas<(ComboId, Hour)>,
    pub(super) texts: Texts,
    pub(super) combos: Vec<Combo>,
}

/// The rows of every view that are in memory.
#[derive(Debug)]
pub struct RowSets {
    views: Vec<View>,
    steps: Vec<Step>,
    texts: Texts,
    combos: Vec<Combo>,
    deltas: Vec<Deltas<RowId>>,
    sets: Vec<WorkingSet>,
}

impl RowSets {
    /// No rows of `views`, a list that [`crate::domain::view::check`] passed.
    #[must_use]
    pub fn new(views: Vec<View>) -> Self {
        let steps = plan(&views);
        let deltas = views.iter().map(|_| Deltas::default()).collect();
        let sets = views.iter().map(|_| WorkingSet::default()).collect();
        Self { views, steps, texts: Texts::default(), combos: Vec::new(), deltas, sets }
    }

    /// Brings what was frozen into the rows of every view, and empties it. To be called in the order of freezing.
    ///
    /// # Errors
    /// When a stored row cannot be read: the rows are half changed then and must be thrown away.
    pub fn settle<R: Rows>(&mut self, frozen: &mut Frozen, rows: &R) -> Result<(), R::Error> {
        self.texts.append(&frozen.texts);
        self.combos.append(&mut frozen.combos);
        self.settle_combinations(&frozen.added, rows)?;
        frozen.added.clear();
        for place in 0..self.steps.len() {
            let step = &self.steps[place];
            let fewest = step.parents.iter().copied().min_by_key(|&parent| self.deltas[parent].len());
            let (number, feeds) = (step.view, step.feeds);
            let mut own = std::mem::take(&mut self.deltas[number]);
            let (views, texts) = (&self.views, &self.texts);
            let load = |id: RowId| rows.row(&row_key(number, &views[number], id, texts));
            let set = &mut self.sets[number];
            if let Some(parent) = fewest {
                for (id, tally) in self.deltas[parent].iter() {
                    let id = narrow(&views[parent], &views[number], id);
                    if feeds {
                        own.tally(id).merge(tally);
                    } else {
                        set.add(id, tally, || load(id))?;
                    }
                }
            }
            for (id, tally) in own.iter() {
                set.add(id, tally, || load(id))?;
            }
            self.deltas[number] = own;
        }
        self.deltas.iter_mut().for_each(Deltas::clear);
        Ok(())
    }

    /// Feeds the views that only combinations can feed: each combination's tally is fetched once for all of them.
    fn settle_combinations<R: Rows>(&mut self, added: &Deltas<(ComboId, Hour)>, rows: &R) -> Result<(), R::Error> {
        let Self { views, steps, deltas, sets, texts, combos } = self;
        let fed: Vec<&Step> = steps.iter().filter(|step| step.parents.is_empty()).collect();
        // Org by org: what one org's rows need then stays in the processor's cache, which is most of the cost.
        let org = |combo: ComboId| combos[combo.0 as usize].org;
        let mut order: Vec<(Symbol, usize)> =
            added.iter().enumerate().map(|(place, ((combo, _), _))| (org(combo), place)).collect();
        order.sort_unstable();
        for (_, place) in order {
            let ((combo, hour), tally) = added.at(place);
            let combo = &combos[combo.0 as usize];
            for step in &fed {
                let view = &views[step.view];
                let id = project(view, combo, hour);
                if step.feeds {
                    deltas[step.view].tally(id).merge(tally);
                } else {
                    sets[step.view].add(id, tally, || rows.row(&row_key(step.view, view, id, texts)))?;
                }
            }
        }
        Ok(())
    }

    /// Hands every row that changed since the last time to `put`.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn flush<E>(&mut self, mut put: impl FnMut(&RowKey<'_>, &Tally) -> Result<(), E>) -> Result<usize, E> {
        let count = self.dirty_len();
        for (number, (view, set)) in self.views.iter().zip(&mut self.sets).enumerate() {
            for (id, tally) in set.dirty() {
                put(&row_key(number, view, id, &self.texts), tally)?;
            }
            set.flushed();
        }
        Ok(count)
    }

    /// How many rows changed since the last flush.
    #[must_use]
    pub fn dirty_len(&self) -> usize {
        self.sets.iter().map(WorkingSet::dirty_len).sum()
    }

    /// About the bytes that it holds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let rows: usize = self.sets.iter().map(WorkingSet::heap_bytes).sum();
        rows + self.combos.capacity() * size_of::<Combo>() + self.texts.heap_bytes()
    }

    /// Forgets all rows (Law 6), together with their fold.
    ///
    /// # Panics
    /// When a row is not flushed: it would be lost.
    pub fn forget(&mut self) {
        self.sets.iter_mut().for_each(WorkingSet::clear);
        self.combos.clear();
        self.texts.clear();
    }
}

/// The row of `view` that a combination in an hour belongs to.
fn project(view: &View, combo: &Combo, hour: Hour) -> RowId {
    let mut values = [Symbol::ABSENT; DIMENSIONS_MAX];
    for (value, dimension) in values.iter_mut().zip(&view.dimensions) {
        *value = combo.values[dimension.index()];
    }
    RowId { org: combo.org, bucket: view.bucket.bucket_of(hour), values }
}

/// The row of `child` that a row of its parent belongs to.
fn narrow(parent: &View, child: &View, id: RowId) -> RowId {
    let mut values = [Symbol::ABSENT; DIMENSIONS_MAX];
    for (value, dimension) in values.iter_mut().zip(&child.dimensions) {
        let place = parent.dimensions.iter().position(|candidate| candidate == dimension);
        *value = id.values[place.expect("the plan lets only a covering view feed")];
    }
    let hour = parent.bucket.first_hour(id.bucket);
    RowId { org: id.org, bucket: child.bucket.bucket_of(hour), values }
}

fn row_key<'a>(number: usize, view: &View, id: RowId, texts: &'a Texts) -> RowKey<'a> {
    RowKey {
        view: u8::try_from(number).expect("a checked list has at most 64 views"),
        org: texts.text(id.org).expect("a row has an org"),
        bucket: id.bucket,
        values: id.values.map(|value| texts.text(value)),
        dimensions: u8::try_from(view.dimensions.len()).expect("a checked view has at most 4 dimensions"),
    }
}
