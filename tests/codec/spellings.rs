//! Values as other systems spell them: instants, whole numbers, zones, CloudEvents, and fields that nobody knows.

use super::*;

fn with(field: &str, raw: &str) -> Vec<u8> {
    let json = String::from_utf8(json(|fields| drop(fields.insert(field.to_owned(), "@".into())))).unwrap();
    json.replace("\"@\"", raw).into_bytes()
}

fn usage_of(bytes: &[u8]) -> UsageEvent<'_> {
    match decoder().usage(bytes) {
        Ok(Event::Usage(event)) => event,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

fn grant(expires_at: &str) -> CreditGrant {
    let json = format!(
        r#"{{"type":"CreditGrant","org_id":"acme","grant_id":"g","credits":"5","kind":"pack",
            "effective_at":"2026-11-18T11:06:40Z","expires_at":{expires_at},"updated_by":"ops"}}"#
    );
    match decoder().terms(json.as_bytes()) {
        Ok(TermsRecord::CreditGrant(grant)) => grant,
        other => panic!("{expires_at}: {other:?}"),
    }
}

#[test]
fn never_of_other_systems_is_an_instant_in_every_spelling_and_encoding() {
    let last_second = 253_402_300_799_000_000;
    for (spelling, micros) in [
        (r#""9999-12-31T23:59:59Z""#, last_second),
        (r#""9999-12-31t23:59:59z""#, last_second),
        (r#""9999-12-31T23:59:59.999999999Z""#, last_second + 999_999),
        (r#""9999-12-31T23:59:59-12:00""#, last_second + 12 * 3_600_000_000),
        (r#""9999-12-31T23:59:59.9999999999-23:59""#, last_second + 999_999 + 86_340_000_000),
        (r#""0000-01-01T00:00:00+23:59""#, -62_167_219_200_000_000 - 86_340_000_000),
        ("253402300799000000", last_second),
        ("2.53402300799E17", last_second),
    ] {
        let grant = grant(spelling);
        assert_eq!(grant.expires_at.unwrap().micros(), micros, "{spelling}");
        let terms = TermsRecord::CreditGrant(grant);
        for encoding in [ValueEncoding::SingleObject, framed(RecordType::CreditGrant), ValueEncoding::Json] {
            let mut out = Vec::new();
            encode_terms(&terms, encoding, &mut out);
            assert_eq!(decoder().terms(&out), Ok(terms.clone()), "{spelling}");
        }
        let shown = terms_fields(&terms);
        assert!(shown.get("expires_at").unwrap().is_string(), "{shown:?}: people read a date");
    }
}

#[test]
fn instants_that_no_date_names_are_refused_with_their_field() {
    for raw in [
        "1e30",
        "9223372036854775807",
        "253402387140000000",
        "\"10000-01-01T00:00:00Z\"",
        "\"2016-12-30T23:59:60Z\"",
        "\"2026-11-18T24:00:00Z\"",
        "\"2026-11-18T11:06:40\"",
        "1795000000000000.5",
        "true",
    ] {
        let value = with("occurred_at", raw);
        let (_, detail) = reason(decoder().usage(&value));
        assert!(detail.starts_with("`occurred_at` "), "{raw}: {detail}");
    }
}

#[test]
fn a_whole_number_may_have_a_point_or_an_exponent() {
    for (raw, number) in [
        ("1000", 1000),
        ("1000.0", 1000),
        ("1e3", 1000),
        ("1.0E+3", 1000),
        ("10000e-1", 1000),
        ("0.0", 0),
        ("-0", 0),
    ] {
        assert_eq!(usage_of(&with("input_tokens", raw)).input_tokens, Some(number), "{raw}");
    }
    let at = Timestamp::from_micros(1_795_000_000_123_456);
    for raw in ["1795000000123456", "1795000000123456.0", "1.795000000123456E15"] {
        assert_eq!(usage_of(&with("occurred_at", raw)).occurred_at, at, "{raw}");
    }
    for (raw, expected) in [
        ("1.5", Reason::BadField),
        ("\"1000\"", Reason::BadField),
        ("1e13", Reason::OutOfRange),
        ("1e30", Reason::OutOfRange),
        ("-1.0", Reason::OutOfRange),
    ] {
        assert_eq!(reason(decoder().usage(&with("input_tokens", raw))).0, expected, "{raw}");
    }
    let (reason, detail) = reason(decoder().usage(&with("credits", "2.0")));
    assert_eq!((reason, detail.contains("as text")), (Reason::BadDecimal, true), "{detail}");
}

#[test]
fn a_zone_is_one_of_ianas_or_a_link_and_etc_unknown_is_neither() {
    let policy = |zone: &str| {
        let json = format!(
            r#"{{"type":"OrgPolicy","org_id":"acme","plan":"p","base_allocation":"1","time_zone":"{zone}",
                "effective_at":0,"updated_by":"ops"}}"#
        );
        decoder().terms(json.as_bytes())
    };
    for zone in ["Europe/Berlin", "UTC", "Etc/UTC", "GMT", "US/Pacific", "Asia/Calcutta", "Etc/GMT+5", "Zulu"] {
        assert!(policy(zone).is_ok(), "{zone}");
    }
    for zone in ["Etc/Unknown", "etc/unknown", "Berlin", "+01:00", "UTC+1", "local", "Z", "EST5", "Europe/Berlin "]
    {
        let Err(DecodeError::Reject(reject)) = policy(zone) else { panic!("{zone} is taken") };
        assert!(reject.detail.starts_with("`time_zone` is"), "{zone}: {reject}");
    }
    let Ok(TermsRecord::OrgPolicy(mut known)) = policy("UTC") else { panic!("a policy") };
    known.time_zone = "Etc/Unknown".into();
    let mut out = Vec::new();
    encode_terms(&TermsRecord::OrgPolicy(known), ValueEncoding::SingleObject, &mut out);
    assert!(decoder().terms(&out).unwrap_err().to_string().contains("`time_zone`"), "in Avro too");
}

#[test]
fn a_cloud_event_happened_at_its_envelopes_time_unless_its_data_knows_better() {
    let envelope = Timestamp::from_micros(1_795_000_000_000_000);
    for absent in [None, Some(serde_json::Value::Null)] {
        let event = cloud_event(|event| {
            let data = event["data"].as_object_mut().unwrap();
            data.remove("occurred_at");
            data.extend(absent.clone().map(|null| ("occurred_at".to_owned(), null)));
        });
        assert_eq!(usage_of(&event).occurred_at, envelope);
    }
    let known = cloud_event(|event| event["time"] = "2001-01-01T00:00:00Z".into());
    assert_eq!(usage_of(&known).occurred_at, usage().occurred_at);
    let neither = cloud_event(|event| {
        event.as_object_mut().unwrap().remove("time");
        event["data"].as_object_mut().unwrap().remove("occurred_at");
    });
    assert_eq!(reason(decoder().usage(&neither)).1, "`occurred_at` is missing");
}

#[test]
fn the_subject_of_a_cloud_event_is_never_its_org() {
    let other = cloud_event(|event| event["subject"] = "customer-1".into());
    assert_eq!(usage_of(&other).org_id, "acme");
    let alone = cloud_event(|event| {
        event["subject"] = "customer-1".into();
        event["data"].as_object_mut().unwrap().remove("org_id");
    });
    assert_eq!(reason(decoder().usage(&alone)).1, "`org_id` is missing");
}

#[test]
fn a_cloud_event_around_a_correction_or_an_outcome_gives_its_time_too() {
    for (kind, id, rest) in [
        (
            "UsageAdjusted",
            "adjustment_id",
            r#""product":"chat","operation":"ask","credits":"-1","reason":"refund""#,
        ),
        ("OutcomeRecorded", "outcome_id", r#""content_id":"c","outcome":"accepted""#),
    ] {
        let json = format!(
            r#"{{"specversion":"1.0","type":"tallyman.v1.{kind}","id":"{id}-1","source":"crm",
                "time":"2026-11-18T11:06:40Z","data":{{"org_id":"acme",{rest}}}}}"#
        );
        let mut decoder = decoder();
        let event = decoder.usage(json.as_bytes()).unwrap();
        assert_eq!(event.occurred_at(), Timestamp::from_micros(1_795_000_000_000_000));
        assert_eq!(event.id(), format!("{id}-1"));
    }
}

#[test]
fn unknown_fields_are_told_by_name_and_source_until_the_next_value() {
    let mut decoder = decoder();
    let misspelt = json(|fields| {
        fields.insert("user".into(), "ann".into());
        fields.insert("nested".into(), serde_json::json!({"a": [1, {"b": null}]}));
    });
    assert_eq!(decoder.usage(&misspelt), Ok(Event::Usage(usage())));
    let unknown = decoder.unknown_fields();
    assert_eq!((unknown.record, &*unknown.source), (Some(RecordType::UsageEvent), "gateway"));
    assert_eq!((unknown.count, &unknown.names[..]), (2, &["nested".to_owned(), "user".to_owned()][..]));

    let in_data = cloud_event(|event| event["data"]["user"] = "ann".into());
    decoder.usage(&in_data).unwrap();
    assert_eq!((decoder.unknown_fields().count, &*decoder.unknown_fields().source), (1, "gateway"));

    let refused = json(|fields| {
        let product = fields.remove("product").unwrap();
        fields.insert("Product".into(), product);
    });
    assert_eq!(reason(decoder.usage(&refused)).1, "`product` is missing");
    assert_eq!(decoder.unknown_fields().names, ["Product"], "of a refused value it is all the more telling");

    decoder.usage(&json(|_| {})).unwrap();
    assert_eq!(decoder.unknown_fields(), &tallyman::codec::UnknownFields::default());
}

#[test]
fn unknown_fields_inside_of_terms_are_counted_and_many_are_bounded() {
    let mut decoder = decoder();
    let auto = r#"{"at_percent":90,"pack_credits":"5","max_packs_per_period":1,"atPercent":80}"#;
    let json = format!(
        r#"{{"type":"OrgPolicy","org_id":"acme","plan":"p","base_allocation":"1","auto_purchase":{auto},
            "effective_at":0,"updated_by":"ops"}}"#
    );
    decoder.terms(json.as_bytes()).unwrap();
    let unknown = decoder.unknown_fields();
    assert_eq!((&unknown.names[..], &*unknown.source), (&["auto_purchase.atPercent".to_owned()][..], "ops"));

    let many = super::json(|fields| {
        fields.extend((0..1000).map(|number| (format!("{}{number}", "x".repeat(500)), 1.into())));
    });
    decoder.usage(&many).unwrap();
    let unknown = decoder.unknown_fields();
    assert_eq!((unknown.count, unknown.names.len()), (1000, 8));
    assert!(unknown.names.iter().all(|name| name.len() <= 64));
}

#[test]
fn a_framed_record_waits_for_the_setting_that_is_missing_and_an_id_that_no_registry_gives_does_not() {
    let mut without = Decoder::new(None);
    let value = bytes(&usage(), ValueEncoding::Framed(ID));
    let Err(DecodeError::Unavailable(error)) = without.usage(&value) else { panic!("it waits") };
    assert!(error.to_string().contains("`registry.url`") && error.to_string().contains("schema id 7"), "{error}");
    for id in [0, 1 << 31, u32::MAX] {
        for decoder in [&mut without, &mut decoder()] {
            let value = bytes(&usage(), ValueEncoding::Framed(id));
            let (reason, detail) = reason(decoder.usage(&value));
            assert_eq!(reason, Reason::UnknownSchema, "{detail}");
        }
    }
}
