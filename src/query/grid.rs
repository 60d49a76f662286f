//! A grid of tallies, bucket x group: what the planned rows add up to.
//!
//! Every bucket of the range is present for each group that occurs in it (and without a grouping always), with zeros
//! where nothing was used. A grid is bounded while it grows (Law 6). How it is ordered and paged: `usage`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::domain::dimension::Dimension;
use crate::domain::field_set::FieldSet;
use crate::domain::tally::Tally;
use crate::domain::time::Hour;

use super::error::QueryError;
use super::overage;
use super::params::{OrderField, UsageParams};
use super::usage::PlannedUsage;

/// The most rows (buckets x groups) of one answer, over all of its pages.
pub const ROWS_MAX: usize = 200_000;
/// The most sums that one answer holds in memory: 32 MiB.
const SUMS_MAX: usize = 2_000_000;
/// The most stored rows that one answer reads: some seconds.
const READ_MAX: usize = 20_000_000;

/// Tallies by bucket and group. Cell numbers count groups within buckets, both ascending.
pub(super) struct Grid {
    pub(super) starts: Vec<Hour>,
    pub(super) groups: Vec<Vec<Option<String>>>,
    pub(super) tallies: HashMap<usize, Tally>,
    pub(super) total: Tally,
}

impl Grid {
    pub(super) fn read(planned: &PlannedUsage<'_>) -> Result<Self, QueryError> {
        let params = &planned.params;
        let mut filling = Filling::new(planned);
        let mut read = 0;
        for stretch in &planned.stretches {
            let view = &planned.snapshot.views()[usize::from(stretch.view)];
            let columns = Columns::of(&view.dimensions, params);
            planned.snapshot.rows(
                stretch.view,
                planned.org,
                stretch.rows.clone(),
                &mut |number, values, tally| {
                    if columns.pass(values) {
                        filling.add(stretch.size.first_hour(number), columns.group(values), tally);
                    }
                    read += 1;
                    if read > READ_MAX {
                        filling.over = Some(("stored rows", READ_MAX));
                    }
                    if filling.over.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                },
            )?;
            filling.check()?;
        }
        if overage::asked(params) {
            let dimensions = params.dimensions();
            let columns = Columns::of(&dimensions, params);
            overage::parts(planned, &mut |hour, values, tally| {
                if columns.pass(values) {
                    filling.add(hour, columns.group(values), tally);
                }
            })?;
            filling.check()?;
        }
        Ok(filling.finish())
    }
}

/// Where the asked dimensions stand in a view's rows.
struct Columns<'a> {
    group: Vec<usize>,
    filters: Vec<(usize, &'a [Option<String>])>,
}

impl<'a> Columns<'a> {
    fn of(dimensions: &[Dimension], params: &'a UsageParams) -> Self {
        let column = |asked: Dimension| {
            dimensions.iter().position(|dimension| *dimension == asked).expect("the planned view covers it")
        };
        Self {
            group: params.group_by.iter().map(|dimension| column(*dimension)).collect(),
            filters: params.filters.iter().map(|filter| (column(filter.dimension), &*filter.values)).collect(),
        }
    }

    fn pass(&self, values: &[Option<&str>]) -> bool {
        let passes = |(column, any): &(usize, &[Option<String>])| {
            any.iter().any(|value| value.as_deref() == values[*column])
        };
        self.filters.iter().all(passes)
    }

    fn group<'v>(&self, values: &[Option<&'v str>]) -> impl Iterator<Item = Option<&'v str>> + Clone {
        self.group.iter().map(move |column| values[*column])
    }
}

/// A grid that is being filled: groups in the order in which they came.
struct Filling<'a> {
    edges: &'a [Hour],
    wanted: FieldSet,
    groups: Vec<Vec<Option<String>>>,
    numbers: HashMap<String, usize>,
    key: String,
    cells: HashMap<(usize, usize), Tally>,
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
            numbers: HashMap::new(),
            key: String::new(),
            cells: HashMap::new(),
            total: Tally::new(),
            over: None,
        };
        if params.group_by.is_empty() {
            filling.number(std::iter::empty());
        }
        filling
    }

    /// The number of a group, a new one for a group not seen before.
    fn number<'v>(&mut self, group: impl Iterator<Item = Option<&'v str>> + Clone) -> usize {
        self.key.clear();
        for value in group.clone() {
            // The length before a value keeps (ab, c) and (a, bc) apart, and absent from all of them.
            self.key.push_str(&value.map_or_else(|| "-".to_owned(), |value| value.len().to_string()));
            self.key.push(':');
            self.key.push_str(value.unwrap_or_default());
        }
        if let Some(number) = self.numbers.get(&self.key) {
            return *number;
        }
        self.numbers.insert(self.key.clone(), self.groups.len());
        self.groups.push(group.map(|value| value.map(str::to_owned)).collect());
        self.groups.len() - 1
    }

    fn add<'v>(&mut self, hour: Hour, group: impl Iterator<Item = Option<&'v str>> + Clone, tally: &Tally) {
        let bucket = self.edges.partition_point(|edge| *edge <= hour) - 1;
        let group = self.number(group);
        let cell = self.cells.entry((bucket, group)).or_default();
        for (field, value) in tally.iter().filter(|(field, _)| self.wanted.holds(*field)) {
            cell.add(field, value);
            self.total.add(field, value);
        }
        // Law 6: a grid is bounded while it grows, not when it is done.
        let sums = self.cells.len() * self.wanted.count();
        if self.groups.len() * (self.edges.len() - 1) > ROWS_MAX {
            self.over = Some(("rows", ROWS_MAX));
        } else if sums > SUMS_MAX {
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
        let mut groups = self.groups;
        groups.sort();
        Grid { starts: self.edges[..self.edges.len() - 1].to_vec(), groups, tallies, total: self.total }
    }
}
