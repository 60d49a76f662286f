//! What one commit writes: encoded as it is put, sorted and handed to RocksDB at once.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;

use super::tables::{Table, Tables};
use crate::codec::{store_keys, store_terms, store_values};
use crate::domain::cube::bundle;
use crate::domain::cube::fold::ContentKey;
use crate::domain::cube::seal::Sealed;
use crate::domain::limits::decision::LimitDecision;
use crate::domain::limits::rate::RateRing;
use crate::domain::terms::records::TermsRecord;
use crate::domain::usage::content::Content;
use crate::domain::usage::dedupe::{IdBucket, IdKey, Seen};

/// Entries of one table: keys and values one after the other in one buffer.
#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    /// Where a key starts, where its value starts, where that ends.
    places: Vec<[usize; 3]>,
}

impl Entries {
    fn put(&mut self, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        key(&mut self.bytes);
        let middle = self.bytes.len();
        value(&mut self.bytes);
        self.places.push([start, middle, self.bytes.len()]);
    }

    /// Hands them over; where values are added, RocksDB merges them with what is stored.
    fn write(mut self, tables: &Tables, table: Table, is_added: bool, out: &mut WriteBatch) {
        let bytes = &self.bytes;
        // Key order makes each insert start where the last one ended: three times as fast (`benches/store.rs`). Stable:
        // the last put of a key wins.
        self.places.sort_by(|left, right| bytes[left[0]..left[1]].cmp(&bytes[right[0]..right[1]]));
        let family = tables.family(table);
        for [start, middle, end] in self.places {
            let (key, value) = (&bytes[start..middle], &bytes[middle..end]);
            if is_added { out.merge_cf(family, key, value) } else { out.put_cf(family, key, value) }
        }
    }
}

/// Everything that one commit writes to a store, together with the position (Law 1). Of several puts of one key the
/// last counts.
#[derive(Default)]
pub struct StoreBatch {
    blocks: Entries,
    totals: Entries,
    rates: Entries,
    content: Entries,
    terms: Entries,
    ids: Vec<(IdBucket, IdKey, Seen)>,
    levels: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    expire_before: Option<IdBucket>,
}

impl StoreBatch {
    /// Adds facts of an org and day, and their sums to its totals.
    pub fn add(&mut self, sealed: &Sealed<'_>) {
        let key = store_keys::blocks(sealed.org, sealed.day);
        self.blocks.put(|out| out.extend_from_slice(&key), |out| bundle::push(out, sealed.block));
        for (hour, total) in sealed.totals {
            self.totals.put(
                |out| store_keys::put_total(out, sealed.org, *hour),
                |out| store_values::put_tally(out, total),
            );
        }
    }

    /// Writes a content row.
    pub fn put_content(&mut self, key: &ContentKey<'_>, content: &Content) {
        self.content.put(|out| store_keys::put_content(out, key), |out| store_values::put_content(out, content));
    }

    /// Writes an org's recent rate.
    pub fn put_rate(&mut self, org: &str, ring: &RateRing) {
        let key = store_keys::rate(org);
        self.rates.put(|out| out.extend_from_slice(&key), |out| store_values::put_rate(out, ring));
    }

    /// Writes a seen id.
    pub fn put_id(&mut self, bucket: IdBucket, id: IdKey, seen: Seen) {
        self.ids.push((bucket, id, seen));
    }

    /// Writes seen ids.
    pub fn put_ids(&mut self, ids: impl ExactSizeIterator<Item = (IdBucket, IdKey, Seen)>) {
        self.ids.extend(ids);
    }

    /// Writes the terms record at `offset` of the policies partition.
    pub fn put_terms(&mut self, offset: i64, record: &TermsRecord) {
        self.terms.put(
            |out| store_keys::put_terms(out, record.org_id(), store_terms::kind(record), offset),
            |out| store_terms::put_terms(out, record),
        );
    }

    /// Writes the decision published last for its scope.
    pub fn put_level(&mut self, decision: &LimitDecision) {
        let mut value = Vec::with_capacity(160);
        store_terms::put_decision(&mut value, decision);
        self.levels.push((store_keys::level(&decision.scope.key()), Some(value)));
    }

    /// Deletes the decision of that record key.
    pub fn delete_level(&mut self, decision_key: &str) {
        self.levels.push((store_keys::level(decision_key), None));
    }

    /// Drops all ids in buckets below `bucket`, also those put into this batch. The caller keeps to the window: only
    /// buckets that ended a whole window before the log time of this batch's position may go.
    pub fn expire_ids_before(&mut self, bucket: IdBucket) {
        self.expire_before = self.expire_before.max(Some(bucket));
    }

    /// How many ids were put into each bucket.
    #[must_use]
    pub fn count_ids(&self) -> BTreeMap<IdBucket, usize> {
        let mut counts = BTreeMap::new();
        let live = |bucket: &IdBucket| self.expire_before.is_none_or(|expired| *bucket >= expired);
        for (bucket, ..) in self.ids.iter().filter(|(bucket, ..)| live(bucket)) {
            *counts.entry(*bucket).or_default() += 1;
        }
        counts
    }

    /// The ids put, and up to where ids expire; taken before the batch is encoded.
    pub(super) fn take_ids(&mut self) -> (Vec<(IdBucket, IdKey, Seen)>, Option<IdBucket>) {
        let mut ids = std::mem::take(&mut self.ids);
        if let Some(expired) = self.expire_before {
            ids.retain(|(bucket, ..)| *bucket >= expired);
        }
        ids.sort_by_key(|(bucket, id, _)| (*bucket, *id));
        (ids, self.expire_before)
    }

    /// Bytes of its entries, to reserve room once.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |entries: &Entries| entries.bytes.len() + 12 * entries.places.len();
        bytes(&self.blocks) + bytes(&self.totals) + bytes(&self.rates) + bytes(&self.content) + bytes(&self.terms)
    }

    /// Moves all but the ids into RocksDB's own batch.
    pub(super) fn write(self, tables: &Tables, out: &mut WriteBatch) {
        self.blocks.write(tables, Table::Blocks, true, out);
        self.totals.write(tables, Table::Totals, true, out);
        self.rates.write(tables, Table::Totals, false, out);
        self.content.write(tables, Table::Content, false, out);
        self.terms.write(tables, Table::Terms, false, out);
        let family = tables.family(Table::Levels);
        for (key, value) in self.levels {
            match value {
                Some(value) => out.put_cf(family, key, value),
                None => out.delete_cf(family, key),
            }
        }
    }
}
