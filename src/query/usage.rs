//! Usage over a range: a grid of bucket x group, ordered and paged. How facts are added up: `grid`.

use std::cmp::Ordering;
use std::ops::Range;

use crate::domain::cube::tally::Tally;
use crate::domain::limits::walk::Terms;
use crate::domain::terms::book::OrgTerms;
use crate::domain::terms::records::DefaultTerms;
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;
use crate::domain::zones;
use crate::store::StoreSnapshot;

use super::Standing;
use super::error::QueryError;
use super::grid::Grid;
use super::measure::Measure;
use super::overage;
use super::page::{self, Token};
use super::params::{OrderField, UsageParams, hash};

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
    /// What overage follows from, beside rows.
    pub(super) terms: &'a OrgTerms,
    pub(super) default: &'a DefaultTerms,
    pub(super) now: Timestamp,
    pub(super) params: UsageParams,
    pub(super) token: Option<Token>,
    pub(super) edges: Vec<Hour>,
    pub(super) standing: Standing,
}

impl PlannedUsage<'_> {
    /// The hours that are asked about.
    pub(super) fn range(&self) -> Range<Hour> {
        self.edges[0]..self.edges[self.edges.len() - 1]
    }

    /// Names the answer's content without reading a row: two equal ones are of equal answers. It follows from the
    /// positions, the question, and the buckets, which is where terms and the time come in.
    pub(super) fn tag(&self) -> String {
        let mut parts = vec![self.org.to_owned(), self.standing.tag()];
        parts.push(format!("{} {}", self.params.fingerprint, self.params.page_size));
        parts.push(self.params.page_token.clone().unwrap_or_default());
        parts.push(format!("{:?}", self.edges));
        if overage::asked(&self.params) {
            let terms = Terms { org: self.terms, default: self.default };
            parts.push(format!("{} {}", terms.next_change_after(self.now), zones::version()));
        }
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
        let rows = page.iter().map(|&cell| order.row(cell)).collect();
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

    fn row(&self, cell: usize) -> UsageRow {
        let key = self.key(cell);
        let tally = self.grid.tallies.get(&cell).cloned().unwrap_or_default();
        UsageRow { start: key.start, group: key.group.to_vec(), tally }
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
