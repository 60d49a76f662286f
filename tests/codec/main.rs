//! Values in and out: every encoding brings back what was written, and every kind of bad bytes has its named reason.

mod records;
mod spellings;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use tallyman::codec::schemas::current;
use tallyman::codec::{
    DecodeError, Decoder, Encoder, OutputEncoding, RecordType, RegistryError, SchemaRegistry, ValueEncoding,
    encode_event, encode_terms, encode_usage, terms_fields,
};
use tallyman::domain::credits::{CreditSum, Credits, RECORD_CREDITS_MAX};
use tallyman::domain::limits::alert::{Alert, AlertKind};
use tallyman::domain::limits::decision::{
    Action, Cause, DecisionReason, Figures, Heartbeat, Level, LimitDecision,
};
use tallyman::domain::limits::purchase::PurchaseRequested;
use tallyman::domain::limits::scope::{BudgetScope, Scope};
use tallyman::domain::terms::records::*;
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::usage::event::*;
use tallyman::domain::usage::reject::Reason;

const ID: u32 = 7;

/// A registry that knows our records under 7, 8, ... and the texts given under 100, 101, ...
struct Twin {
    texts: Vec<String>,
    up: AtomicBool,
}

impl SchemaRegistry for Twin {
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>, RegistryError> {
        if !self.up.load(Ordering::SeqCst) {
            return Err(RegistryError("down".to_owned()));
        }
        let ours = RecordType::ALL.into_iter().map(|record| record.avsc().to_owned()).zip(ID..);
        let mut all = ours.chain(self.texts.iter().cloned().zip(100..));
        Ok(all.find(|(_, known)| *known == id).map(|(text, _)| text.into()))
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let record =
            RecordType::ALL.into_iter().zip(ID..).find(|(record, _)| record.subject() == subject).unwrap();
        assert_eq!(schema, record.0.avsc());
        Ok(record.1)
    }
}

fn twin(texts: &[&str]) -> Arc<Twin> {
    Arc::new(Twin { texts: texts.iter().map(|text| (*text).to_owned()).collect(), up: AtomicBool::new(true) })
}

fn decoder() -> Decoder {
    Decoder::new(Some(twin(&[])))
}

fn framed(record: RecordType) -> ValueEncoding {
    ValueEncoding::Framed(ID + record as u32)
}

fn usage() -> UsageEvent<'static> {
    let mut dims = Dims::default();
    dims.0[Dimension::User.index()] = Some("u-17".into());
    dims.0[Dimension::Product.index()] = Some("chat".into());
    dims.0[Dimension::Model.index()] = Some("m-large".into());
    dims.0[Dimension::Operation.index()] = Some("generate".into());
    UsageEvent {
        event_id: "01J9Z3".into(),
        source: "gateway".into(),
        occurred_at: Timestamp::from_micros(1_795_000_000_123_456),
        org_id: "acme".into(),
        dims,
        credits: Credits::from_micros(12_300_000).unwrap(),
        multiplier: Some(Multiplier(15_000)),
        input_tokens: Some(812),
        output_tokens: Some(303),
        cached_input_tokens: None,
        reasoning_tokens: None,
        latency_ms: Some(950),
        time_to_first_token_ms: None,
        status: Status::Ok,
        content_id: Some("c-\"1\"\n".into()),
        attempt: Some(2),
        trace_id: None,
    }
}

fn bytes(event: &UsageEvent<'_>, encoding: ValueEncoding) -> Vec<u8> {
    let mut out = Vec::new();
    encode_usage(event, encoding, &mut out);
    out
}

fn reason(outcome: Result<Event<'_>, DecodeError>) -> (Reason, String) {
    match outcome {
        Err(DecodeError::Reject(reject)) => (reject.reason, reject.detail),
        other => panic!("{other:?} is no refusal"),
    }
}

fn json(change: impl Fn(&mut serde_json::Map<String, serde_json::Value>)) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_slice(&bytes(&usage(), ValueEncoding::Json)).unwrap();
    change(value.as_object_mut().unwrap());
    serde_json::to_vec(&value).unwrap()
}

fn text(max: usize) -> impl Strategy<Value = Cow<'static, str>> {
    proptest::string::string_regex(".{1,40}").unwrap().prop_map(move |text| {
        let cut = (1..=max.min(text.len())).rev().find(|cut| text.is_char_boundary(*cut)).unwrap_or(text.len());
        Cow::Owned(text[..cut].to_owned())
    })
}

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._:@-]{1,40}"
}

fn opt_text() -> impl Strategy<Value = Option<Cow<'static, str>>> {
    proptest::option::of(text(128))
}

