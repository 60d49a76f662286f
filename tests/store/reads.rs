//! Questions: a snapshot shows one position, and each question gives exactly its range.

use std::ops::ControlFlow;

use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::cube::field_set::FieldSet;
use tallyman::domain::cube::fold::ContentKey;
use tallyman::domain::cube::scan::Question;
use tallyman::domain::cube::tally::Field;
use tallyman::domain::limits::scope::{BudgetScope, Scope};
use tallyman::domain::terms::records::{Label, LimitMode, OrgPolicy, OrgStatus, TermsRecord};
use tallyman::domain::time::{Hour, Timestamp};
use tallyman::domain::usage::content::Content;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::store::Store;

use super::{add, decision, meta, open, totals};

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
        for hour in [-1, 0, 1, 50] {
            add(&mut batch, org, hour, None, 10);
            add(&mut batch, org, hour, Some("ann"), 20);
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
fn totals_and_sums_are_those_of_the_org_and_hours_in_order() {
    let (_dir, store) = filled();
    assert_eq!(totals(&store, "acme"), [(-1, 30, 2), (0, 30, 2), (1, 30, 2), (50, 30, 2)]);
    assert_eq!(totals(&store, "nobody"), []);
    let reader = store.reader();
    let snapshot = reader.snapshot();
    let question =
        Question { group: vec![Dimension::User], fields: FieldSet::of(&[Field::CREDITS]), ..Question::default() };
    let sums = |org, hours: std::ops::Range<i32>, first_only: bool| {
        let mut sums = Vec::new();
        let hours = Hour(hours.start)..Hour(hours.end);
        let each = &mut |hour: Hour, values: &[Option<&str>], tally: &tallyman::domain::cube::tally::Tally| {
            sums.push((hour.0, values[0].map(str::to_owned), tally.sum(Field::CREDITS)));
            if first_only { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        snapshot.sums(org, &question, hours, |hour| hour, each).unwrap();
        sums.sort();
        sums
    };
    let ann = || Some("ann".to_owned());
    assert_eq!(sums("acme", 0..1, false), [(0, None, 10), (0, ann(), 20)]);
    assert_eq!(sums("acme", 1..51, false), [(1, None, 10), (1, ann(), 20), (50, None, 10), (50, ann(), 20)]);
    assert_eq!(sums("acme", 2..50, false), []);
    assert_eq!(sums("acme", 1..1, false), []);
    let (from, to) = (2, -1);
    assert_eq!(sums("acme", from..to, false), []);
    assert_eq!(sums("nobody", i32::MIN..i32::MAX, false), []);
    assert_eq!(sums("acme", -1..51, true).len(), 1);
    let days = snapshot.days("acme", Hour(-1)..Hour(51)).unwrap();
    assert_eq!(days.iter().map(|day| day.0).collect::<Vec<_>>(), [-1, 0, 2]);
}

#[test]
fn orgs_are_those_with_facts_or_terms_once_each_and_paged() {
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
            for hour in 0..20 {
                add(&mut batch, "acme", hour, None, position);
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
        let sum = i128::from(position) * i128::from(position + 1) / 2;
        let mut hours = 0;
        let mut each = |_, tally: &tallyman::domain::cube::tally::Tally| {
            assert_eq!(tally.sum(Field::CREDITS), sum);
            hours += 1;
            ControlFlow::Continue(())
        };
        snapshot.totals("acme", Hour(0)..Hour(20), &mut each).unwrap();
        assert_eq!(hours, if position == 0 { 0 } else { 20 });
        let question = Question { fields: FieldSet::of(&[Field::CREDITS]), ..Question::default() };
        let mut of_facts = 0;
        let mut each = |_, _: &[Option<&str>], tally: &tallyman::domain::cube::tally::Tally| {
            of_facts += tally.sum(Field::CREDITS);
            ControlFlow::Continue(())
        };
        snapshot.sums("acme", &question, Hour(7)..Hour(8), |hour| hour, &mut each).unwrap();
        assert_eq!(of_facts, sum);
        assert!(position >= last);
        last = position;
    }
    drop(reader);
    writer.join().unwrap().close().unwrap();
}
