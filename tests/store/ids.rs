//! Dedupe ids: what was committed and is alive is found, always, and nothing else is.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dedupe::{IdBucket, IdKey, Seen};
use tallyman::store::Store;

use super::{crash_image, meta, open};

const fn seen(fingerprint: u64) -> Seen {
    Seen { at: Timestamp::from_micros(5), fingerprint }
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<(u8, u8)>),
    Expire(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec((0..8_u8, any::<u8>()), 0..40).prop_map(Step::Put),
        1 => (0..8_u8).prop_map(Step::Expire),
        1 => Just(Step::Reopen),
    ]
}

fn check(store: &Store, model: &BTreeMap<(u8, u8), u64>, from: u8, to: u8) {
    for id in 0..=255_u8 {
        let expected = (from..=to).rev().find_map(|bucket| model.get(&(bucket, id))).copied();
        let live = IdBucket(from.into())..=IdBucket(to.into());
        let found = store.find_id(IdKey(id.into()), live).unwrap().map(|seen| seen.fingerprint);
        assert_eq!(found, expected, "id {id} in {from}..={to}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn an_id_is_found_in_the_newest_live_bucket_that_holds_it(
        steps in proptest::collection::vec(step(), 1..12),
        (from, span) in (0..8_u8, 0..5_u8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        let mut model = BTreeMap::new();
        for (position, step) in steps.into_iter().enumerate() {
            let mut batch = store.batch();
            match step {
                // No id is put into a bucket that holds it: it would have been found there.
                Step::Put(ids) => for (bucket, id) in ids {
                    if model.contains_key(&(bucket, id)) {
                        continue;
                    }
                    batch.put_id(IdBucket(bucket.into()), IdKey(id.into()), seen(position as u64));
                    model.insert((bucket, id), position as u64);
                },
                Step::Expire(before) => {
                    batch.expire_ids_before(IdBucket(before.into()));
                    model.retain(|(bucket, _), _| *bucket >= before);
                }
                Step::Reopen => {
                    store.close().unwrap();
                    store = open(dir.path()).unwrap();
                    continue;
                }
            }
            store.commit(batch, &meta(i64::try_from(position).unwrap())).unwrap();
        }
        check(&store, &model, from, from + span);
        store.close().unwrap();
        check(&open(dir.path()).unwrap(), &model, from, from + span);
    }
}

#[test]
fn ids_put_below_the_expiry_of_their_own_batch_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let mut batch = store.batch();
    batch.put_id(IdBucket(1), IdKey(1), seen(1));
    batch.put_id(IdBucket(2), IdKey(2), seen(2));
    batch.expire_ids_before(IdBucket(2));
    store.commit(batch, &meta(1)).unwrap();
    let all = IdBucket(0)..=IdBucket(u32::MAX);
    assert_eq!(store.find_id(IdKey(1), all.clone()).unwrap(), None);
    assert_eq!(store.find_id(IdKey(2), all).unwrap(), Some(seen(2)));
}

#[test]
fn a_crash_before_the_flush_brings_expired_ids_back_with_the_older_position() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let mut batch = store.batch();
    (0..50_000).for_each(|id| batch.put_id(IdBucket(1), IdKey(id), seen(1)));
    store.commit(batch, &meta(1)).unwrap();
    store.flush().unwrap();
    let mut batch = store.batch();
    batch.expire_ids_before(IdBucket(2));
    store.commit(batch, &meta(2)).unwrap();

    let crashed = crash_image(dir.path());
    let crashed = open(crashed.path()).unwrap();
    assert_eq!(crashed.meta(), Some(&meta(1)));
    let live = IdBucket(1)..=IdBucket(5);
    assert!((0..50_000).all(|id| crashed.find_id(IdKey(id), live.clone()).unwrap().is_some()));

    store.flush().unwrap();
    let crashed = crash_image(dir.path());
    let crashed = open(crashed.path()).unwrap();
    assert_eq!(crashed.meta(), Some(&meta(2)));
    assert!((0..50_000).all(|id| crashed.find_id(IdKey(id), live.clone()).unwrap().is_none()));
}