fn count() -> impl Strategy<Value = Option<i64>> {
    proptest::option::of(0..=1_000_000_000_000_i64)
}

fn civil() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_000_000..253_402_207_200_000_000_i64).prop_map(Timestamp::from_micros)
}

fn credits(min: i64) -> impl Strategy<Value = Credits> {
    (min..=RECORD_CREDITS_MAX).prop_map(|micros| Credits::from_micros(micros).unwrap())
}

fn dims() -> impl Strategy<Value = Dims<'static>> {
    (proptest::collection::vec(opt_text(), Dimension::COUNT), text(100), text(100)).prop_map(
        |(values, product, operation)| {
            let mut dims = Dims(values.try_into().unwrap());
            dims.0[Dimension::Product.index()] = Some(product);
            dims.0[Dimension::Operation.index()] = Some(operation);
            dims
        },
    )
}

prop_compose! {
    fn any_usage()(
        head in (text(128), text(128), civil(), id()), dims in dims(), credits in credits(0),
        multiplier in proptest::option::of(0..=999_999_999), counts in proptest::collection::vec(count(), 6),
        status in prop_oneof![Just(Status::Ok), Just(Status::Error), Just(Status::Cancelled)],
        tail in (opt_text(), proptest::option::of(1..=1_000_000_000_000_i64), opt_text()),
    ) -> Event<'static> {
        Event::Usage(UsageEvent {
            event_id: head.0, source: head.1, occurred_at: head.2, org_id: head.3.into(), dims, credits,
            multiplier: multiplier.map(Multiplier),
            input_tokens: counts[0], output_tokens: counts[1], cached_input_tokens: counts[2],
            reasoning_tokens: counts[3], latency_ms: counts[4], time_to_first_token_ms: counts[5],
            status, content_id: tail.0, attempt: tail.1, trace_id: tail.2,
        })
    }
}

prop_compose! {
    fn any_adjusted()(
        head in (text(128), text(128), civil(), id()), dims in dims(), credits in credits(-RECORD_CREDITS_MAX),
        events in -1_000_000_000_000..=1_000_000_000_000_i64, reason in text(1024), event_id in opt_text(),
    ) -> Event<'static> {
        Event::Adjusted(UsageAdjusted {
            adjustment_id: head.0, source: head.1, occurred_at: head.2, org_id: head.3.into(), dims, credits, events,
            reason, event_id,
        })
    }
}

prop_compose! {
    fn any_outcome()(
        head in (text(128), text(128), civil(), id()), subject in (any::<bool>(), text(128)),
        dims in proptest::collection::vec(opt_text(), Dimension::COUNT),
        outcome in proptest::option::of(proptest::sample::select(&Outcome::ALL[..])),
        rating in proptest::option::of(1..=5_u8), value in proptest::option::of(credits(-RECORD_CREDITS_MAX)),
    ) -> Event<'static> {
        let subject = if subject.0 { Subject::Content(subject.1) } else { Subject::Event(subject.1) };
        Event::Outcome(OutcomeRecorded {
            outcome_id: head.0, source: head.1, occurred_at: head.2, org_id: head.3.into(), subject,
            dims: Dims(dims.try_into().unwrap()), outcome, rating, value,
        })
    }
}

fn sum() -> impl Strategy<Value = CreditSum> {
    (-10_i128.pow(37)..10_i128.pow(37)).prop_map(CreditSum)
}

fn opt_sum() -> impl Strategy<Value = Option<CreditSum>> {
    proptest::option::of(sum())
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![civil(), Just(Timestamp::MAX), Just(Timestamp::MIN), any::<i64>().prop_map(Timestamp::from_micros)]
}

fn any_scope() -> impl Strategy<Value = Scope> {
    let dimension = proptest::option::of(proptest::sample::select(&Dimension::ALL[..]));
    let value = proptest::option::of(text(256).prop_map(Cow::into_owned));
    let budget = (dimension, value, id()).prop_map(|(dimension, value, budget_id)| BudgetScope {
        dimension,
        value,
        budget_id,
    });
    (id(), proptest::option::of(budget)).prop_map(|(org_id, budget)| Scope { org_id, budget })
}

fn period() -> impl Strategy<Value = BudgetPeriod> {
    proptest::sample::select(&[BudgetPeriod::Day, BudgetPeriod::Week, BudgetPeriod::Month][..])
}

