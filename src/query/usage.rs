//! Usage over a range: rows of the planned views, added up into a grid of bucket x group, ordered and paged.
//!
//! Every bucket of the range is present for each group that occurs in it (and the org's own sums always are), with
//! zeros where nothing was used. The grid is bounded (Law 6). What rows are read: `plan.rs`.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::domain::dimension::Dimension;
use crate::domain::tally::Tally;
use crate::domain::time::Hour;
use crate::domain::view::View;
use crate::store::StoreSnapshot;

use super::Standing;
use super::error::QueryError;
use super::measure::Measure;
use super::page::{self, Token};
use super::params::{OrderField, UsageParams, hash};
use super::plan::Stretch;

/// The most rows (buckets x groups) of one answer, over all of its pages.
pub const ROWS_MAX: usize = 500_000;
/// The most sums that one answer holds in memory: 64 MiB.
const SUMS_MAX: usize = 4_000_000;

/// One row of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// First hour of its bucket.
    pub start: Hour,
    /// The values of the grouped dimensions, `None` where absent.
    pub group: Vec<Option<String>>,
    /// The fields that the asked measures are made of.
    pub tally: Tally,
}

/// One page of an answer.
#[derive(Clone, Debug)]
pub struct UsageAnswer {
    /// Whether rows have a bucket, else they are of the whole range.
    pub has_start: bool,
    /// What rows are grouped by.
    pub group_by: Vec<Dimension>,
    /// What rows show.
    pub measures: Vec<Measure>,
    /// First hour of the range.
    pub from: Hour,
    /// First hour after it.
    pub to: Hour,
    /// The rows of this page.
    pub rows: Vec<UsageRow>,
    /// The sum of all rows of all pages.
    pub total: Tally,
    /// What gives the next page; empty at the end.
    pub next_page_token: String,
    /// How fresh the answer is.
    pub standing: Standing,
}

/// A planned question over one snapshot: cheap until it is answered.
pub(super) struct PlannedUsage<'a> {
    pub(super) snapshot: &'a StoreSnapshot<'a>,
    pub(super) org: &'a str,
    pub(super) params: UsageParams,
    pub(super) token: Option<Token>,
    pub(super) edges: Vec<Hour>,
    pub(super) stretches: Vec<Stretch>,
    pub(super) standing: Standing,
}

impl PlannedUsage<'_> {
    /// Names the answer's content without reading a row: two equal ones are of equal answers. It follows from the
    /// positions, the views, the question, and the buckets, which is where terms and the time come in.
    pub(super) fn tag(&self) -> String {
        let mut parts = vec![self.org.to_owned(), self.standing.tag(), format!("{:?}", self.snapshot.views())];
        parts.push(format!("{} {}", self.params.fingerprint, self.params.page_size));
        parts.push(self.params.page_token.clone().unwrap_or_default());
        parts.push(format!("{:?}", self.edges));
        format!("{:016x}", hash(parts.iter().map(String::as_bytes)))
    }

    /// Reads the rows.
    ///
    /// # Errors
    /// When the answer is too large or the store cannot be read.
    pub(super) fn answer(self) -> Result<UsageAnswer, QueryError> {
        let grid = Grid::read(&self)?;
        let order = Order::new(&grid, &self.params);
        let first = self.token.as_ref().map_or(0, |token| order.after(token));
        let cells: Vec<usize> = order.cells().skip(first).take(self.params.page_size + 1).collect();
        let page = &cells[..cells.len().min(self.params.page_size)];
        let next_page_token = match page.last() {
            Some(&last) if cells.len() > page.len() => page::write(&order.token(last, &self))?,
            _ => String::new(),
        };
        let rows = page.iter().map(|&cell| grid.row(cell)).collect();
        Ok(UsageAnswer {
            has_start: self.params.bucket != super::bucket::Bucket::None,
            from: self.edges[0],
            to: self.edges[self.edges.len() - 1],
            rows,
            total: grid.total,
            next_page_token,
            standing: self.standing,
            group_by: self.params.group_by,
            measures: self.params.measures,
        })
    }
}

/// Tallies by bucket and group. Cell numbers count groups within buckets, both ascending.
struct Grid {
    starts: Vec<Hour>,
    groups: Vec<Vec<Option<String>>>,
    tallies: HashMap<usize, Tally>,
    total: Tally,
}

