//! Questions: a snapshot shows one position, and each question gives exactly its range.

use std::ops::ControlFlow;

use tallyman::domain::content::Content;
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::dimension::Dimension;
use tallyman::domain::fold::{ContentKey, Rows};
use tallyman::domain::scope::{BudgetScope, Scope};
use tallyman::domain::tally::Field;
use tallyman::domain::terms::{Label, LimitMode, OrgPolicy, OrgStatus, TermsRecord};
use tallyman::domain::time::Timestamp;
use tallyman::store::Store;

use super::{decision, meta, open, row, tally};

fn policy(org: &str, effective_at: i64) -> TermsRecord {
    TermsRecord::OrgPolicy(OrgPolicy {
        org_id: org.into(),
        plan: format!("plan from {effective_at}"),
        status: OrgStatus::Active,
        unlimited: false,
        base_allocation: Credits::ZERO,
        limit_mode: LimitMode::Hard,
        soft_extra: Credits::ZERO,
        unlimited_overage: false,
        thresholds: vec![75],
        anchor_day: 1,
        time_zone: "UTC".into(),
        auto_purchase: None,
        products: vec![],
        credit_price: None,
        overage_price: None,
        currency: None,
        effective_at: Timestamp::from_micros(effective_at),
        updated_by: "ops".into(),
    })
}

fn fill(store: &mut Store) {
    let mut batch = store.batch();
    for org in ["acme", "acme-1", "acm", "zeta"] {
        for bucket in [-1, 0, 1, 2] {
            batch.put_row(&row(0, org, bucket, &[]), &tally(bucket.into()));
            batch.put_row(&row(1, org, bucket, &[]), &tally(bucket.into()));
            batch.put_row(&row(2, org, bucket, &[None]), &tally(10));
            batch.put_row(&row(2, org, bucket, &[Some("ann")]), &tally(20));
        }
    }
    for (offset, org, at) in [(0, "acme", 50), (1, "acme", 40), (2, "beta", 1)] {
        batch.put_terms(offset, &policy(org, at));
    }
    let label = Label {
        org_id: "acme".into(),
        dimension: Dimension::User,
        value: "ann".into(),
        display_name: "Ann".into(),
    };
    batch.put_terms(3, &TermsRecord::Label(label));
    for org in ["acme", "acme-1", "acme.b"] {
        batch.put_level(&decision(Scope::org(org), 1));
        let budget = BudgetScope { dimension: None, value: None, budget_id: "b".into() };
        batch.put_level(&decision(Scope { org_id: org.into(), budget: Some(budget) }, 2));
    }
    for (org, id) in [("acme", "a"), ("acme", "b"), ("acme-1", "c")] {
        let content = Content { credits: CreditSum(7), ..Content::default() };
        batch.put_content(&ContentKey { org, is_content: true, id }, &content);
    }
    store.commit(batch, &meta(100)).unwrap();
}

fn filled() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    fill(&mut store);
    (dir, store)
}

#[test]
fn rows_are_those_of_the_view_org_and_buckets_in_order() {
    let (_dir, store) = filled();
    let reader = store.reader();
    let snapshot = reader.snapshot();
    let rows = |view, org, buckets| {
        let mut rows = Vec::new();
        let mut each = |bucket, values: &[Option<&str>], tally: &_| {
            let values: Vec<_> = values.iter().map(|value| value.map(str::to_owned)).collect();
            rows.push((bucket, values, tallyman::domain::tally::Tally::sum(tally, Field::CREDITS)));
            ControlFlow::Continue(())
        };
        snapshot.rows(view, org, buckets, &mut each).unwrap();
        rows
    };
    assert_eq!(rows(0, "acme", -1..2), [(-1, vec![], -1), (0, vec![], 0), (1, vec![], 1)]);
    let by_user = [(0, vec![None], 10), (0, vec![Some("ann".into())], 20)];
    assert_eq!(rows(2, "acme", 0..1), by_user);
    assert_eq!(rows(0, "nobody", i32::MIN..i32::MAX), []);
    assert_eq!(rows(0, "acme", 1..1), []);
    let (from, to) = (2, -1);
    assert_eq!(rows(0, "acme", from..to), []);

    let mut count = 0;
    let mut first_only = |_, _: &[Option<&str>], _: &_| {
        count += 1;
        ControlFlow::Break(())
    };
    snapshot.rows(0, "acme", i32::MIN..i32::MAX, &mut first_only).unwrap();
    assert_eq!(count, 1);
}

