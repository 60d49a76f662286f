//! Questions to a store: a [`StoreSnapshot`] shows one position, whatever the worker commits meanwhile.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use rocksdb::{ReadOptions, Snapshot};

use super::error::StoreError;
use super::tables::{Table, Tables};
use crate::codec::store_values::{FoldSettings, TaskMeta};
use crate::codec::{store_keys, store_terms, store_values};
use crate::domain::bytes::StoredError;
use crate::domain::content::Content;
use crate::domain::decision::LimitDecision;
use crate::domain::fold::{ContentKey, RowKey, Rows};
use crate::domain::tally::Tally;
use crate::domain::terms::TermsRecord;
use crate::domain::terms_book::{OrgTerms, PolicyHistory};
use crate::domain::time::BucketSize;
use crate::domain::view::View;

/// Takes a row: its bucket, the values of its view's dimensions in the view's order, its tally.
pub type EachRow<'e> = &'e mut dyn FnMut(i32, &[Option<&str>], &Tally) -> ControlFlow<()>;

type EachEntry<'e> = &'e mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoredError>;

/// A handle for questions to a store; cheap to clone. It keeps the store's files open: hold it for one question.
#[derive(Clone)]
pub struct StoreReader(Arc<Tables>);

impl StoreReader {
    pub(super) const fn new(tables: Arc<Tables>) -> Self {
        Self(tables)
    }

    /// The store as it is now.
    #[must_use]
    pub fn snapshot(&self) -> StoreSnapshot<'_> {
        StoreSnapshot { tables: &self.0, snapshot: self.0.db().snapshot() }
    }

    /// The declared views; a view's number is its place.
    #[must_use]
    pub fn views(&self) -> &[View] {
        &self.0.settings.views
    }

    /// What the fold was told.
    #[must_use]
    pub fn settings(&self) -> &FoldSettings {
        &self.0.settings
    }
}

/// A store at one position. Drop it soon: RocksDB keeps what it shows.
pub struct StoreSnapshot<'a> {
    tables: &'a Tables,
    snapshot: Snapshot<'a>,
}

