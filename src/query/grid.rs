//! A grid of tallies, bucket x group: what the org's totals or facts add up to.
//!
//! Every bucket of the range is present for each group that occurs in it (and without a grouping always), with zeros
//! where nothing was used. A grid is bounded while it grows (Law 6). How it is ordered and paged: `usage`.

use std::ops::ControlFlow;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::domain::cube::field_set::FieldSet;
use crate::domain::cube::scan::{Question, Scan};
use crate::domain::cube::tally::Tally;
use crate::domain::time::Hour;

use super::error::QueryError;
use super::overage;
use super::params::OrderField;
use super::usage::PlannedUsage;

/// The most rows (buckets x groups) of one answer, over all of its pages.
pub const ROWS_MAX: usize = 200_000;
/// The most sums that one answer holds in memory: 32 MiB.
const SUMS_MAX: usize = 2_000_000;
/// The most facts that one answer reads: some seconds.
const READ_MAX: u64 = 20_000_000;

/// Tallies by bucket and group. Cell numbers count groups within buckets, both ascending.
pub(super) struct Grid {
    pub(super) starts: Vec<Hour>,
    pub(super) groups: Vec<Vec<Option<String>>>,
    pub(super) tallies: HashMap<usize, Tally, RandomState>,
    pub(super) total: Tally,
}

impl Grid {
    pub(super) fn read(planned: &PlannedUsage<'_>) -> Result<Self, QueryError> {
        let params = &planned.params;
        let mut filling = Filling::new(planned);
        if params.dimensions().is_empty() {
            filling.read_totals(planned)?;
        } else {
            filling.scan(planned)?;
        }
        if overage::asked(params) {
            overage::parts(planned, &mut |hour, value, tally| {
                if params
                    .filters
                    .iter()
                    .all(|filter| filter.values.iter().any(|wanted| wanted.as_deref() == value))
                {
                    let group = [value];
                    filling.add(filling.bucket_of(hour), &group[..params.group_by.len()], tally);
                }
            })?;
            filling.check()?;
        }
        Ok(filling.finish())
    }
}

/// The number of the bucket that holds an hour of the range.
fn bucket_among(edges: &[Hour], hour: Hour) -> i32 {
    i32::try_from(edges.partition_point(|edge| *edge <= hour)).unwrap_or(i32::MAX) - 1
}

/// A grid that is being filled: groups in the order in which they came.
struct Filling<'a> {
    edges: &'a [Hour],
    wanted: FieldSet,
    groups: Vec<Vec<Option<String>>>,
    numbers: HashMap<String, usize, RandomState>,
    key: String,
    cells: HashMap<(usize, usize), Tally, RandomState>,
    total: Tally,
    /// The bound that was passed: of what, and how many are allowed.
    over: Option<(&'static str, usize)>,
}

impl<'a> Filling<'a> {
    fn new(planned: &'a PlannedUsage<'_>) -> Self {
        let params = &planned.params;
        let ordered = match params.order_by.0 {
            OrderField::Measure(measure) => measure.fields(),
            _ => FieldSet::default(),
        };
        let mut filling = Self {
            edges: &planned.edges,
            wanted: params.measures.iter().fold(ordered, |wanted, measure| wanted.and(measure.fields())),
            groups: Vec::new(),
            numbers: HashMap::default(),
            key: String::new(),
            cells: HashMap::default(),
            total: Tally::new(),
            over: None,
        };
        if params.group_by.is_empty() {
            filling.number(&[]);
        }
        filling
    }

