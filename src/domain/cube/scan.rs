//! A scan: the blocks of an org's days -> sums of any fields, filtered by any dimensions and grouped by up to three of them and by
//! time. A column that is not asked for is not decoded. Next to read: `block`.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::block::{Block, Values, is_extreme, joined};
use super::column::Column;
use crate::domain::bytes::StoredError;
use crate::domain::dimension::Dimension;
use crate::domain::field_set::FieldSet;
use crate::domain::histogram;
use crate::domain::interner::{Interner, Symbol};
use crate::domain::tally::{Field, Tally};
use crate::domain::time::{Day, Hour};

/// The most dimensions to group by.
pub const GROUP_MAX: usize = 3;
/// Hours of a UTC day.
const HOURS: usize = 24;
/// A block's groups are looked up in a table instead of by hash where it has at most so many places a fact.
const PLACES_PER_FACT: usize = 16;
/// A place in the table that is not looked up yet.
const UNKNOWN: u32 = u32::MAX;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The values that pass, by dimension; `None` is the absent value. A dimension that is not named passes all.
    pub filter: Vec<(Dimension, Vec<Option<String>>)>,
    /// The dimensions to group by, at most [`GROUP_MAX`].
    pub group: Vec<Dimension>,
    /// The fields to sum.
    pub fields: FieldSet,
}

/// The place of a group: its bucket, and the values of the dimensions that were asked for.
type GroupKey = (i32, [Symbol; GROUP_MAX]);

/// The sums of a question, over one block after another.
#[derive(Debug)]
pub struct Scan {
    question: Question,
    /// The asked plain fields, and where each stands in a group's sums.
    fields: Vec<Field>,
    texts: Interner,
    groups: HashMap<GroupKey, u32, FixedState>,
    keys: Vec<GroupKey>,
    /// By group, one kept number for each field.
    sums: Vec<i128>,
    /// By group, one count for each latency bucket where those are asked for.
    latencies: Vec<i64>,
    /// Facts that were looked at.
    facts: u64,
}

impl Scan {
    /// A scan for `question`.
    ///
    /// # Panics
    /// When it groups by more than [`GROUP_MAX`] dimensions.
    #[must_use]
    pub fn new(question: Question) -> Self {
        assert!(question.group.len() <= GROUP_MAX, "a question groups by at most three dimensions");
        let fields = Field::NAMED.iter().map(|(field, _)| *field).filter(|field| question.fields.holds(*field));
        Self {
            fields: fields.collect(),
            question,
            texts: Interner::default(),
            groups: HashMap::default(),
            keys: Vec::new(),
            sums: Vec::new(),
            latencies: Vec::new(),
            facts: 0,
        }
    }

    /// Adds a block's facts; `bucket_of` gives the bucket of an hour, `None` for one that is not asked for.
    ///
    /// # Errors
    /// When the bytes are no block.
    pub fn add(
        &mut self,
        block: &Block<'_>,
        day: Day,
        bucket_of: impl Fn(Hour) -> Option<i32>,
    ) -> Result<(), StoredError> {
        self.facts += block.rows() as u64;
        let buckets: [Option<i32>; HOURS] =
            std::array::from_fn(|hour| bucket_of(Hour(day.first_hour().0 + i32::try_from(hour).unwrap_or(0))));
        let Some(rows) = self.selected(block, &buckets)? else { return Ok(()) };
        let groups = self.groups_of(block, &rows, &buckets)?;
        let stride = self.fields.len();
        for (slot, &field) in self.fields.iter().enumerate() {
            let Some(column) = block.field(field)? else { continue };
            let sums = &mut self.sums;
            if is_extreme(field) {
                each(&column, &rows, &groups, |group, value| {
                    let sum = &mut sums[group * stride + slot];
                    *sum = joined(field, *sum, value);
                });
            } else {
                each(&column, &rows, &groups, |group, value| sums[group * stride + slot] += value);
            }
        }
        if self.question.fields.holds(Field::latency_bucket(0)) {
            self.add_latencies(block, &rows, &groups)?;
        }
        Ok(())
    }

