//! Terms and outputs: what they look like on the wire, and that bytes once written are read for ever.

use super::*;

fn every_terms_record() -> Vec<TermsRecord> {
    let at = Timestamp::from_micros(1_795_000_000_000_000);
    let credits = |whole: i64| Credits::from_micros(whole * 1_000_000).unwrap();
    vec![
        TermsRecord::OrgPolicy(OrgPolicy {
            org_id: "acme".into(),
            plan: "team".into(),
            status: OrgStatus::Suspended,
            unlimited: false,
            base_allocation: credits(1000),
            limit_mode: LimitMode::Soft,
            soft_extra: credits(50),
            unlimited_overage: true,
            thresholds: vec![50, 100, 150],
            anchor_day: 28,
            time_zone: "Europe/Berlin".into(),
            auto_purchase: Some(AutoPurchase {
                at_percent: 90,
                pack_credits: credits(10),
                max_packs_per_period: 3,
            }),
            products: vec!["chat".into(), "images".into()],
            credit_price: Some(Credits::from_micros(10_000).unwrap()),
            overage_price: None,
            currency: Some("EUR".into()),
            effective_at: at,
            updated_by: "ops".into(),
        }),
        TermsRecord::Budget(Budget {
            org_id: "acme".into(),
            budget_id: "b1".into(),
            name: "per user".into(),
            dimension: Some(Dimension::User),
            value: Some("*".into()),
            limit: credits(5),
            period: BudgetPeriod::Week,
            action: BudgetAction::Warn,
            thresholds: vec![],
            effective_at: at,
            expires_at: Some(at.plus_micros(1)),
            updated_by: "ops".into(),
        }),
        TermsRecord::CreditGrant(CreditGrant {
            org_id: "acme".into(),
            grant_id: "g1".into(),
            credits: credits(100),
            kind: "promo".into(),
            price: Some(credits(9)),
            currency: Some("USD".into()),
            effective_at: at,
            expires_at: None,
            voided_at: Some(at),
            priority: -3,
            updated_by: "ops".into(),
        }),
        TermsRecord::PurchaseDeclined(PurchaseDeclined {
            org_id: "acme".into(),
            purchase_id: "acme:1".into(),
            reason: "no".into(),
        }),
        TermsRecord::Label(Label {
            org_id: "acme".into(),
            dimension: Dimension::Project,
            value: "p1".into(),
            display_name: "Pr\u{f6}jekt".into(),
        }),
    ]
}

#[test]
fn terms_come_back_from_every_encoding() {
    for terms in every_terms_record() {
        let record = RecordType::from_name(terms.type_name()).unwrap();
        for encoding in [ValueEncoding::Json, ValueEncoding::SingleObject, framed(record)] {
            let mut out = Vec::new();
            encode_terms(&terms, encoding, &mut out);
            assert_eq!(decoder().terms(&out), Ok(terms.clone()));
            assert_eq!(reason(decoder().usage(&out)).0, Reason::UnknownType);
        }
    }
    assert!(matches!(
        decoder().terms(&bytes(&usage(), ValueEncoding::SingleObject)),
        Err(DecodeError::Reject(reject)) if reject.reason == Reason::UnknownType
    ));
}

#[test]
fn a_policys_bounds_are_checked() {
    use serde_json::json;
    let policy = json!(terms_fields(&every_terms_record()[0]));
    assert_eq!(policy["base_allocation"], "1000.000000");
    assert_eq!(policy["auto_purchase"]["at_percent"], 90);
    let cases = [
        ("thresholds", json!([0]), Reason::OutOfRange),
        ("thresholds", json!([90, 80]), Reason::BadField),
        ("thresholds", json!("90"), Reason::BadField),
        ("anchor_day", json!(29), Reason::OutOfRange),
        ("time_zone", json!("Mars/Olympus"), Reason::BadField),
        ("currency", json!("eur"), Reason::BadField),
        ("limit_mode", json!("hard"), Reason::BadField),
        ("base_allocation", json!(null), Reason::BadField),
        ("base_allocation", json!("-1"), Reason::OutOfRange),
        ("auto_purchase", json!({"at_percent": 90, "pack_credits": "10"}), Reason::BadField),
        (
            "auto_purchase",
            json!({"at_percent": 90, "pack_credits": "0", "max_packs_per_period": 1}),
            Reason::OutOfRange,
        ),
        ("products", json!([1]), Reason::BadField),
        ("unlimited", json!("yes"), Reason::BadField),
        ("effective_at", json!(i64::MAX), Reason::OutOfRange),
    ];
    for (field, value, expected) in cases {
        let mut changed = policy.clone();
        changed[field] = value.clone();
        match decoder().terms(&serde_json::to_vec(&changed).unwrap()) {
            Err(DecodeError::Reject(reject)) => {
                assert_eq!(reject.reason, expected, "{field} = {value}: {reject}");
                assert!(reject.detail.contains(field), "{reject}");
            }
            other => panic!("{field} = {value}: {other:?}"),
        }
    }
}

