//! What a commit costs: batches of rows and ids through the store, beside the same bytes put raw into RocksDB in the
//! same run. `cargo bench --profile release --bench store [-- <batches>]`; one line per measurement.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tallyman::codec::{store_keys, store_values};
use tallyman::domain::dedupe::{IdBucket, IdKey, Seen};
use tallyman::domain::fold::{RowKey, Rows};
use tallyman::domain::tally::{Field, Tally};
use tallyman::domain::time::Timestamp;
use tallyman::domain::view::{DIMENSIONS_MAX, built_in};
use tallyman::store::{FoldSettings, PoliciesRead, Store, StoreMemory, TaskMeta, UsageCounts};

const BATCH: usize = 100_000;
const ROWS: u64 = 2_000_000;

fn settings() -> FoldSettings {
    let views = built_in();
    FoldSettings { views, dedupe_window: 1, max_future: 1, max_age: 1, codec_version: 1, rates: false }
}

fn meta(position: i64) -> TaskMeta {
    TaskMeta {
        position,
        policies_position: 0,
        origin: 0,
        since: None,
        log_time: Timestamp::MIN,
        last_record: None,
        counts: UsageCounts::default(),
        policies: PoliciesRead::default(),
        cluster_id: "bench".into(),
        partitions: 1,
    }
}

/// A row of a `cell`-like view: 1,000 orgs, users in hundreds.
struct Row {
    org: String,
    user: String,
    bucket: i32,
}

impl Row {
    fn random(random: &mut SmallRng) -> Self {
        let number = random.random_range(0..ROWS);
        let bucket = i32::try_from(20_000 + number % 31).unwrap();
        Self { org: format!("org-{:04}", number % 1000), user: format!("user-{}", number / 31), bucket }
    }

    fn key(&self) -> RowKey<'_> {
        let mut values = [None; DIMENSIONS_MAX];
        values[..3].copy_from_slice(&[Some("chat"), Some("gpt-large-2"), Some(&self.user)]);
        RowKey { view: 26, org: &self.org, bucket: self.bucket, values, dimensions: 3 }
    }
}

fn tally(random: &mut SmallRng) -> Tally {
    let mut tally = Tally::new();
    for number in [0, 1, 3, 4, 9, 10, 13, 14, 90] {
        tally.add(Field::from_number(number).unwrap(), i128::from(random.random_range(1..1_000_000_u32)));
    }
    tally
}

fn position_after(batch: usize) -> i64 {
    i64::try_from((batch + 1) * BATCH).unwrap()
}

fn report(what: &str, count: usize, took: Duration) {
    println!("{what:<52} {:>12}/s", count as u128 * 1_000_000 / took.as_micros().max(1));
}

fn rows(batches: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create_or_open(dir.path(), 0, &settings(), &StoreMemory::new(256 << 20)).unwrap();
    let raw = raw_db(&dir.path().join("raw"));
    let mut random = SmallRng::seed_from_u64(1);
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    for batch in 0..batches {
        let rows: Vec<_> = (0..BATCH).map(|_| (Row::random(&mut random), tally(&mut random))).collect();
        let encoded = rows.iter().map(|(row, tally)| {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            store_keys::put_row(&mut key, &row.key());
            store_values::put_tally(&mut value, tally);
            (key, value)
        });
        let encoded: Vec<_> = encoded.collect();
        let started = Instant::now();
        let mut out = store.batch();
        for (row, tally) in &rows {
            out.put_row(&row.key(), tally);
        }
        store.commit(out, &meta(position_after(batch))).unwrap();
        ours += started.elapsed();
        let started = Instant::now();
        put_raw(&raw, encoded);
        theirs += started.elapsed();
    }
    report("rows: commit, encoding included", batches * BATCH, ours);
    report("rows: raw WriteBatch of encoded bytes, unsorted", batches * BATCH, theirs);

    let rows: Vec<_> = (0..BATCH).map(|_| Row::random(&mut random)).collect();
    let keys: Vec<_> = rows.iter().map(Row::key).collect();
    let started = Instant::now();
    let found = keys.iter().filter(|key| store.row(key).unwrap().is_some()).count();
    report(&format!("rows: look-up one by one ({found} found)"), BATCH, started.elapsed());
    let started = Instant::now();
    keys.chunks(10_000).for_each(|keys| store.rows_many(keys, |_, _| ()).unwrap());
    report("rows: look-up 10,000 at once", BATCH, started.elapsed());
    store.close().unwrap();
}

