//! Questions to a store: a [`StoreSnapshot`] shows one position, whatever the worker commits meanwhile.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use rocksdb::{ReadOptions, Snapshot};

use super::error::StoreError;
use super::merging::looking;
use super::tables::{Table, Tables};
use crate::codec::store_values::{FoldSettings, TaskMeta};
use crate::codec::{store_keys, store_terms, store_values};
use crate::domain::cube::block::Block;
use crate::domain::cube::bundle;
use crate::domain::cube::bytes::StoredError;
use crate::domain::cube::fold::ContentKey;
use crate::domain::cube::scan::{Question, Scan};
use crate::domain::cube::tally::Tally;
use crate::domain::limits::decision::LimitDecision;
use crate::domain::terms::book::{OrgTerms, PolicyHistory};
use crate::domain::terms::records::TermsRecord;
use crate::domain::time::{Day, Hour};
use crate::domain::usage::content::Content;

/// Takes a total: its hour and its tally.
pub type EachTotal<'e> = &'e mut dyn FnMut(Hour, &Tally) -> ControlFlow<()>;

/// Takes a sum: the first hour of its bucket, the values of the dimensions that were asked for in their order, its tally.
pub type EachSum<'e> = &'e mut dyn FnMut(Hour, &[Option<&str>], &Tally) -> ControlFlow<()>;

/// Takes the blocks of a day.
pub type EachDay<'e> = &'e mut dyn FnMut(Day, &[Block<'_>]) -> Result<ControlFlow<()>, StoredError>;

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

    /// An org's total of each stored hour in `hours`, ascending, until `each` breaks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn totals(&self, org: &str, hours: Range<Hour>, each: EachTotal<'_>) -> Result<(), StoreError> {
        let (from, to) = totals_between(org, &hours);
        self.scan(Table::Totals, from, to, &mut |key, value| {
            Ok(each(store_keys::read_total(key)?.1, &store_values::read_tally(value)?))
        })
    }

    /// The days on which an org has facts in `hours`, ascending.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn days(&self, org: &str, hours: Range<Hour>) -> Result<Vec<Day>, StoreError> {
        let mut days = Vec::new();
        let (from, to) = totals_between(org, &hours);
        if from >= to {
            return Ok(days);
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(to);
        let mut totals = self.snapshot.raw_iterator_cf_opt(self.tables.family(Table::Totals), options);
        totals.seek(from);
        while let Some(key) = totals.key() {
            let read =
                store_keys::read_total(key).map_err(|error| StoreError::stored(&self.tables.path, error))?;
            let day = read.1.day();
            days.push(day);
            let mut next = Vec::new();
            store_keys::put_total(&mut next, org, Day(day.0 + 1).first_hour());
            totals.seek(next);
        }
        totals.status().map_err(|error| self.tables.error(&error))?;
        Ok(days)
    }

    /// Hands the blocks of each day that has facts in `hours` to `each`, day by day, until it breaks.
    ///
    /// # Errors
    /// When the store cannot be read, or holds other bytes than were written.
    pub fn blocks(&self, org: &str, hours: Range<Hour>, each: EachDay<'_>) -> Result<(), StoreError> {
        for day in self.days(org, hours)? {
            let key = store_keys::blocks(org, day);
            let found = looking(|| self.snapshot.get_pinned_cf(self.tables.family(Table::Blocks), key));
            let Some(bytes) = found.map_err(|error| self.tables.error(&error))? else { continue };
            let flow = bundle::blocks(&bytes).and_then(|blocks| each(day, &blocks));
            if flow.map_err(|error| StoreError::stored(&self.tables.path, error))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The sums of a question over each bucket of `hours`, by day and bucket; `bucket_of` gives the first hour of an hour's
    /// bucket, which lies in the same day. One day's sums are in memory at a time.
    ///
    /// # Errors
    /// As `blocks`.
    pub fn sums(
        &self,
        org: &str,
        question: &Question,
        hours: Range<Hour>,
        bucket_of: impl Fn(Hour) -> Hour,
        each: EachSum<'_>,
    ) -> Result<(), StoreError> {
        self.blocks(org, hours.clone(), &mut |day, blocks| {
            let mut scan = Scan::new(question.clone());
            for block in blocks {
                scan.add(block, day, |hour| hours.contains(&hour).then(|| bucket_of(hour).0))?;
            }
            let mut groups: Vec<_> = scan.groups().collect();
            groups.sort_by_key(|(bucket, ..)| *bucket);
            for (bucket, values, tally) in &groups {
                if each(Hour(*bucket), values, tally).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Orgs that have facts or terms, in order, after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn orgs(&self, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError> {
        let next_total = |after: Option<&str>| {
            let mut from = Vec::new();
            store_keys::put_totals_after(&mut from, after);
            let end = vec![from[0] + 1];
            self.first(Table::Totals, from, end, |key| Ok(store_keys::read_total(key)?.0.to_owned()))
        };
        let next_terms = |after: Option<&str>| {
            let mut from = Vec::new();
            store_keys::put_terms_after(&mut from, after);
            let end = vec![from[0] + 1];
            self.first(Table::Terms, from, end, |key| Ok(store_keys::read_terms(key)?.0.to_owned()))
        };
        let (mut total, mut terms) = (next_total(after)?, next_terms(after)?);
        let mut orgs = Vec::new();
        while orgs.len() < limit {
            let least = match (&total, &terms) {
                (Some(total), Some(terms)) => total.min(terms),
                (Some(org), None) | (None, Some(org)) => org,
                (None, None) => break,
            };
            let org = least.clone();
            if total.as_ref() == Some(&org) {
                total = next_total(Some(&org))?;
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

/// The keys of an org's totals in `hours`.
fn totals_between(org: &str, hours: &Range<Hour>) -> (Vec<u8>, Vec<u8>) {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    store_keys::put_total(&mut from, org, hours.start);
    store_keys::put_total(&mut to, org, hours.end);
    (from, to)
}
