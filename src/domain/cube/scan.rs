//! A scan: the blocks of an org's days -> sums of any fields, filtered by any dimensions and grouped by up to three of them and by
//! time. A column that is not asked for is not decoded. Next to read: `block`.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::block::{Block, Values, is_extreme, joined};
use super::column::Column;
use crate::domain::cube::bytes::StoredError;
use crate::domain::cube::field_set::FieldSet;
use crate::domain::cube::histogram;
use crate::domain::cube::interner::{Interner, Symbol};
use crate::domain::cube::tally::{Field, Tally};
use crate::domain::time::{Day, Hour};
use crate::domain::usage::dimension::Dimension;

/// The most dimensions to group by.
pub const GROUP_MAX: usize = 3;
/// Hours of a UTC day.
const HOURS: usize = 24;
/// A block's groups are looked up in a table instead of by hash where it has at most so many places a fact.
const PLACES_PER_FACT: usize = 16;
/// Sums of one group that are added to in turn.
const LANES: usize = 4;
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
        let rollup = self.rollup(block)?;
        let block = rollup.as_ref().unwrap_or(block);
        self.facts += block.rows() as u64;
        let buckets: [Option<i32>; HOURS] =
            std::array::from_fn(|hour| bucket_of(Hour(day.first_hour().0 + i32::try_from(hour).unwrap_or(0))));
        let Some(rows) = self.selected(block, &buckets)? else { return Ok(()) };
        let groups = self.groups_of(block, &rows, &buckets)?;
        // A table of all groups is worth its clearing where there are more facts.
        let mut counts = vec![0; if rows.len() < self.keys.len() { 0 } else { self.keys.len() }];
        if !counts.is_empty() {
            groups.iter().for_each(|group| counts[*group as usize] += 1);
        }
        let stride = self.fields.len();
        for (slot, &field) in self.fields.iter().enumerate() {
            let Some(column) = block.field(field)? else { continue };
            let sums = &mut self.sums;
            if is_extreme(field) {
                each(&column, &rows, &groups, |group, value| {
                    let sum = &mut sums[group * stride + slot];
                    *sum = joined(field, *sum, value);
                });
            } else if let Some(added) = added(&column, &rows, &groups, &counts) {
                (0..).zip(added).for_each(|(group, value): (usize, _)| sums[group * stride + slot] += value);
            } else {
                each(&column, &rows, &groups, |group, value| sums[group * stride + slot] += value);
            }
        }
        if self.question.fields.holds(Field::latency_bucket(0)) {
            self.add_latencies(block, &rows, &groups)?;
        }
        Ok(())
    }

    /// The rollup that answers as the block does: that of the one dimension that is filtered or grouped by.
    fn rollup<'a>(&self, block: &Block<'a>) -> Result<Option<Block<'a>>, StoredError> {
        let Question { filter, group, .. } = &self.question;
        let mut asked = filter.iter().map(|(dimension, _)| *dimension).chain(group.iter().copied());
        let Some(first) = asked.next() else { return Ok(None) };
        if asked.all(|dimension| dimension == first) { block.rollup(first) } else { Ok(None) }
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
        let mut places = vec![0_u64; rows.len()];
        let mut range = 1_u64;
        if !one_bucket {
            let hours = block.hours()?;
            range = HOURS as u64;
            places.iter_mut().zip(rows).for_each(|(place, row)| *place = hour_of(&hours, *row) as u64);
        }
        for values in &dimensions {
            // At most 2^17 values of each of three dimensions, and 24 hours: no overflow.
            let count = values.texts.len() as u64 + 1;
            range *= count;
            let code = |row: u32| u64::from(values.code(row as usize)).min(count - 1);
            places.iter_mut().zip(rows).for_each(|(place, row)| *place = *place * count + code(*row));
        }
        let is_table = range <= (PLACES_PER_FACT * rows.len()) as u64;
        let mut table = vec![UNKNOWN; if is_table { usize::try_from(range).unwrap_or(0) } else { 0 }];
        let mut groups = Vec::with_capacity(rows.len());
        for place in places {
            let index = usize::try_from(place).unwrap_or(usize::MAX);
            if let Some(&known) = table.get(index).filter(|known| **known != UNKNOWN) {
                groups.push(known);
                continue;
            }
            let mut codes = [0; GROUP_MAX];
            let mut rest = place;
            for (code, values) in codes[..dimensions.len()].iter_mut().zip(&dimensions).rev() {
                let count = values.texts.len() as u64 + 1;
                *code = u32::try_from(rest % count).unwrap_or(0);
                rest /= count;
            }
            let hour = usize::try_from(rest).unwrap_or(0);
            let group = self.group(&dimensions, codes, buckets[hour].unwrap_or_default());
            if let Some(known) = table.get_mut(index) {
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

/// What each group gains of a column: sums of the small numbers that it is packed in, which are made whole once a group. `None` for
/// a column whose sums might not fit 64 bits, or when the groups were not counted.
fn added(column: &Column<'_>, rows: &[u32], groups: &[u32], counts: &[u32]) -> Option<impl Iterator<Item = i128>> {
    let Column::Packed { base, step, packed } = column else { return None };
    let fits = packed.max().checked_mul(rows.len() as u64).is_some();
    if !fits || counts.is_empty() {
        return None;
    }
    // Neighbours are often of one group: they are added in turn to several sums, so that none waits for the one before.
    let mut sums = vec![[0_u64; LANES]; counts.len()];
    let values = rows.iter().map(|row| packed.get(*row as usize));
    for (value, (group, lane)) in values.zip(groups.iter().zip((0..LANES).cycle())) {
        sums[*group as usize][lane] += value;
    }
    let (base, step) = (*base, i128::from(*step));
    let sums = sums.into_iter().map(|lanes| lanes.iter().map(|sum| i128::from(*sum)).sum::<i128>());
    Some(sums.zip(counts).map(move |(sum, count)| sum * step + base * i128::from(*count)))
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
