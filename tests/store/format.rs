//! What is on disk: every value is read back as it was put, and the bytes of every version keep their meaning.

use std::path::PathBuf;

use proptest::prelude::*;
use tallyman::codec::store_ids::{self, IdSegment};
use tallyman::codec::{store_keys, store_terms, store_values};
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::cube::fold::ContentKey;
use tallyman::domain::cube::histogram;
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::limits::rate::RateRing;
use tallyman::domain::limits::scope::{BudgetScope, Scope};
use tallyman::domain::terms::records::{
    AutoPurchase, Budget, BudgetAction, BudgetPeriod, CreditGrant, Label, LimitMode, OrgPolicy, OrgStatus,
    PurchaseDeclined, TermsRecord,
};
use tallyman::domain::time::{Day, Hour, Timestamp};
use tallyman::domain::usage::content::{Content, Settled, Values};
use tallyman::domain::usage::dedupe::{IdBucket, IdKey, Seen};
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::usage::event::Outcome;
use tallyman::store::{FoldSettings, PoliciesRead, TaskMeta, UsageCounts};

use super::{decision, meta, settings};

fn content() -> Content {
    let mut values = Box::<Values>::default();
    values[Dimension::User.index()] = Some("u1".into());
    values[Dimension::Department.index()] = Some("r\u{e9}d".into());
    Content {
        credits: CreditSum(12_300_000),
        events: 3,
        attempts: 2,
        values: values.clone(),
        settled: Some(Settled {
            outcome: Some(Outcome::Published),
            rating: Some(5),
            value: Some(-7),
            hour: Hour(498_000),
            values,
            first_attempt: true,
        }),
    }
}

fn wide_tally() -> Tally {
    let mut tally = Tally::new();
    tally.add(Field::CREDITS, i128::MAX / 3);
    tally.add(Field::EVENTS, 2);
    tally.add(Field::MULTIPLIER_MIN, 5_000);
    tally.add(Field::VALUE, -1);
    tally.add(Field::latency_bucket(0), 1);
    tally.add(Field::latency_bucket(63), 1);
    tally
}

fn terms() -> Vec<TermsRecord> {
    let at = Timestamp::from_millis(1_795_000_000_000);
    let credits = |credits| Credits::from_micros(credits).unwrap();
    let policy = OrgPolicy {
        org_id: "acme".into(),
        plan: "team".into(),
        status: OrgStatus::Suspended,
        unlimited: false,
        base_allocation: credits(1_000_000_000),
        limit_mode: LimitMode::Soft,
        soft_extra: credits(1),
        unlimited_overage: true,
        thresholds: vec![75, 90, 100],
        anchor_day: 28,
        time_zone: "Europe/Berlin".into(),
        auto_purchase: Some(AutoPurchase { at_percent: 90, pack_credits: credits(5), max_packs_per_period: 3 }),
        products: vec!["chat".into(), "code".into()],
        credit_price: Some(credits(20_000)),
        overage_price: None,
        currency: Some("EUR".into()),
        effective_at: at,
        updated_by: "ops".into(),
    };
    let budget = Budget {
        org_id: "acme".into(),
        budget_id: "b1".into(),
        name: "Per user".into(),
        dimension: Some(Dimension::User),
        value: Some("*".into()),
        limit: credits(0),
        period: BudgetPeriod::Week,
        action: BudgetAction::Warn,
        thresholds: vec![],
        effective_at: at,
        expires_at: Some(at),
        updated_by: "ops".into(),
    };
    let grant = CreditGrant {
        org_id: "acme".into(),
        grant_id: "g1".into(),
        credits: credits(7),
        kind: "promo".into(),
        price: None,
        currency: None,
        effective_at: at,
        expires_at: None,
        voided_at: Some(at),
        priority: -3,
        updated_by: "ops".into(),
    };
    vec![
        TermsRecord::OrgPolicy(policy),
        TermsRecord::Budget(budget),
        TermsRecord::CreditGrant(grant),
        TermsRecord::PurchaseDeclined(PurchaseDeclined {
            org_id: "acme".into(),
            purchase_id: "p".into(),
            reason: "no".into(),
        }),
        TermsRecord::Label(Label {
            org_id: "acme".into(),
            dimension: Dimension::Model,
            value: "m".into(),
            display_name: "Model M".into(),
        }),
    ]
}

