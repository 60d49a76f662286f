//! A process that flushes and merges is killed at any moment: what it had committed up to the position that the disk holds is
//! there once, and after a full merge the store is that of a process that was never killed, to the byte.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dedupe::{IdBucket, IdKey, Seen};
use tallyman::store::Store;

use super::{add, meta, open, totals};

/// Tells the child where its store is.
const DIR: &str = "TALLYMAN_MERGE_CRASH_DIR";
const COMMITS: i64 = 100_000;
const KILLS: u64 = 12;

/// The commit that brings the store to `position`: facts of a few orgs and days, many of which were there before, and an id.
fn commit(store: &mut Store, position: i64) {
    let mut batch = store.batch();
    for number in 0..40 {
        let (org, user) = (format!("org-{}", number % 3), format!("user-{}", (position * 7 + number) % 50));
        let hour = i32::try_from((position + number) % 72).unwrap();
        add(&mut batch, &org, hour, Some(&user), position + number);
    }
    let seen = Seen { at: Timestamp::from_micros(position), fingerprint: 7 };
    batch.put_id(IdBucket(1), IdKey(u128::from(position.unsigned_abs()) << 96 | 1), seen);
    store.commit(batch, &meta(position)).unwrap();
}

/// Commits from where the store stands, flushing and merging all the while; says each position that is committed.
fn go_on(dir: &Path) {
    let mut store = open(dir).unwrap();
    let from = store.meta().map_or(0, |meta| meta.position);
    for position in from + 1..=COMMITS {
        commit(&mut store, position);
        println!("\nat {position}");
        if position % 3 == 0 {
            store.flush().unwrap();
        }
        if position % 10 == 0 {
            store.compact();
        }
    }
    store.close().unwrap();
}

#[test]
fn merge_crash_child() {
    // Only the other test runs it for real.
    if let Some(dir) = std::env::var_os(DIR) {
        go_on(Path::new(&dir));
    }
}

/// Every fact and total, merged.
fn dump(store: &Store) -> String {
    store.compact();
    let mut bytes = Vec::new();
    store.dump(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_kill_while_blocks_merge_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut positions = Vec::new();
    for kill in 1..=KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "merge_crash::merge_crash_child", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut committed = lines.map_while(Result::ok).filter(|line| line.starts_with("at "));
        let wanted = 11 + usize::try_from(kill).unwrap();
        assert_eq!(committed.by_ref().take(wanted).count(), wanted, "the child ended by itself");
        // Somewhere within the flush or merge that follows.
        std::thread::sleep(Duration::from_micros(700 * (kill % 6)));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(committed);
        let mut store = open(dir.path()).unwrap();
        let position = store.meta().unwrap().position;
        let whole = tempfile::tempdir().unwrap();
        let mut never_killed = open(whole.path()).unwrap();
        (1..=position).for_each(|position| commit(&mut never_killed, position));
        for org in ["org-0", "org-1", "org-2"] {
            assert_eq!(totals(&store, org), totals(&never_killed, org), "after kill {kill} at {position}");
        }
        store.check().unwrap();
        assert_eq!(dump(&store), dump(&never_killed), "after kill {kill}");
        // The next commit takes the filters that were read meanwhile.
        commit(&mut store, position + 1);
        for id in 1..=position + 1 {
            let key = IdKey(u128::from(id.unsigned_abs()) << 96 | 1);
            let found = store.find_id(key, IdBucket(0)..=IdBucket(2)).unwrap();
            assert_eq!(found.map(|seen| seen.at), Some(Timestamp::from_micros(id)), "id {id}");
        }
        store.flush().unwrap();
        positions.push(position);
    }
    assert!(positions.is_sorted() && positions.last() > positions.first(), "it went on: {positions:?}");
}