prop_compose! {
    fn any_level()(
        action in proptest::sample::select(&[Action::Allow, Action::Block][..]),
        reason in proptest::sample::select(&DecisionReason::ALL[..]), level in any::<i32>(),
        sums in (opt_sum(), opt_sum()), budget in proptest::option::of((text(256).prop_map(Cow::into_owned), period())),
        times in (any_time(), any_time(), any_time()), forecast_alerted_on in proptest::option::of(any::<i32>()),
        purchases_requested in any::<i32>(),
    ) -> Level {
        Level {
            action, reason, level, allowance: sums.0, extra: sums.1, budget, period_start: times.0, period_end: times.1,
            valid_until: times.2, forecast_alerted_on, purchases_requested,
        }
    }
}

prop_compose! {
    fn any_decision()(
        scope in any_scope(), level in any_level(), figures in (sum(), opt_sum(), sum()), version in any::<i64>(),
        decided_at in any_time(), record in proptest::option::of((any::<i32>(), any::<i64>())),
        ids in (opt_text(), opt_text()), policy_offset in proptest::option::of(any::<i64>()),
    ) -> LimitDecision {
        LimitDecision {
            scope, level,
            figures: Figures { used: figures.0, remaining: figures.1, micros_per_second: figures.2.0 },
            version, decided_at,
            cause: Cause {
                record, event_id: ids.0.map(Cow::into_owned), trace_id: ids.1.map(Cow::into_owned), policy_offset,
            },
        }
    }
}