fn budget_scope() -> Scope {
    let budget =
        BudgetScope { dimension: Some(Dimension::User), value: Some("a|b".into()), budget_id: "b1".into() };
    Scope { org_id: "acme".into(), budget: Some(budget) }
}

fn bytes(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The kept bytes of `name`. A new kind of value is written once; then its file belongs to the project for ever.
fn golden(name: &str, encoded: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(format!("tests/fixtures/store/{name}.hex"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        std::fs::write(&path, hex(encoded) + "\n").unwrap();
        panic!("{} was missing and has been written: look at it and commit it", path.display());
    };
    let text = text.trim();
    assert_eq!(hex(encoded), text, "the encoding of {name} changed: give it another version and read both");
    kept_bytes(name)
}

/// Bytes that an older version wrote.
fn kept_bytes(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(format!("tests/fixtures/store/{name}.hex")).unwrap();
    let text = text.trim();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn kept_bytes_of_keys_mean_what_they_meant() {
    let kept = golden("total-key-9", &bytes(|out| store_keys::put_total(out, "acme", Hour(-2))));
    assert_eq!(store_keys::read_total(&kept).unwrap(), ("acme", Hour(-2)));
    golden("blocks-key-8", &store_keys::blocks("acme", Day(-2)));

    let key = ContentKey { org: "acme", is_content: true, id: "doc 1" };
    let kept = golden("content-key-2", &bytes(|out| store_keys::put_content(out, &key)));
    assert_eq!(store_keys::read_content(&kept).unwrap(), key);

    let (bucket, id) = (IdBucket(82_000), IdKey(0x0123_4567_89ab_cdef_0011_2233_4455_6677));
    let segment = IdSegment { bucket, number: 2 };
    let kept = golden("ids-key-10", &store_ids::run(segment, 12, id));
    assert_eq!(store_ids::read_run(&kept).unwrap(), (segment, 12, 1));
    let kept = golden("id-filter-key-11", &store_ids::filter(segment, 3));
    assert_eq!(store_ids::read_filter(&kept).unwrap(), (segment, 3));

    let kept = golden("terms-key-4", &bytes(|out| store_keys::put_terms(out, "acme", 2, 300)));
    assert_eq!(store_keys::read_terms(&kept).unwrap(), ("acme", 2, 300));

    golden("rate-key-7", &store_keys::rate("acme"));
    golden("level-key-5", &store_keys::level(&budget_scope().key()));
    golden("meta-keys-6", &[store_keys::SETTINGS, store_keys::TASK].concat());
    golden("zones-key-6", &store_keys::ZONES);
}

#[test]
fn kept_bytes_of_values_mean_what_they_meant() {
    let kept = golden("total-v2", &bytes(|out| store_values::put_tally(out, &wide_tally())));
    assert_eq!(store_values::read_tally(&kept).unwrap(), wide_tally());

    let kept = golden("zones-v1", &store_values::zones("2026f"));
    assert_eq!(store_values::read_zones(&kept).unwrap(), "2026f");

    let kept = golden("content-v1", &bytes(|out| store_values::put_content(out, &content())));
    assert_eq!(store_values::read_content(&kept).unwrap(), content());

    let seen = Seen { at: Timestamp::from_millis(1_795_000_000_000), fingerprint: 0xfeed };
    let id = IdKey(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    let kept = golden("ids-10", &bytes(|out| store_ids::put_entry(out, id, seen)));
    assert_eq!(store_ids::find_entry(&kept, id), Some(seen));
    assert_eq!(store_ids::ids(&kept, 1).collect::<Vec<_>>(), [id]);

    let with_rates = FoldSettings { rates: true, ..settings() };
    let kept = golden("settings-v3", &store_values::settings(&with_rates));
    assert_eq!(store_values::read_settings(&kept).unwrap(), with_rates);

    let ring = RateRing { minute: 29_919_480, micros: [1, 0, 2_500_000, i128::from(i64::MAX) * 9, 0, 7] };
    let kept = golden("rate-v1", &bytes(|out| store_values::put_rate(out, &ring)));
    assert_eq!(store_values::read_rate(&kept).unwrap(), ring);

    assert_eq!(store_values::read_task(&kept_bytes("task-v1")).unwrap(), meta(41));
    let counted = TaskMeta {
        counts: UsageCounts { folded: 30, duplicate: 7, dead: 3, forwarded: 1, credits: -(1 << 70) },
        policies: PoliciesRead { origin: 1, taken: 4, last_record: meta(9).last_record },
        ..meta(41)
    };
    let kept = golden("task-v2", &store_values::task(&counted));
    assert_eq!(store_values::read_task(&kept).unwrap(), counted);

    for (name, scope) in [("org", Scope::org("acme")), ("budget", budget_scope())] {
        let mut decision = decision(scope, 5);
        decision.level.budget = (name == "budget").then(|| ("Per user".to_owned(), BudgetPeriod::Month));
        let kept = golden(&format!("decision-{name}-v1"), &bytes(|out| store_terms::put_decision(out, &decision)));
        assert_eq!(store_terms::read_decision(&kept).unwrap(), decision);
    }
}

#[test]
fn kept_bytes_of_terms_mean_what_they_meant() {
    for record in terms() {
        let name = format!("terms-{}-v1", record.type_name());
        let kept = golden(&name, &bytes(|out| store_terms::put_terms(out, &record)));
        assert_eq!(store_terms::read_terms(store_terms::kind(&record), &kept).unwrap(), record);
    }
}

#[test]
fn a_value_of_a_later_version_or_with_bytes_left_over_is_refused() {
    let mut row = bytes(|out| store_values::put_tally(out, &wide_tally()));
    row.push(0);
    assert!(store_values::read_tally(&row).unwrap_err().to_string().contains("left over"));
    row[0] = 9;
    assert!(store_values::read_tally(&row).unwrap_err().to_string().contains("version"));
    assert!(store_values::read_tally(&[]).is_err());
}

fn any_tally() -> impl Strategy<Value = Tally> {
    // A latency bucket counts events: more than 2^63 of them no log holds.
    let sum = (0..64_u8, any::<i128>());
    let count =
        (64..=Field::latency_bucket(histogram::BUCKETS - 1).number(), (0..=i64::MAX >> 8).prop_map(i128::from));
    proptest::collection::vec(prop_oneof![sum, count], 0..40).prop_map(|fields| {
        let mut tally = Tally::new();
        for (number, value) in fields {
            let field = Field::from_number(number).unwrap();
            if tally.get(field).is_none() {
                tally.add(field, value);
            }
        }
        tally
    })
}

fn any_content() -> impl Strategy<Value = Content> {
    let values = proptest::collection::vec(proptest::option::of(".{1,9}"), Dimension::COUNT).prop_map(|texts| {
        let mut values = Box::<Values>::default();
        for (value, text) in values.iter_mut().zip(texts) {
            *value = text.map(Into::into);
        }
        values
    });
    let settled = (0..5_usize, proptest::option::of(1..=5_u8), any::<Option<i128>>(), any::<i32>(), any::<bool>());
    (values, proptest::option::of(settled), any::<i128>(), any::<u64>(), any::<i64>()).prop_map(
        |(values, settled, credits, events, attempts)| Content {
            credits: CreditSum(credits),
            events,
            attempts,
            values: values.clone(),
            settled: settled.map(|(outcome, rating, value, hour, first_attempt)| Settled {
                outcome: Outcome::ALL.get(outcome).copied(),
                rating,
                value,
                hour: Hour(hour),
                values,
                first_attempt,
            }),
        },
    )
}

proptest! {
    #[test]
    fn any_row_is_read_back(tally in any_tally()) {
        let bytes = bytes(|out| store_values::put_tally(out, &tally));
        prop_assert_eq!(store_values::read_tally(&bytes)?, tally);
    }

    #[test]
    fn any_content_row_is_read_back(content in any_content()) {
        let bytes = bytes(|out| store_values::put_content(out, &content));
        prop_assert_eq!(store_values::read_content(&bytes)?, content);
    }

    #[test]
    fn any_bytes_are_a_value_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..7_u8) {
        for bytes in [bytes.clone(), [&[1], bytes.as_slice()].concat()] {
            let _ = (store_values::read_tally(&bytes), store_values::read_content(&bytes));
            let _ = (store_values::read_settings(&bytes), store_values::read_task(&bytes));
            let _ = store_values::read_rate(&bytes);
            let _ = (store_terms::read_terms(kind, &bytes), store_terms::read_decision(&bytes));
        }
    }
}