#[test]
fn many_rows_at_once_are_the_same_as_one_by_one() {
    let (_dir, store) = filled();
    let keys = [
        row(2, "zeta", 1, &[Some("ann")]),
        row(0, "acme", 1, &[]),
        row(0, "acme", 77, &[]),
        row(2, "acme", 0, &[None]),
        row(0, "acme", 1, &[]),
    ];
    let mut found = vec![None; keys.len()];
    store.rows_many(&keys, |place, tally| found[place] = Some(tally)).unwrap();
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found.unwrap(), store.row(key).unwrap(), "{key:?}");
    }
}

#[test]
fn orgs_are_those_with_rows_or_terms_once_each_and_paged() {
    let (_dir, store) = filled();
    let reader = store.reader();
    let snapshot = reader.snapshot();
    let all = ["acm", "acme", "acme-1", "beta", "zeta"];
    assert_eq!(snapshot.orgs(None, 100).unwrap(), all);
    let mut paged = Vec::<String>::new();
    loop {
        let page = snapshot.orgs(paged.last().map(String::as_str), 2).unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

#[test]
fn terms_and_decisions_are_those_of_the_org_alone() {
    let (_dir, store) = filled();
    let reader = store.reader();
    let snapshot = reader.snapshot();
    let plans: Vec<_> = snapshot.policies("acme").unwrap().iter().map(|(offset, _)| offset).collect();
    assert_eq!(plans, [1, 0], "earliest effective first");
    assert_eq!(snapshot.terms("acme").unwrap().len(), 3);
    assert_eq!(snapshot.terms("acm").unwrap(), []);
    let mut offsets = Vec::new();
    snapshot.all_terms(&mut |offset, record| offsets.push((record.org_id().to_owned(), offset))).unwrap();
    let acme = |offset| ("acme".to_owned(), offset);
    assert_eq!(offsets, [acme(0), acme(1), acme(3), ("beta".to_owned(), 2)]);

    let keys: Vec<_> = snapshot.decisions("acme").unwrap().iter().map(|decision| decision.scope.key()).collect();
    assert_eq!(keys, ["acme", "acme|||b"]);
    let mut levels = 0;
    snapshot.levels(&mut |_| levels += 1).unwrap();
    assert_eq!(levels, 6);

    let mut ids = Vec::new();
    let mut each = |key: &ContentKey<'_>, content: &Content| {
        assert_eq!(content.credits, CreditSum(7));
        ids.push(key.id.to_owned());
        ControlFlow::Continue(())
    };
    snapshot.contents("acme", &mut each).unwrap();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn a_deleted_level_is_gone() {
    let (_dir, mut store) = filled();
    let mut batch = store.batch();
    batch.delete_level("acme");
    store.commit(batch, &meta(101)).unwrap();
    let reader = store.reader();
    let left = reader.snapshot().decisions("acme").unwrap();
    assert_eq!(left.iter().map(|decision| decision.scope.key()).collect::<Vec<_>>(), ["acme|||b"]);
}

#[test]
fn a_snapshot_shows_one_position_whatever_is_committed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let reader = store.reader();
    let writer = std::thread::spawn(move || {
        for position in 1..=300_i64 {
            let mut batch = store.batch();
            for bucket in 0..20 {
                batch.put_row(&row(0, "acme", bucket, &[]), &tally(position.into()));
            }
            store.commit(batch, &meta(position)).unwrap();
            if position % 100 == 0 {
                store.flush().unwrap();
            }
        }
        store
    });
    let mut last = 0;
    while last < 300 {
        let snapshot = reader.snapshot();
        let position = snapshot.meta().unwrap().map_or(0, |meta| meta.position);
        let mut rows = 0;
        let mut each = |_, _: &[Option<&str>], tally: &tallyman::domain::tally::Tally| {
            assert_eq!(tally.sum(Field::CREDITS), i128::from(position));
            rows += 1;
            ControlFlow::Continue(())
        };
        snapshot.rows(0, "acme", 0..20, &mut each).unwrap();
        assert_eq!(rows, if position == 0 { 0 } else { 20 });
        let row = snapshot.row(&row(0, "acme", 7, &[])).unwrap();
        assert_eq!(row, (position > 0).then(|| tally(position.into())));
        assert!(position >= last);
        last = position;
    }
    drop(reader);
    writer.join().unwrap().close().unwrap();
}