    /// Adds the org's totals.
    fn read_totals(&mut self, planned: &PlannedUsage<'_>) -> Result<(), QueryError> {
        planned.snapshot.totals(planned.org, planned.range(), &mut |hour, tally| {
            self.add(self.bucket_of(hour), &[], tally);
            if self.over.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        self.check()
    }

    /// Adds the facts of the org that pass.
    fn scan(&mut self, planned: &PlannedUsage<'_>) -> Result<(), QueryError> {
        let (params, range) = (&planned.params, planned.range());
        let filter = params.filters.iter().map(|filter| (filter.dimension, filter.values.clone()));
        let mut scan =
            Scan::new(Question { filter: filter.collect(), group: params.group_by.clone(), fields: self.wanted });
        let edges = self.edges;
        let bucket_of = |hour: Hour| range.contains(&hour).then(|| bucket_among(edges, hour));
        planned.snapshot.blocks(planned.org, range.clone(), &mut |day, blocks| {
            for block in blocks {
                scan.add(block, day, bucket_of)?;
                self.bound(scan.len(), scan.len());
                if scan.facts() > READ_MAX {
                    self.over = Some(("stored facts", usize::try_from(READ_MAX).unwrap_or(usize::MAX)));
                }
            }
            Ok(if self.over.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        self.check()?;
        for (bucket, group, tally) in scan.groups() {
            self.put(bucket, &group, tally);
        }
        self.check()
    }

    /// The bucket of an hour of the range.
    fn bucket_of(&self, hour: Hour) -> i32 {
        bucket_among(self.edges, hour)
    }

    /// The number of a group, a new one for a group not seen before.
    fn number(&mut self, group: &[Option<&str>]) -> usize {
        self.key.clear();
        for value in group {
            // The length before a value keeps (ab, c) and (a, bc) apart, and absent from all of them.
            self.key.push_str(&value.map_or_else(|| "-".to_owned(), |value| value.len().to_string()));
            self.key.push(':');
            self.key.push_str(value.unwrap_or_default());
        }
        if let Some(number) = self.numbers.get(&self.key) {
            return *number;
        }
        self.numbers.insert(self.key.clone(), self.groups.len());
        self.groups.push(group.iter().map(|value| value.map(str::to_owned)).collect());
        self.groups.len() - 1
    }

    /// Adds those of the tally's fields that are wanted.
    fn add(&mut self, bucket: i32, group: &[Option<&str>], tally: &Tally) {
        let mut wanted = Tally::new();
        tally
            .iter()
            .filter(|(field, _)| self.wanted.holds(*field))
            .for_each(|(field, value)| wanted.add(field, value));
        self.put(bucket, group, wanted);
    }

    /// Adds a tally of wanted fields.
    fn put(&mut self, bucket: i32, group: &[Option<&str>], tally: Tally) {
        let group = self.number(group);
        self.total.merge(&tally);
        match self.cells.entry((usize::try_from(bucket).unwrap_or(0), group)) {
            Entry::Occupied(mut cell) => cell.get_mut().merge(&tally),
            Entry::Vacant(cell) => {
                cell.insert(tally);
            }
        }
        self.bound(self.groups.len() * (self.edges.len() - 1), self.cells.len());
    }

    /// Law 6: a grid is bounded while it grows, not when it is done.
    fn bound(&mut self, rows: usize, cells: usize) {
        if rows > ROWS_MAX {
            self.over = Some(("rows", ROWS_MAX));
        } else if cells * self.wanted.count() > SUMS_MAX {
            self.over = Some(("sums", SUMS_MAX));
        }
    }

    fn check(&self) -> Result<(), QueryError> {
        self.over.map_or(Ok(()), |(what, limit)| Err(QueryError::TooLarge { what, limit }))
    }

    /// The grid with its groups in order.
    fn finish(self) -> Grid {
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_by(|a, b| self.groups[*a].cmp(&self.groups[*b]));
        let mut place = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new;
        }
        let cells = self.cells.into_iter();
        let tallies = cells.map(|((bucket, group), tally)| (bucket * place.len() + place[group], tally)).collect();
        let mut unordered = self.groups;
        let groups = order.iter().map(|group| std::mem::take(&mut unordered[*group])).collect();
        Grid { starts: self.edges[..self.edges.len() - 1].to_vec(), groups, tallies, total: self.total }
    }
}