#[test]
fn outputs_are_json_with_the_contracts_names() {
    let at = Timestamp::from_micros(1_795_000_000_000_000);
    let [mut encoder, mut framed, _] = outputs();
    let heartbeat = Heartbeat { partition: 3, at, log_time: at.plus_micros(-1) };
    assert_eq!(
        String::from_utf8(encoder.heartbeat(&heartbeat).unwrap()).unwrap(),
        r#"{"type":"Heartbeat","partition":3,"at":"2026-11-18T11:06:40Z","log_time":"2026-11-18T11:06:39.999999Z"}"#
    );
    assert_eq!(decoder().heartbeat(&framed.heartbeat(&heartbeat).unwrap()), Ok(heartbeat));
    let alert = Alert {
        alert_id: "acme|BLOCKED|1".into(),
        scope: Scope::org("acme"),
        kind: AlertKind::Blocked,
        level: 100,
        previous_level: 90,
        used: CreditSum(1_000_000),
        allowance: None,
        period_start: at,
        at,
    };
    assert_eq!(
        String::from_utf8(encoder.alert(&alert).unwrap()).unwrap(),
        concat!(
            r#"{"type":"Alert","alert_id":"acme|BLOCKED|1","org_id":"acme","dimension":null,"value":null,"#,
            r#""budget_id":null,"kind":"BLOCKED","level":100,"previous_level":90,"used":"1.000000","allowance":null,"#,
            r#""period_start":"2026-11-18T11:06:40Z","at":"2026-11-18T11:06:40Z"}"#
        )
    );
    let purchase = PurchaseRequested {
        purchase_id: "p".into(),
        org_id: "acme".into(),
        period_start: at,
        ordinal: 1,
        credits: Credits::from_micros(1).unwrap(),
        requested_at: at,
    };
    assert!(String::from_utf8(encoder.purchase(&purchase).unwrap()).unwrap().contains(r#""credits":"0.000001""#));
    let without = Encoder::new(OutputEncoding::Registry, None).heartbeat(&heartbeat);
    assert!(without.unwrap_err().to_string().contains("registry.url"));
}

/// An Avro library of others reads what we write, by the schemas that we publish.
#[test]
fn another_avro_library_reads_what_we_write() {
    let schema = &current(RecordType::UsageEvent).schema;
    let out = bytes(&usage(), ValueEncoding::SingleObject);
    let read = |schema, mut bytes: &[u8]| {
        apache_avro::reader::datum::GenericDatumReader::builder(schema)
            .build()
            .unwrap()
            .read_value(&mut bytes)
            .unwrap()
    };
    let value = read(schema, &out[10..]);
    let apache_avro::types::Value::Record(fields) = value else { panic!() };
    assert_eq!(fields.len(), 28);
    assert_eq!(fields[0].1, apache_avro::types::Value::String("01J9Z3".into()));
    let mut policy = Vec::new();
    encode_terms(&every_terms_record()[0], ValueEncoding::Framed(1), &mut policy);
    read(&current(RecordType::OrgPolicy).schema, &policy[5..]);
}

fn decision() -> LimitDecision {
    let at = Timestamp::from_micros(1_795_000_000_000_000);
    LimitDecision {
        scope: Scope {
            org_id: "acme".into(),
            budget: Some(BudgetScope {
                dimension: Some(Dimension::User),
                value: Some("u|1".into()),
                budget_id: "b1".into(),
            }),
        },
        level: Level {
            action: Action::Block,
            reason: DecisionReason::BudgetSpent,
            level: 100,
            allowance: Some(CreditSum(5_000_000)),
            extra: None,
            budget: Some(("per user".into(), BudgetPeriod::Week)),
            period_start: at,
            period_end: at.plus_micros(604_800_000_000),
            valid_until: Timestamp::MAX,
            forecast_alerted_on: Some(20_774),
            purchases_requested: 2,
        },
        figures: Figures {
            used: CreditSum(10_i128.pow(30) + 1),
            remaining: Some(CreditSum(0)),
            micros_per_second: 1_500_000,
        },
        version: 1_795_000_000_000_001,
        decided_at: at,
        cause: Cause {
            record: Some((3, 1_000_000)),
            event_id: Some("e1".into()),
            trace_id: None,
            policy_offset: Some(12),
        },
    }
}

/// Bytes that were written once are read for ever, and are still written so.
#[test]
fn golden_values_are_read_and_written() {
    let text = include_str!("../fixtures/values.json");
    let golden: std::collections::BTreeMap<String, String> = serde_json::from_str(text).unwrap();
    let [mut json, mut framed_output, mut single] = outputs();
    let mut terms = Vec::new();
    encode_terms(&every_terms_record()[0], ValueEncoding::SingleObject, &mut terms);
    let values = [
        ("UsageEvent json", bytes(&usage(), ValueEncoding::Json)),
        ("UsageEvent single_object", bytes(&usage(), ValueEncoding::SingleObject)),
        ("UsageEvent framed", bytes(&usage(), framed(RecordType::UsageEvent))),
        ("LimitDecision json", json.decision(&decision()).unwrap()),
        ("LimitDecision single_object", single.decision(&decision()).unwrap()),
        ("LimitDecision framed", framed_output.decision(&decision()).unwrap()),
        ("OrgPolicy single_object", terms),
    ];
    let shown = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) if text.starts_with('{') => text.to_owned(),
        _ => bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")),
    };
    let written: std::collections::BTreeMap<String, String> =
        values.iter().map(|(name, bytes)| ((*name).to_owned(), shown(bytes))).collect();
    assert_eq!(golden, written, "{}", serde_json::to_string_pretty(&written).unwrap());
    for (name, bytes) in values {
        match name.split(' ').next() {
            Some("UsageEvent") => assert_eq!(decoder().usage(&bytes), Ok(Event::Usage(usage()))),
            Some("LimitDecision") => assert_eq!(decoder().decision(&bytes), Ok(decision())),
            _ => assert_eq!(decoder().terms(&bytes), Ok(every_terms_record().swap_remove(0))),
        }
    }
}
