//! A commit is whole or absent, also after a crash; other settings and damaged files are refused with a way out.

use std::time::{Duration, Instant};

use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dedupe::{IdBucket, IdKey, Seen};
use tallyman::store::{Shelf, Store, StoreError, StoreMemory, destroy};

use super::{DAY_US, add, crash_image, dump, meta, open, settings, totals};

fn commit(store: &mut Store, position: i64) {
    let mut batch = store.batch();
    add(&mut batch, "acme", 1, Some("ann"), position);
    let seen = Seen { at: Timestamp::from_micros(position), fingerprint: 0 };
    batch.put_id(IdBucket(1), IdKey(position.unsigned_abs().into()), seen);
    store.commit(batch, &meta(position)).unwrap();
}

fn ids_up_to(store: &Store, last: u128) -> Vec<u128> {
    let live = IdBucket(0)..=IdBucket(9);
    (0..=last).filter(|id| store.find_id(IdKey(*id), live.clone()).unwrap().is_some()).collect()
}

#[test]
fn after_a_crash_the_store_stands_at_its_last_flush_with_that_positions_facts_and_ids() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    assert_eq!(store.meta(), None);
    commit(&mut store, 10);
    store.flush().unwrap();
    commit(&mut store, 20);

    let image = crash_image(dir.path());
    let crashed = open(image.path()).unwrap();
    assert_eq!(crashed.meta(), Some(&meta(10)));
    assert_eq!(totals(&crashed, "acme"), [(1, 10, 1)]);
    let expected = tempfile::tempdir().unwrap();
    let mut same = open(expected.path()).unwrap();
    commit(&mut same, 10);
    assert_eq!(dump(&crashed), dump(&same));
    assert_eq!(ids_up_to(&crashed, 30), [10]);
}

#[test]
fn a_closed_store_comes_back_at_its_last_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    commit(&mut store, 10);
    commit(&mut store, 20);
    let before = dump(&store);
    store.close().unwrap();

    let store = open(dir.path()).unwrap();
    assert_eq!(store.meta(), Some(&meta(20)));
    assert_eq!(totals(&store, "acme"), [(1, 30, 2)]);
    assert_eq!(ids_up_to(&store, 30), [10, 20]);
    assert_eq!(dump(&store), before);
    assert_eq!(before.lines().count(), 2);
}

#[test]
fn a_flush_starts_by_itself_after_half_a_million_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    commit(&mut store, 10);
    let before = store.stats().unwrap().disk_bytes;
    commit(&mut store, 500_000);
    // The flush runs beside the worker; its files count once they are part of the store.
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.stats().unwrap().disk_bytes == before {
        assert!(Instant::now() < deadline, "no flush began");
        std::thread::yield_now();
    }
    let crashed = open(crash_image(dir.path()).path()).unwrap();
    assert_eq!(crashed.meta(), Some(&meta(500_000)));
}

#[test]
fn neither_the_order_nor_the_flushes_of_additions_show_in_the_merged_bytes() {
    let facts =
        [("acme", 1, Some("ann"), 5), ("acme", 1, None, 7), ("acme", 30, Some("ann"), -2), ("zeta", 1, None, 1)];
    let texts = [[0, 1, 2, 3], [3, 1, 2, 0], [2, 3, 0, 1]].map(|order| {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        for (round, place) in (1..).zip(order.into_iter().chain(order)) {
            let (org, hour, user, credits) = facts[place];
            let mut batch = store.batch();
            add(&mut batch, org, hour, user, credits);
            store.commit(batch, &meta(round)).unwrap();
            if place == 1 {
                store.flush().unwrap();
            }
        }
        assert_eq!(totals(&store, "acme"), [(1, 24, 4), (30, -4, 2)]);
        dump(&store)
    });
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
    // Three (org, day) and three (org, hour).
    assert_eq!(texts[0].lines().count(), 6);
}

#[test]
fn a_store_of_rows_of_views_is_refused_with_the_way_to_build_it_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    std::fs::create_dir_all(dir.path().join("p3")).unwrap();
    drop(rocksdb::DB::open_cf(&options, dir.path().join("p3"), ["rows", "content", "ids"]).unwrap());
    let refused = open(dir.path()).err().unwrap();
    assert!(matches!(refused, StoreError::OldFormat { .. }), "{refused}");
    assert!(refused.to_string().contains("tallyman rebuild"), "{refused}");
    destroy(dir.path(), 3).unwrap();
    assert_eq!(open(dir.path()).unwrap().meta(), None);
}

