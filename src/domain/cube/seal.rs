//! Sealing: the additions of a segment become one block for each (org, UTC day), and the sums of each (org, hour). It may run
//! in another thread than the fold. Next to read: `builder`.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::FACTS_MAX;
use super::builder::Builder;
use super::segment::{Frozen, Row};
use crate::domain::credits::CreditSum;
use crate::domain::cube::interner::{Symbol, Texts};
use crate::domain::cube::tally::{Field, Tally};
use crate::domain::time::{Day, Hour};
use crate::domain::usage::dimension::Dimension;

/// What was added to one org on one day; more than [`FACTS_MAX`] facts come in several, of which the last has the totals.
#[derive(Debug)]
pub struct Sealed<'a> {
    /// The org.
    pub org: &'a str,
    /// The day.
    pub day: Day,
    /// Its facts.
    pub block: &'a [u8],
    /// How many.
    pub facts: usize,
    /// What was added to each hour.
    pub totals: &'a [(Hour, Tally)],
}

/// Seals one segment after another, in memory that is used again.
#[derive(Debug, Default)]
pub struct Sealer {
    texts: Texts,
    /// All symbols in the order of their texts.
    sorted: Vec<Symbol>,
    /// By symbol, one more than its place in `sorted`; 0 for an absent text.
    ranks: Vec<u32>,
    builder: Builder,
    block: Vec<u8>,
    totals: Vec<(Hour, Tally)>,
}

impl Sealer {
    /// Hands what each org and day gained to `each`, in the order of the orgs' names and the days.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn seal<E>(
        &mut self,
        frozen: &Frozen,
        mut each: impl FnMut(&Sealed<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.learn(frozen);
        let day_of = |row: &Row| row.hour.day();
        let org_of = |row: &Row| row.symbols.org;
        let mut order: Vec<(u32, Day, u32)> = (0_u32..)
            .zip(&frozen.rows)
            .map(|(place, row)| (self.ranks[org_of(row).0 as usize], day_of(row), place))
            .collect();
        order.sort_unstable();
        let mut facts = Vec::new();
        for run in order.chunk_by(|one, next| (one.0, one.1) == (next.0, next.1)) {
            facts.clear();
            facts.extend(run.iter().map(|&(.., place)| {
                let row = &frozen.rows[place as usize];
                let symbols = &row.symbols.values;
                let codes = symbols.map(|symbol| self.ranks[symbol.0 as usize]);
                ((codes, hour_of_day(row.hour)), place)
            }));
            facts.sort_unstable();
            self.totals.clear();
            let (org, day) = (Symbol(self.sorted[run[0].0 as usize - 1].0), run[0].1);
            for (key, place) in &facts {
                if self.builder.len() == FACTS_MAX && self.builder.last() != Some(key) {
                    let facts = self.finish();
                    let org = self.texts.text(org).unwrap_or_default();
                    each(&Sealed { org, day, block: &self.block, facts, totals: &[] })?;
                }
                self.builder.fact(key);
                self.take(&frozen.rows[*place as usize], &frozen.values);
            }
            self.totals.sort_unstable_by_key(|(hour, _)| *hour);
            let facts = self.finish();
            let org = self.texts.text(org).unwrap_or_default();
            each(&Sealed { org, day, block: &self.block, facts, totals: &self.totals })?;
        }
        Ok(())
    }

    /// Adds a row to the last fact and to its hour.
    fn take(&mut self, row: &Row, values: &[i64]) {
        let place = self.totals.iter().position(|(hour, _)| *hour == row.hour).unwrap_or_else(|| {
            self.totals.push((row.hour, Tally::new()));
            self.totals.len() - 1
        });
        let total = &mut self.totals[place].1;
        let mut mask = row.mask;
        for &value in &values[row.first as usize..][..mask.count_ones() as usize] {
            let field = Field::of(mask);
            mask &= mask - 1;
            self.builder.add(field, value.into());
            total.add(field, value.into());
        }
        if let Some(bucket) = row.latency() {
            let field = Field::latency_bucket(bucket.into());
            self.builder.add(field, 1);
            total.add(field, 1);
        }
    }

    /// Credits that a segment, sealed before, added to each product and model.
    #[must_use]
    pub fn credits(&self, frozen: &Frozen) -> Vec<(Option<&str>, Option<&str>, CreditSum)> {
        let mut sums: HashMap<[Symbol; 2], CreditSum, FixedState> = HashMap::default();
        for row in frozen.rows.iter().filter(|row| row.mask & 1 == 1) {
            let symbols = &row.symbols.values;
            let of = [Dimension::Product, Dimension::Model].map(|dimension| symbols[dimension.index()]);
            *sums.entry(of).or_default() += CreditSum(frozen.values[row.first as usize].into());
        }
        sums.into_iter()
            .map(|([product, model], sum)| (self.texts.text(product), self.texts.text(model), sum))
            .collect()
    }

    /// Writes the facts so far as a block, and tells how many they are.
    fn finish(&mut self) -> usize {
        let facts = self.builder.len();
        let Self { texts, sorted, builder, block, .. } = self;
        block.clear();
        builder.finish(&|_: Dimension, code| texts.text(sorted[code as usize - 1]).unwrap_or_default(), block);
        facts
    }

    /// Takes the new texts.
    fn learn(&mut self, frozen: &Frozen) {
        self.texts.append(&frozen.texts);
        let known = u32::try_from(self.sorted.len()).expect("symbols are numbers of 32 bits");
        let end = u32::try_from(self.texts.len()).expect("symbols are numbers of 32 bits");
        if known == end && !self.ranks.is_empty() {
            return;
        }
        self.sorted.extend((known + 1..=end).map(Symbol));
        let texts = &self.texts;
        // Two ascending runs are merged in one pass after the new ones are sorted.
        self.sorted[known as usize..].sort_unstable_by_key(|symbol| texts.text(*symbol));
        self.sorted.sort_by_key(|symbol| texts.text(*symbol));
        self.ranks.resize(end as usize + 1, 0);
        for (rank, symbol) in (1_u32..).zip(&self.sorted) {
            self.ranks[symbol.0 as usize] = rank;
        }
    }

    /// Forgets all texts, as its segment does.
    pub fn forget(&mut self) {
        self.texts.clear();
        self.sorted.clear();
        self.ranks.clear();
    }
}

/// The hour within its UTC day.
fn hour_of_day(hour: Hour) -> u8 {
    u8::try_from(hour.0 - hour.day().first_hour().0).expect("a day has 24 hours")
}