impl StoreSnapshot<'_> {
    /// Where the task stood; `None` before the first commit.
    ///
    /// # Errors
    /// When the store cannot be read; likewise everywhere below.
    pub fn meta(&self) -> Result<Option<TaskMeta>, StoreError> {
        self.get(Table::Meta, &store_keys::TASK, store_values::read_task)
    }

    /// The declared views; a view's number is its place.
    #[must_use]
    pub fn views(&self) -> &[View] {
        &self.tables.settings.views
    }

    /// Every row of an org in one view with its bucket in `buckets`, by bucket: its bucket, the values of the view's
    /// dimensions in its order, and its tally; until `each` breaks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn rows(&self, view: u8, org: &str, buckets: Range<i32>, each: EachRow<'_>) -> Result<(), StoreError> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        store_keys::put_rows_from(&mut from, view, org, buckets.start);
        store_keys::put_rows_from(&mut to, view, org, buckets.end);
        self.scan(Table::Rows, from, to, &mut |key, value| {
            let key = store_keys::read_row(key)?;
            let tally = store_values::read_tally(value)?;
            Ok(each(key.bucket, &key.values[..usize::from(key.dimensions)], &tally))
        })
    }

    /// Orgs that have rows or terms, in order, after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn orgs(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
        // Every org with a row has one in each view, so the smallest view names them all.
        let by = |bucket| {
            let mut views = (0_u8..).zip(self.views());
            views.find(|(_, view)| view.dimensions.is_empty() && view.bucket == bucket).map(|(number, _)| number)
        };
        let view = by(BucketSize::Day).or_else(|| by(BucketSize::Hour)).unwrap_or(0);
        let next_row = |after: Option<&str>| {
            let mut from = Vec::new();
            store_keys::put_rows_after(&mut from, view, after);
            let end = vec![from[0], view + 1];
            self.first(Table::Rows, from, end, |key| Ok(store_keys::read_row(key)?.org.to_owned()))
        };
        let next_terms = |after: Option<&str>| {
            let mut from = Vec::new();
            store_keys::put_terms_after(&mut from, after);
            let end = vec![from[0] + 1];
            self.first(Table::Terms, from, end, |key| Ok(store_keys::read_terms(key)?.0.to_owned()))
        };
        let (mut row, mut terms) = (next_row(after)?, next_terms(after)?);
        let mut orgs = Vec::new();
        while orgs.len() < limit {
            let least = match (&row, &terms) {
                (Some(row), Some(terms)) => row.min(terms),
                (Some(org), None) | (None, Some(org)) => org,
                (None, None) => break,
            };
            let org = least.clone();
            if row.as_ref() == Some(&org) {
                row = next_row(Some(&org))?;
            }
            if terms.as_ref() == Some(&org) {
                terms = next_terms(Some(&org))?;
            }
            orgs.push(org);
        }
        Ok(orgs)
    }

    /// An org's policies.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn policies(&self, org: &str) -> Result<PolicyHistory, StoreError> {
        Ok(self.org_terms(org)?.policies)
    }

    /// All of an org's terms, each in its history.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn org_terms(&self, org: &str) -> Result<OrgTerms, StoreError> {
        let mut terms = OrgTerms::default();
        for (offset, record) in self.terms(org)? {
            terms.insert(offset, record);
        }
        Ok(terms)
    }

    /// An org's terms records with their offsets in the policies partition, by type and offset.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn terms(&self, org: &str) -> Result<Vec<(i64, TermsRecord)>, StoreError> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        store_keys::put_terms_from(&mut from, org);
        store_keys::put_terms_after(&mut to, Some(org));
        let mut terms = Vec::new();
        self.terms_between(from, to, &mut |offset, record| terms.push((offset, record)))?;
        Ok(terms)
    }

    /// Every terms record with its offset, by org, type and offset: to load at a start.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn all_terms(&self, each: &mut dyn FnMut(i64, TermsRecord)) -> Result<(), StoreError> {
        let mut from = Vec::new();
        store_keys::put_terms_after(&mut from, None);
        let to = vec![from[0] + 1];
        self.terms_between(from, to, each)
    }

    fn terms_between(
        &self,
        from: Vec<u8>,
        to: Vec<u8>,
        each: &mut dyn FnMut(i64, TermsRecord),
    ) -> Result<(), StoreError> {
        self.scan(Table::Terms, from, to, &mut |key, value| {
            let (_, kind, offset) = store_keys::read_terms(key)?;
            each(offset, store_terms::read_terms(kind, value)?);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Every decision as published last, by record key: to load at a start (a hint; the control topic wins, Law 4).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn levels(&self, each: &mut dyn FnMut(LimitDecision)) -> Result<(), StoreError> {
        let from = store_keys::level("");
        let to = vec![from[0] + 1];
        self.scan(Table::Levels, from, to, &mut |_, value| {
            each(store_terms::read_decision(value)?);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// An org's decisions: its own first, then those of its budgets.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn decisions(&self, org: &str) -> Result<Vec<LimitDecision>, StoreError> {
        let (own, budgets) = store_keys::levels_of(org);
        let mut decisions = Vec::new();
        decisions.extend(self.get(Table::Levels, &own, store_terms::read_decision)?);
        let end = end_of_prefix(&budgets);
        self.scan(Table::Levels, budgets, end, &mut |_, value| {
            decisions.push(store_terms::read_decision(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(decisions)
    }

    /// Every content row of an org, until `each` breaks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn contents(
        &self,
        org: &str,
        each: &mut dyn FnMut(&ContentKey<'_>, &Content) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut from = Vec::new();
        store_keys::put_contents_from(&mut from, org);
        let to = end_of_prefix(&from);
        self.scan(Table::Content, from, to, &mut |key, value| {
            Ok(each(&store_keys::read_content(key)?, &store_values::read_content(value)?))
        })
    }

    fn get<T>(
        &self,
        table: Table,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, StoredError>,
    ) -> Result<Option<T>, StoreError> {
        let value = self.snapshot.get_pinned_cf(self.tables.family(table), key);
        let value = value.map_err(|error| self.tables.error(&error))?;
        value.map(|value| read(&value)).transpose().map_err(|error| StoreError::stored(&self.tables.path, error))
    }

    fn first<T>(
        &self,
        table: Table,
        from: Vec<u8>,
        to: Vec<u8>,
        read: impl Fn(&[u8]) -> Result<T, StoredError>,
    ) -> Result<Option<T>, StoreError> {
        let mut found = None;
        self.scan(table, from, to, &mut |key, _| {
            found = Some(read(key)?);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Hands every entry with a key in `from..to` to `each` until it breaks.
    fn scan(&self, table: Table, from: Vec<u8>, to: Vec<u8>, each: EachEntry<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let mut entries = self.snapshot.raw_iterator_cf_opt(self.tables.family(table), options);
        entries.seek(from);
        while let Some((key, value)) = entries.item() {
            let flow = each(key, value).map_err(|error| StoreError::stored(&self.tables.path, error))?;
            if flow.is_break() {
                return Ok(());
            }
            entries.next();
        }
        entries.status().map_err(|error| self.tables.error(&error))
    }
}

/// The least key beyond all that open with `prefix`, whose last byte is never 255.
fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

impl Rows for StoreSnapshot<'_> {
    type Error = StoreError;

    fn row(&self, key: &RowKey<'_>) -> Result<Option<Tally>, StoreError> {
        let mut bytes = Vec::with_capacity(96);
        store_keys::put_row(&mut bytes, key);
        self.get(Table::Rows, &bytes, store_values::read_tally)
    }

    fn content(&self, key: &ContentKey<'_>) -> Result<Option<Content>, StoreError> {
        let mut bytes = Vec::with_capacity(96);
        store_keys::put_content(&mut bytes, key);
        self.get(Table::Content, &bytes, store_values::read_content)
    }
}