fn outputs() -> [Encoder; 3] {
    [OutputEncoding::Json, OutputEncoding::Registry, OutputEncoding::SingleObject]
        .map(|encoding| Encoder::new(encoding, Some(twin(&[]))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_event_comes_back_from_every_encoding(event in prop_oneof![any_usage(), any_adjusted(), any_outcome()]) {
        let record = match event.event_type() {
            EventType::Usage => RecordType::UsageEvent,
            EventType::Adjusted => RecordType::UsageAdjusted,
            EventType::Outcome => RecordType::OutcomeRecorded,
        };
        for encoding in [ValueEncoding::Json, ValueEncoding::SingleObject, framed(record)] {
            let mut out = Vec::new();
            encode_event(&event, encoding, &mut out);
            prop_assert_eq!(decoder().usage(&out), Ok(event.clone()));
        }
    }

    #[test]
    fn a_decision_comes_back_exactly_from_every_encoding(decision in any_decision()) {
        for mut encoder in outputs() {
            let out = encoder.decision(&decision).unwrap();
            prop_assert_eq!(decoder().decision(&out), Ok(decision.clone()));
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_fall(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), start in 0..4) {
        let prefix = match start {
            0 => Vec::new(),
            1 => bytes_of_single_object(),
            2 => vec![0, 0, 0, 0, 7],
            _ => b"{".to_vec(),
        };
        bytes.splice(0..0, prefix);
        let _ = decoder().usage(&bytes);
        let _ = decoder().terms(&bytes);
    }

    #[test]
    fn a_cut_or_grown_value_is_undecodable(cut in 10..100_usize) {
        let whole = bytes(&usage(), ValueEncoding::SingleObject);
        prop_assert_eq!(reason(decoder().usage(&whole[..cut.min(whole.len() - 1)])).0, Reason::Undecodable);
        prop_assert_eq!(reason(decoder().usage(&[&whole[..], &[0]].concat())).0, Reason::Undecodable);
    }
}

fn bytes_of_single_object() -> Vec<u8> {
    bytes(&usage(), ValueEncoding::SingleObject)[..10].to_vec()
}

#[test]
fn strings_of_avro_values_borrow_from_the_bytes() {
    let out = bytes(&usage(), ValueEncoding::SingleObject);
    let Event::Usage(event) = decoder().usage(&out).unwrap() else { panic!() };
    assert!(matches!(event.event_id, Cow::Borrowed(_)));
    assert!(matches!(event.dims.0[Dimension::Product.index()], Some(Cow::Borrowed(_))));
}

#[test]
fn each_way_in_which_bytes_can_be_wrong_has_its_reason() {
    let out = bytes(&usage(), ValueEncoding::SingleObject);
    let fingerprint = current(RecordType::UsageEvent).fingerprint.to_le_bytes();
    assert_eq!(out[2..10], fingerprint);
    let mut other = out.clone();
    other[5] ^= 1;
    let cases: Vec<(Vec<u8>, Reason)> = vec![
        (Vec::new(), Reason::Undecodable),
        (b"hello".to_vec(), Reason::Undecodable),
        (b"{".to_vec(), Reason::Undecodable),
        (b"{} x".to_vec(), Reason::Undecodable),
        (vec![0, 0, 0], Reason::Undecodable),
        (vec![0xc3, 0x01, 3], Reason::Undecodable),
        (other, Reason::UnknownSchema),
        (vec![0, 0, 0, 9, 9, 1, 2], Reason::UnknownSchema),
        (b"{\"org_id\": \"a\"}".to_vec(), Reason::BadField),
        (b"{\"type\": \"Nothing\"}".to_vec(), Reason::UnknownType),
        (b"{\"type\": \"OrgPolicy\"}".to_vec(), Reason::UnknownType),
        (b"{\"type\": \"UsageEvent\", \"type\": \"UsageEvent\"}".to_vec(), Reason::BadField),
        (json(|fields| drop(fields.remove("product"))), Reason::BadField),
        (json(|fields| drop(fields.insert("product".into(), "".into()))), Reason::BadField),
        (json(|fields| drop(fields.insert("org_id".into(), "a b".into()))), Reason::BadField),
        (json(|fields| drop(fields.insert("status".into(), "maybe".into()))), Reason::BadField),
        (json(|fields| drop(fields.insert("occurred_at".into(), "yesterday".into()))), Reason::BadField),
        (json(|fields| drop(fields.insert("user_id".into(), "x".repeat(257).into()))), Reason::BadField),
        (json(|fields| drop(fields.insert("input_tokens".into(), 1.5.into()))), Reason::BadField),
        (json(|fields| drop(fields.insert("input_tokens".into(), (-1).into()))), Reason::OutOfRange),
        (json(|fields| drop(fields.insert("input_tokens".into(), u64::MAX.into()))), Reason::OutOfRange),
        (json(|fields| drop(fields.insert("attempt".into(), 0.into()))), Reason::OutOfRange),
        (json(|fields| drop(fields.insert("credits".into(), "-1".into()))), Reason::OutOfRange),
        (json(|fields| drop(fields.insert("credits".into(), "1000000000.000001".into()))), Reason::OutOfRange),
        (json(|fields| drop(fields.insert("credits".into(), "9".repeat(60).into()))), Reason::OutOfRange),
        (json(|fields| drop(fields.insert("credits".into(), "0.0000001".into()))), Reason::BadDecimal),
        (json(|fields| drop(fields.insert("credits".into(), "1e3".into()))), Reason::BadDecimal),
        (json(|fields| drop(fields.insert("credits".into(), 1.5.into()))), Reason::BadDecimal),
        (json(|fields| drop(fields.insert("credits".into(), 2.into()))), Reason::BadDecimal),
        (json(|fields| drop(fields.insert("multiplier".into(), "-1".into()))), Reason::OutOfRange),
        (json(|fields| drop(fields.insert("multiplier".into(), "1.00001".into()))), Reason::BadDecimal),
    ];
    for (bytes, expected) in cases {
        let (reason, detail) = reason(decoder().usage(&bytes));
        assert_eq!(reason, expected, "{} gave {detail}", String::from_utf8_lossy(&bytes));
        assert!(!detail.is_empty());
    }
    let (_, detail) = reason(decoder().usage(&json(|fields| drop(fields.insert("credits".into(), 1.5.into())))));
    assert_eq!(detail, "`credits` is a number; write the decimal as text, \"12.5\"");
}

#[test]
fn unknown_json_fields_are_ignored_and_counted() {
    let mut decoder = decoder();
    let out = json(|fields| {
        fields.insert("colour".into(), "red".into());
        fields.insert("nested".into(), serde_json::json!({"a": [1, {"b": null}]}));
    });
    assert_eq!(decoder.usage(&out), Ok(Event::Usage(usage())));
    assert_eq!(decoder.unknown_fields().count, 2);
}

#[test]
fn json_times_are_rfc_3339_or_microseconds_and_the_type_may_be_the_full_name() {
    let out = json(|fields| {
        fields.insert("occurred_at".into(), 1_795_000_000_123_456_i64.into());
        fields.insert("type".into(), "tallyman.v1.UsageEvent".into());
    });
    assert_eq!(decoder().usage(&out), Ok(Event::Usage(usage())));
    let out = json(|fields| drop(fields.insert("occurred_at".into(), "2026-11-18T12:06:40.123456+01:00".into())));
    assert_eq!(decoder().usage(&out), Ok(Event::Usage(usage())));
}

fn cloud_event(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let mut data: serde_json::Value = serde_json::from_slice(&bytes(&usage(), ValueEncoding::Json)).unwrap();
    for name in ["type", "event_id", "source"] {
        data.as_object_mut().unwrap().remove(name);
    }
    let mut event = serde_json::json!({
        "specversion": "1.0", "type": "tallyman.v1.UsageEvent", "id": "01J9Z3", "source": "gateway",
        "time": "2026-11-18T11:06:40Z", "datacontenttype": "application/json", "data": data,
    });
    change(&mut event);
    serde_json::to_vec(&event).unwrap()
}

#[test]
fn a_structured_cloud_event_gives_id_and_source_from_its_envelope() {
    let mut decoder = decoder();
    assert_eq!(decoder.usage(&cloud_event(|_| {})), Ok(Event::Usage(usage())));
    assert_eq!(decoder.unknown_fields().count, 0);
    let same = cloud_event(|event| event["data"]["event_id"] = "01J9Z3".into());
    assert_eq!(decoder.usage(&same), Ok(Event::Usage(usage())));
    let differs = cloud_event(|event| event["data"]["event_id"] = "other".into());
    assert_eq!(reason(decoder.usage(&differs)).0, Reason::BadField);
    let other_type = cloud_event(|event| event["data"]["type"] = "UsageAdjusted".into());
    assert_eq!(reason(decoder.usage(&other_type)).0, Reason::BadField);
    let empty = cloud_event(|event| event["data"] = serde_json::Value::Null);
    assert_eq!(reason(decoder.usage(&empty)).0, Reason::BadField);
    let no_id = cloud_event(|event| event["id"] = serde_json::Value::Null);
    assert_eq!(reason(decoder.usage(&no_id)), (Reason::BadField, "`event_id` is missing".to_owned()));
}

/// A writer's version with fields of its own, in another order, and without some of ours.
#[test]
fn a_value_of_another_version_is_read_by_the_names_of_its_fields() {
    let text = include_str!("../fixtures/schemas/UsageEvent.compatible.avsc");
    let mut decoder = Decoder::new(Some(twin(&[text])));
    let ours = bytes(&usage(), ValueEncoding::SingleObject);
    // Theirs: a nested `experiment` first, then ours up to `content_id`; `attempt` and `trace_id` do not exist.
    // Its array is one block of a negative count, which tells the block's bytes too.
    let experiment = [&[2, 2, b'x'][..], &[2, 2, b'k'], &[0; 8], &[0], &[1, 2, 2, 0], &[2, 0]].concat();
    let body = &ours[10..ours.len() - 3];
    let value = [&[0, 0, 0, 0, 100][..], &experiment, body].concat();
    let expected = UsageEvent { attempt: None, ..usage() };
    assert_eq!(decoder.usage(&value), Ok(Event::Usage(expected)));
}

#[test]
fn a_schema_that_cannot_be_read_as_ours_is_told_by_its_field() {
    let foreign = r#"{"type": "record", "name": "UsageEvent", "namespace": "other", "fields": []}"#;
    let recursive = RecordType::Label
        .avsc()
        .replace("\"fields\": [", r#""fields": [{"name": "up", "type": ["null", "Label"], "default": null},"#);
    let texts = [
        include_str!("../fixtures/schemas/UsageEvent.other_scale.avsc"),
        foreign,
        "\"string\"",
        "nonsense",
        &recursive,
        &RecordType::Label.avsc().replace("\"org_id\"", "\"organisation\""),
    ];
    let mut decoder = Decoder::new(Some(twin(&texts)));
    let words =
        ["`credits`", "other.UsageEvent", "no record", "no Avro schema", "holds itself", "`org_id` is missing"];
    for (id, word) in (100..).zip(words) {
        for _ in 0..2 {
            let (reason, detail) = reason(decoder.usage(&[0, 0, 0, 0, id, 1, 2, 3]));
            assert_eq!(reason, Reason::UnknownSchema, "{detail}");
            assert!(detail.contains(word) && detail.contains(&format!("schema id {id}")), "{detail}");
        }
    }
}

#[test]
fn a_registry_that_is_down_is_not_the_records_fault() {
    let registry = twin(&[]);
    registry.up.store(false, Ordering::SeqCst);
    let mut decoder = Decoder::new(Some(registry.clone()));
    let value = bytes(&usage(), ValueEncoding::Framed(ID));
    assert_eq!(decoder.usage(&value), Err(DecodeError::Unavailable(RegistryError("down".to_owned()))));
    registry.up.store(true, Ordering::SeqCst);
    assert_eq!(decoder.usage(&value), Ok(Event::Usage(usage())));
    registry.up.store(false, Ordering::SeqCst);
    assert_eq!(decoder.usage(&value), Ok(Event::Usage(usage())), "a schema that was met is kept");
}