fn ids(batches: usize) {
    let dir = tempfile::tempdir().unwrap();
    let memory = StoreMemory::new(256 << 20);
    let mut store = Store::create_or_open(dir.path(), 0, &settings(), &memory).unwrap();
    let raw = raw_db(&dir.path().join("raw"));
    let mut random = SmallRng::seed_from_u64(2);
    let seen = Seen { at: Timestamp::from_micros(1), fingerprint: 7 };
    let (mut ours, mut finding, mut theirs) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    // A window of five live buckets, as many batches in each.
    let bucket_of = |batch: usize| IdBucket(u32::try_from(batch * 5 / batches).unwrap());
    for batch in 0..batches {
        let ids: Vec<_> =
            (0..BATCH).map(|_| u128::from(random.next_u64()) << 64 | u128::from(random.next_u64())).collect();
        let started = Instant::now();
        let mut out = store.batch();
        for id in &ids {
            assert!(store.find_id(IdKey(*id), IdBucket(0)..=IdBucket(4)).unwrap().is_none());
            out.put_id(bucket_of(batch), IdKey(*id), seen);
        }
        finding += started.elapsed();
        store.commit(out, &meta(position_after(batch))).unwrap();
        ours += started.elapsed();
        let started = Instant::now();
        let keys = ids.iter().map(|id| store_keys::id(bucket_of(batch), IdKey(*id)));
        keys.clone()
            .for_each(|key| assert!(raw.get_pinned_cf(raw.cf_handle("raw").unwrap(), key).unwrap().is_none()));
        put_raw(&raw, keys.map(|key| (key.to_vec(), store_values::seen(seen).to_vec())).collect());
        theirs += started.elapsed();
    }
    report("ids: find in 5 buckets, all new", batches * BATCH, finding);
    report("ids: find and commit", batches * BATCH, ours);
    report("ids: raw get in 1 bucket and WriteBatch, unsorted", batches * BATCH, theirs);
    let stats = store.stats().unwrap();
    println!("{:<52} {:>12}", "ids: filter bytes", stats.filter_bytes);
    store.close().unwrap();
    let started = Instant::now();
    let store = Store::create_or_open(dir.path(), 0, &settings(), &memory).unwrap();
    report("ids: filters rebuilt at open", batches * BATCH, started.elapsed());
    store.close().unwrap();
}

/// Whether expired ids give their space back: many windows pass, five buckets of two batches each stay alive.
fn expiry(batches: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create_or_open(dir.path(), 0, &settings(), &StoreMemory::new(256 << 20)).unwrap();
    let mut random = SmallRng::seed_from_u64(3);
    let seen = Seen { at: Timestamp::from_micros(1), fingerprint: 7 };
    let mut most = 0;
    for batch in 0..batches {
        let bucket = u32::try_from(batch / 2).unwrap();
        let mut out = store.batch();
        for _ in 0..BATCH {
            let id = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
            out.put_id(IdBucket(bucket), IdKey(id), seen);
        }
        out.expire_ids_before(IdBucket(bucket.saturating_sub(4)));
        store.commit(out, &meta(position_after(batch))).unwrap();
        most = most.max(store.stats().unwrap().disk_bytes);
    }
    store.flush().unwrap();
    let stats = store.stats().unwrap();
    println!("{:<52} {most:>12}", "expiry: most bytes on disk");
    println!("{:<52} {:>12}", "expiry: bytes on disk at the end", stats.disk_bytes);
    println!("{:<52} {:>12}", "expiry: bytes of the live ids", 10 * BATCH * 37);
    println!("{:<52} {:>12}", "expiry: filter bytes", stats.filter_bytes);
    store.close().unwrap();
}

fn raw_db(path: &std::path::Path) -> rocksdb::DB {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let mut family = rocksdb::Options::default();
    let mut blocks = rocksdb::BlockBasedOptions::default();
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_cache(&rocksdb::Cache::new_lru_cache(160 << 20));
    family.set_block_based_table_factory(&blocks);
    family.set_compression_type(rocksdb::DBCompressionType::Lz4);
    rocksdb::DB::open_cf_with_opts(&options, path, [("raw", family)]).unwrap()
}

fn put_raw(db: &rocksdb::DB, entries: Vec<(Vec<u8>, Vec<u8>)>) {
    let mut batch = rocksdb::WriteBatch::default();
    for (key, value) in entries {
        batch.put_cf(db.cf_handle("raw").unwrap(), key, value);
    }
    db.write_without_wal(batch).unwrap();
}

fn main() {
    let batches = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(40);
    rows(batches);
    ids(batches);
    expiry(3 * batches);
}