#[test]
fn other_settings_are_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap().close().unwrap();
    let mut other = settings();
    other.dedupe_window = DAY_US / 2;
    let memory = StoreMemory::new(0);
    let refused = |other| match Store::create_or_open(dir.path(), 3, other, &memory) {
        Err(error @ StoreError::OtherSettings { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the store was opened"),
    };
    let message = refused(&other);
    for part in ["dedupe.window 86400000000 us -> 43200000000 us", "tallyman rebuild"] {
        assert!(message.contains(part), "{message}");
    }
    destroy(dir.path(), 3).unwrap();
    assert_eq!(Store::create_or_open(dir.path(), 3, &other, &memory).unwrap().meta(), None);
}

#[test]
fn a_damaged_store_says_that_it_may_be_deleted() {
    for damage in ["gone", "torn", "flipped"] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        commit(&mut store, 10);
        store.close().unwrap();
        for entry in std::fs::read_dir(dir.path().join("p3")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "sst") {
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            match damage {
                "gone" => std::fs::remove_file(&path).unwrap(),
                "torn" => std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                _ => {
                    bytes[4] ^= 1;
                    std::fs::write(&path, bytes).unwrap();
                }
            }
        }
        let error = open(dir.path()).err().unwrap();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{damage}: {error}");
        assert!(error.to_string().contains("delete the directory"), "{error}");
    }
}

#[test]
fn a_store_is_open_once_and_not_destroyed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let again = open(dir.path()).err().unwrap();
    assert!(matches!(again, StoreError::InUse { .. }), "{again}");
    let destroyed = destroy(dir.path(), 3).unwrap_err();
    assert!(matches!(destroyed, StoreError::InUse { .. }), "{destroyed}");
    store.close().unwrap();
    destroy(dir.path(), 3).unwrap();
    assert!(!dir.path().join("p3").exists());
    destroy(dir.path(), 3).unwrap();
}

#[test]
fn a_close_waits_for_its_readers_and_then_the_directory_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::default();
    for round in 1..=20 {
        let mut store = open(dir.path()).unwrap();
        shelf.put(&store);
        commit(&mut store, round);
        let reader = shelf.get(3).unwrap();
        let (read, wait) = std::sync::mpsc::channel();
        let query = std::thread::spawn(move || {
            let snapshot = reader.snapshot();
            read.send(()).unwrap();
            // It goes on while the store is being closed: its snapshot must stay good until it ends.
            for _ in 0..200 {
                assert_eq!(snapshot.meta().unwrap().unwrap().position, round);
            }
        });
        wait.recv().unwrap();
        store.close().unwrap();
        assert!(shelf.get(3).is_none());
        query.join().unwrap();
    }
    assert_eq!(open(dir.path()).unwrap().meta(), Some(&meta(20)));
}

#[test]
fn the_shelf_gives_the_open_stores_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let memory = StoreMemory::new(64 << 20);
    let shelf = Shelf::default();
    let stores = [1, 2].map(|partition| {
        let store = Store::create_or_open(dir.path(), partition, &settings(), &memory).unwrap();
        shelf.put(&store);
        store
    });
    let partitions = || shelf.all().iter().map(|(partition, _)| *partition).collect::<Vec<_>>();
    assert_eq!(partitions(), [1, 2]);
    shelf.remove(1);
    assert_eq!(partitions(), [2]);
    for store in stores {
        store.close().unwrap();
    }
    assert_eq!(partitions(), [0; 0]);
}

#[test]
fn another_time_zone_database_than_a_store_was_used_with_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    assert_eq!(store.note_zones("2026e").unwrap(), None, "a new store was used with none");
    let batch = store.batch();
    store.commit(batch, &meta(5)).unwrap();
    store.close().unwrap();
    for (version, told) in [("2026e", None), ("2026f", Some(Some("2026e".to_owned()))), ("2026f", None)] {
        let store = open(dir.path()).unwrap();
        assert_eq!(store.note_zones(version).unwrap(), told, "{version}");
        assert_eq!(store.meta().unwrap().position, 5);
        store.close().unwrap();
    }
    // A store of a release that recorded none.
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let batch = store.batch();
    store.commit(batch, &meta(5)).unwrap();
    assert_eq!(store.note_zones("2026f").unwrap(), Some(None));
    assert_eq!(store.note_zones("2026f").unwrap(), None);
}