impl Grid {
    fn read(planned: &PlannedUsage<'_>) -> Result<Self, QueryError> {
        let params = &planned.params;
        let mut filling = Filling::new(planned);
        for stretch in &planned.stretches {
            let view = &planned.snapshot.views()[usize::from(stretch.view)];
            let columns = Columns::of(view, params);
            planned.snapshot.rows(
                stretch.view,
                planned.org,
                stretch.rows.clone(),
                &mut |number, values, tally| {
                    if columns.pass(values) {
                        filling.add(stretch.size.first_hour(number), columns.group(values), tally);
                    }
                    if filling.too_large { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                },
            )?;
            if filling.too_large {
                return Err(QueryError::TooLarge { what: "rows", limit: ROWS_MAX });
            }
        }
        Ok(filling.finish())
    }

    fn row(&self, cell: usize) -> UsageRow {
        UsageRow {
            start: self.starts[cell / self.groups.len()],
            group: self.groups[cell % self.groups.len()].clone(),
            tally: self.tallies.get(&cell).cloned().unwrap_or_default(),
        }
    }
}

/// Where the asked dimensions stand in a view's rows.
struct Columns<'a> {
    group: Vec<usize>,
    filters: Vec<(usize, &'a [Option<String>])>,
}

impl<'a> Columns<'a> {
    fn of(view: &View, params: &'a UsageParams) -> Self {
        let column = |asked: Dimension| {
            view.dimensions.iter().position(|dimension| *dimension == asked).expect("the planned view covers it")
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
    wanted: u128,
    groups: Vec<Vec<Option<String>>>,
    numbers: HashMap<String, usize>,
    key: String,
    cells: HashMap<(usize, usize), Tally>,
    total: Tally,
    too_large: bool,
}

impl<'a> Filling<'a> {
    fn new(planned: &'a PlannedUsage<'_>) -> Self {
        let params = &planned.params;
        let ordered = match params.order_by.0 {
            OrderField::Measure(measure) => measure.fields(),
            _ => 0,
        };
        let mut filling = Self {
            edges: &planned.edges,
            wanted: params.measures.iter().fold(ordered, |wanted, measure| wanted | measure.fields()),
            groups: Vec::new(),
            numbers: HashMap::new(),
            key: String::new(),
            cells: HashMap::new(),
            total: Tally::new(),
            too_large: false,
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
        for (field, value) in tally.iter().filter(|(field, _)| self.wanted >> field.number() & 1 == 1) {
            cell.add(field, value);
            self.total.add(field, value);
        }
        // Law 6: a grid is bounded while it grows, not when it is done.
        let sums = self.cells.len() * self.wanted.count_ones() as usize;
        self.too_large = self.groups.len() * (self.edges.len() - 1) > ROWS_MAX || sums > SUMS_MAX;
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

/// The order of a grid's cells.
struct Order<'a> {
    grid: &'a Grid,
    field: OrderField,
    descending: bool,
    /// What each cell is ordered by, where that is a measure.
    ranks: Vec<Option<i128>>,
    sorted: Vec<usize>,
}

/// What a cell, or the row that a token names, is ordered by.
struct Key<'a> {
    rank: Option<i128>,
    start: Hour,
    group: &'a [Option<String>],
}

impl<'a> Order<'a> {
    fn new(grid: &'a Grid, params: &UsageParams) -> Self {
        let (field, descending) = params.order_by;
        let cells = grid.starts.len() * grid.groups.len();
        let ranks = match field {
            OrderField::Measure(measure) => {
                let empty = Tally::new();
                (0..cells).map(|cell| measure.rank(grid.tallies.get(&cell).unwrap_or(&empty))).collect()
            }
            OrderField::Start | OrderField::Group(_) => Vec::new(),
        };
        let mut order = Self { grid, field, descending, ranks, sorted: Vec::new() };
        let mut sorted: Vec<usize> = (0..cells).collect();
        if field != OrderField::Start || descending {
            sorted.sort_by(|a, b| order.compare(&order.key(*a), &order.key(*b)));
        }
        order.sorted = sorted;
        order
    }

    fn cells(&self) -> impl Iterator<Item = usize> {
        self.sorted.iter().copied()
    }

    fn key(&self, cell: usize) -> Key<'_> {
        Key {
            rank: self.ranks.get(cell).copied().flatten(),
            start: self.grid.starts[cell / self.grid.groups.len()],
            group: &self.grid.groups[cell % self.grid.groups.len()],
        }
    }

    fn compare(&self, a: &Key<'_>, b: &Key<'_>) -> Ordering {
        let first = match self.field {
            OrderField::Start => a.start.cmp(&b.start),
            OrderField::Group(place) => a.group.get(place).cmp(&b.group.get(place)),
            OrderField::Measure(_) => a.rank.cmp(&b.rank),
        };
        let first = if self.descending { first.reverse() } else { first };
        first.then(a.start.cmp(&b.start)).then_with(|| a.group.cmp(b.group))
    }

    /// How many cells come before and with the row that the token names.
    fn after(&self, token: &Token) -> usize {
        let rank = token.rank.as_ref().and_then(|rank| rank.parse().ok());
        let last = Key { rank, start: Hour(token.start), group: &token.group };
        self.sorted.partition_point(|cell| self.compare(&self.key(*cell), &last) != Ordering::Greater)
    }

    fn token(&self, cell: usize, planned: &PlannedUsage<'_>) -> Token {
        let key = self.key(cell);
        Token {
            query: fingerprint(planned.org, &planned.params),
            from: planned.edges[0].0,
            to: planned.edges[planned.edges.len() - 1].0,
            rank: key.rank.map(|rank| rank.to_string()),
            start: key.start.0,
            group: key.group.to_vec(),
        }
    }
}

/// Tells questions of orgs apart.
pub(super) fn fingerprint(org: &str, params: &UsageParams) -> u64 {
    hash([org.as_bytes(), &params.fingerprint.to_le_bytes()])
}
