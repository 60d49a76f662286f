//! What a commit costs: batches of facts and ids through the store, ids beside the same bytes put raw into RocksDB in the
//! same run. `cargo bench --profile release --bench store [-- <batches>]`; one line per measurement.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tallyman::domain::cube::field_set::FieldSet;
use tallyman::domain::cube::scan::Question;
use tallyman::domain::cube::seal::Sealer;
use tallyman::domain::cube::segment::{Frozen, Segment};
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::time::{Hour, Timestamp};
use tallyman::domain::usage::dedupe::{IdBucket, IdKey, Seen};
use tallyman::domain::usage::dimension::Dimension;
use tallyman::store::{FoldSettings, PoliciesRead, Store, StoreMemory, TaskMeta, UsageCounts};

const BATCH: usize = 100_000;
const FACTS: u64 = 2_000_000;

fn settings() -> FoldSettings {
    FoldSettings { dedupe_window: 1, max_future: 1, max_age: 1, codec_version: 1, rates: false }
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

fn position_after(batch: usize) -> i64 {
    i64::try_from((batch + 1) * BATCH).unwrap()
}

fn report(what: &str, count: usize, took: Duration) {
    println!("{what:<52} {:>12}/s", count as u128 * 1_000_000 / took.as_micros().max(1));
}

/// Facts of 1,000 orgs, users in hundreds, thirty-one days.
fn segment(random: &mut SmallRng, segment: &mut Segment) {
    for _ in 0..BATCH {
        let number = random.random_range(0..FACTS);
        let (org, user) = (format!("org-{:04}", number % 1000), format!("user-{}", number / 31));
        let mut values = [None; Dimension::COUNT];
        values[Dimension::Product.index()] = Some("chat");
        values[Dimension::Model.index()] = Some("gpt-large-2");
        values[Dimension::User.index()] = Some(user.as_str());
        let symbols = segment.symbols(&org, &values);
        let mut addition = segment.append(symbols, Hour(i32::try_from(480_000 + number % (31 * 24)).unwrap()));
        for number in [0, 1, 3, 4, 9, 10, 13, 14, 90] {
            addition.add(Field::from_number(number).unwrap(), random.random_range(1..1_000_000_i64));
        }
    }
}

fn facts(batches: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create_or_open(dir.path(), 0, &settings(), &StoreMemory::new(256 << 20)).unwrap();
    let mut random = SmallRng::seed_from_u64(1);
    let (mut open, mut sealer) = (Segment::default(), Sealer::default());
    let (mut sealing, mut writing) = (Duration::ZERO, Duration::ZERO);
    for batch in 0..batches {
        segment(&mut random, &mut open);
        let started = Instant::now();
        let mut out = store.batch();
        let frozen = open.freeze(Frozen::default());
        let sealed = sealer.seal(&frozen, |sealed| {
            out.add(sealed);
            Ok::<(), ()>(())
        });
        sealed.unwrap();
        sealing += started.elapsed();
        let started = Instant::now();
        store.commit(out, &meta(position_after(batch))).unwrap();
        writing += started.elapsed();
    }
    report("facts: seal", batches * BATCH, sealing);
    report("facts: commit", batches * BATCH, writing);
    store.flush().unwrap();
    println!("{:<52} {:>12}", "facts: bytes on disk", store.stats().unwrap().disk_bytes);
    let reader = store.reader();
    let question =
        Question { group: vec![Dimension::User], fields: FieldSet::of(&[Field::CREDITS]), ..Question::default() };
    let (mut sums, started) = (0, Instant::now());
    let each = &mut |_, _: &[Option<&str>], _: &Tally| {
        sums += 1;
        ControlFlow::Continue(())
    };
    for org in 0..100 {
        let range = Hour(480_000)..Hour(480_000 + 31 * 24);
        reader.snapshot().sums(&format!("org-{org:04}"), &question, range, |hour| hour, each).unwrap();
    }
    report("facts: an org's month by user and hour", 100, started.elapsed());
    drop(reader);
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
        let keys = ids.iter().map(|id| [&bucket_of(batch).0.to_be_bytes()[..], &id.to_be_bytes()].concat());
        keys.clone()
            .for_each(|key| assert!(raw.get_pinned_cf(raw.cf_handle("raw").unwrap(), key).unwrap().is_none()));
        put_raw(&raw, keys.map(|key| (key, vec![7; 16])).collect());
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
    facts(batches);
    ids(batches);
    expiry(3 * batches);
}