    /// The facts that pass; `None` when none does.
    fn selected(
        &self,
        block: &Block<'_>,
        buckets: &[Option<i32>; HOURS],
    ) -> Result<Option<Vec<u32>>, StoredError> {
        let count = u32::try_from(block.rows()).unwrap_or(u32::MAX);
        let mut rows: Option<Vec<u32>> = None;
        for (dimension, wanted) in &self.question.filter {
            let values = block.values(*dimension)?;
            let passes = |text: Option<&str>| wanted.iter().any(|wanted| wanted.as_deref() == text);
            let passing: Vec<bool> =
                std::iter::once(passes(None)).chain(values.texts.iter().map(|text| passes(Some(text)))).collect();
            if !passing.contains(&true) {
                return Ok(None);
            }
            let passes =
                |row: &u32| passing.get(values.code(*row as usize) as usize).is_some_and(|passes| *passes);
            rows = Some(match rows {
                None => (0..count).filter(passes).collect(),
                Some(rows) => rows.into_iter().filter(passes).collect(),
            });
        }
        let mut rows = rows.unwrap_or_else(|| (0..count).collect());
        if buckets.contains(&None) {
            let hours = block.hours()?;
            rows.retain(|row| buckets[hour_of(&hours, *row)].is_some());
        }
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// The group of each of `rows`.
    fn groups_of(
        &mut self,
        block: &Block<'_>,
        rows: &[u32],
        buckets: &[Option<i32>; HOURS],
    ) -> Result<Vec<u32>, StoredError> {
        let dimensions: Vec<Values<'_>> =
            self.question.group.iter().map(|dimension| block.values(*dimension)).collect::<Result<_, _>>()?;
        let one_bucket = buckets.iter().all(|bucket| *bucket == buckets[0]);
        let hours = if one_bucket { Column::Constant(0) } else { block.hours()? };
        let mut places = if one_bucket { 1 } else { HOURS };
        for values in &dimensions {
            places = places.saturating_mul(values.texts.len() + 1);
        }
        let mut table = if places <= PLACES_PER_FACT * rows.len() { vec![UNKNOWN; places] } else { Vec::new() };
        let mut groups = Vec::with_capacity(rows.len());
        for &row in rows {
            let hour = hour_of(&hours, row);
            let mut codes = [0; GROUP_MAX];
            let mut place = hour;
            for (code, values) in codes.iter_mut().zip(&dimensions) {
                *code = values.code(row as usize);
                place = place.wrapping_mul(values.texts.len() + 1).wrapping_add(*code as usize);
            }
            if let Some(&known) = table.get(place).filter(|known| **known != UNKNOWN) {
                groups.push(known);
                continue;
            }
            let group = self.group(&dimensions, codes, buckets[hour].unwrap_or_default());
            if let Some(known) = table.get_mut(place) {
                *known = group;
            }
            groups.push(group);
        }
        Ok(groups)
    }

    fn group(&mut self, dimensions: &[Values<'_>], codes: [u32; GROUP_MAX], bucket: i32) -> u32 {
        let mut symbols = [Symbol::ABSENT; GROUP_MAX];
        for ((symbol, values), code) in symbols.iter_mut().zip(dimensions).zip(codes) {
            *symbol = self.texts.intern(values.text(code));
        }
        let key = (bucket, symbols);
        let next = u32::try_from(self.keys.len()).expect("memory holds fewer than 2^32 groups");
        let group = *self.groups.entry(key).or_insert(next);
        if group == next {
            self.keys.push(key);
            self.sums.resize(self.keys.len() * self.fields.len(), 0);
            if self.question.fields.holds(Field::latency_bucket(0)) {
                self.latencies.resize(self.keys.len() * histogram::BUCKETS, 0);
            }
        }
        group
    }

    fn add_latencies(&mut self, block: &Block<'_>, rows: &[u32], groups: &[u32]) -> Result<(), StoredError> {
        let Some(latencies) = block.latencies()? else { return Ok(()) };
        let (mut row_before, mut pair) = (0, 0);
        let pairs_of = |row: u32| usize::try_from(latencies.pairs.get(row as usize)).unwrap_or(0);
        for (&row, &group) in rows.iter().zip(groups) {
            pair += (row_before..row).map(pairs_of).sum::<usize>();
            for _ in 0..pairs_of(row) {
                let bucket = latencies.bucket(pair);
                self.latencies[group as usize * histogram::BUCKETS + bucket] += latencies.count(pair);
                pair += 1;
            }
            row_before = row + 1;
        }
        Ok(())
    }

    /// How many groups and buckets were found.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no fact passed so far.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many facts were looked at.
    #[must_use]
    pub const fn facts(&self) -> u64 {
        self.facts
    }

    /// Each group: its bucket, the values of the dimensions that were asked for, in their order, and its sums.
    pub fn groups(&self) -> impl Iterator<Item = (i32, Vec<Option<&str>>, Tally)> {
        self.keys.iter().enumerate().map(|(group, (bucket, symbols))| {
            let values = symbols[..self.question.group.len()].iter().map(|symbol| self.texts.text(*symbol));
            (*bucket, values.collect(), self.tally(group))
        })
    }

    fn tally(&self, group: usize) -> Tally {
        let mut tally = Tally::new();
        let stride = self.fields.len();
        for (&field, &sum) in self.fields.iter().zip(&self.sums[group * stride..]) {
            if sum != 0 {
                tally.add(field, if is_extreme(field) { sum - 1 } else { sum });
            }
        }
        if let Some(latencies) = self.latencies.get(group * histogram::BUCKETS..(group + 1) * histogram::BUCKETS) {
            for (bucket, &count) in latencies.iter().enumerate().filter(|(_, count)| **count != 0) {
                tally.add(Field::latency_bucket(bucket), count.into());
            }
        }
        tally
    }
}

fn hour_of(hours: &Column<'_>, row: u32) -> usize {
    usize::try_from(hours.get(row as usize)).unwrap_or(0).min(HOURS - 1)
}

/// Gives each of `rows` its number in the column, with its group.
fn each(column: &Column<'_>, rows: &[u32], groups: &[u32], mut add: impl FnMut(usize, i128)) {
    match column {
        Column::Constant(0) => {}
        Column::Constant(value) => groups.iter().for_each(|group| add(*group as usize, *value)),
        Column::Packed { base, step, packed } => {
            let value = |row: u32| base + i128::from(packed.get(row as usize) * step);
            rows.iter().zip(groups).for_each(|(row, group)| add(*group as usize, value(*row)));
        }
        Column::Wide(_) => {
            rows.iter().zip(groups).for_each(|(row, group)| add(*group as usize, column.get(*row as usize)));
        }
    }
}
