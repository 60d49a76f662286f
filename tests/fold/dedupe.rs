//! The door: what is a duplicate, for how long, and what only shares its id.

use std::collections::HashMap;

use tallyman::codec::{DecodeError, Decoder, ValueEncoding, encode_event};
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dedupe::{IdHasher, IdKey, Seen, Window};
use tallyman::domain::usage::event::Event;
use tallyman::domain::usage::reject::Reason;
use tallyman::processor::intake::{FIRST_TIMESTAMP, Rules, Verdict, judge};
use tallyman::processor::ports::{Header, Record};

const WINDOW: i64 = 24 * 3_600_000_000;
/// 2026-11-20T10:00:00Z.
const AT: Timestamp = Timestamp::from_micros(1_795_168_800_000_000);

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Folded,
    Duplicate,
    Dead(Reason),
}

/// A task's door and what it remembers.
#[derive(Default)]
struct Door {
    seen: HashMap<IdKey, Seen>,
    hasher: IdHasher,
}

impl Door {
    /// Takes a record of that value at that log time.
    fn take(&mut self, value: &[u8], log_time: Timestamp) -> Found {
        self.take_with(value, &[], log_time)
    }

    /// Takes a record with headers.
    fn take_with(&mut self, value: &[u8], headers: &[Header], log_time: Timestamp) -> Found {
        let rules = Rules {
            partitions: 1,
            window: Window::new(WINDOW),
            future_micros_max: 300_000_000,
            age_micros_max: 90 * WINDOW,
        };
        let key = Some(b"org".as_slice());
        let record = Record { partition: 0, offset: 0, timestamp: log_time, key, value: Some(value) };
        let (seen, mut decoder) = (&self.seen, Decoder::new(None));
        let judged = judge(&record, headers, log_time, &rules, &mut decoder, &mut self.hasher, |key| {
            Ok::<_, DecodeError>(seen.get(&key).copied())
        });
        match judged.unwrap() {
            Verdict::Fold(_, key, seen) => {
                self.seen.insert(key, seen);
                Found::Folded
            }
            Verdict::Duplicate => Found::Duplicate,
            Verdict::DeadLetter(reject) => Found::Dead(reject.reason),
            Verdict::Forward(..) => panic!("there is one partition"),
        }
    }
}

fn event(fields: &str) -> Vec<u8> {
    let rest = r#""source":"s","org_id":"org","product":"p","operation":"o""#;
    let at = AT.micros();
    format!(r#"{{"type":"UsageEvent","event_id":"e","occurred_at":{at},{rest},{fields}}}"#).into_bytes()
}

#[test]
fn the_same_record_is_dropped_within_the_window_and_folded_at_its_very_end() {
    let (mut door, value) = (Door::default(), event(r#""credits":"1""#));
    assert_eq!(door.take(&value, AT), Found::Folded);
    assert_eq!(door.take(&value, AT), Found::Duplicate);
    assert_eq!(door.take(&value, AT.plus_micros(WINDOW - 1)), Found::Duplicate);
    // A duplicate does not extend the window.
    assert_eq!(door.take(&value, AT.plus_micros(WINDOW)), Found::Folded);
    assert_eq!(door.take(&value, AT.plus_micros(2 * WINDOW - 1)), Found::Duplicate);
}

#[test]
fn the_same_id_with_other_fields_is_a_conflict_until_the_window_is_over() {
    let (mut door, other) = (Door::default(), event(r#""credits":"2""#));
    assert_eq!(door.take(&event(r#""credits":"1""#), AT), Found::Folded);
    assert_eq!(door.take(&other, AT.plus_micros(1)), Found::Dead(Reason::IdConflict));
    assert_eq!(door.take(&other, AT.plus_micros(WINDOW)), Found::Folded);
}

#[test]
fn a_trace_or_another_encoding_makes_no_other_record() {
    let mut door = Door::default();
    assert_eq!(door.take(&event(r#""credits":"1""#), AT), Found::Folded);
    let traced = event(r#""credits":"1.000000","trace_id":"t""#);
    assert_eq!(door.take(&traced, AT), Found::Duplicate);
    let mut avro = Vec::new();
    encode_event(&Decoder::new(None).usage(&traced).unwrap(), ValueEncoding::SingleObject, &mut avro);
    assert_eq!(door.take(&avro, AT), Found::Duplicate);
}

#[test]
fn another_source_or_another_record_type_is_another_identity() {
    let (mut door, value) = (Door::default(), event(r#""credits":"1""#));
    assert_eq!(door.take(&value, AT), Found::Folded);
    let text = String::from_utf8(value).unwrap();
    assert_eq!(door.take(text.replace(r#""source":"s""#, r#""source":"x""#).as_bytes(), AT), Found::Folded);
    let adjusted = text.replace("UsageEvent", "UsageAdjusted").replace("event_id", "adjustment_id");
    let adjusted = adjusted.replace(r#""credits""#, r#""reason":"r","credits""#);
    assert!(matches!(Decoder::new(None).usage(adjusted.as_bytes()), Ok(Event::Adjusted(_))));
    assert_eq!(door.take(adjusted.as_bytes(), AT), Found::Folded);
}

/// A record of each type that happened at `at`, with the type's name.
fn dated(at: i64) -> [(&'static str, Vec<u8>); 3] {
    let all = format!(r#""source":"s","org_id":"org","occurred_at":{at}"#);
    let dims = r#""product":"p","operation":"o","credits":"1""#;
    [
        ("usage", format!(r#"{{"type":"UsageEvent","event_id":"e",{all},{dims}}}"#)),
        ("adjusted", format!(r#"{{"type":"UsageAdjusted","adjustment_id":"e",{all},{dims},"reason":"r"}}"#)),
        ("outcome", format!(r#"{{"type":"OutcomeRecorded","outcome_id":"e",{all},"content_id":"c"}}"#)),
    ]
    .map(|(name, text)| (name, text.into_bytes()))
}

#[test]
fn what_is_dated_before_2000_is_out_of_range_and_usage_is_too_old_long_before() {
    const YEAR_2000: i64 = 946_684_800_000_000;
    // Seconds and milliseconds taken for microseconds, a clock that was never set, year 1, the edge.
    for at in [1_795_168_800, 1_795_168_800_000, 0, -1, -62_135_596_800_000_000, YEAR_2000 - 1] {
        for (name, value) in dated(at) {
            let reason = if name == "usage" { Reason::TooOld } else { Reason::OutOfRange };
            assert_eq!(Door::default().take(&value, AT), Found::Dead(reason), "{name} at {at}");
        }
    }
    for (name, value) in dated(YEAR_2000) {
        let expected = if name == "usage" { Found::Dead(Reason::TooOld) } else { Found::Folded };
        assert_eq!(Door::default().take(&value, AT), expected, "{name}");
    }
}

#[test]
fn what_is_dated_ahead_is_in_the_future_whatever_a_header_says() {
    let far = i64::MAX.to_string().into_bytes();
    for (name, value) in dated(AT.micros() + 300_000_001) {
        for headers in [vec![], vec![(FIRST_TIMESTAMP.to_owned(), far.clone())]] {
            let found = Door::default().take_with(&value, &headers, AT);
            assert_eq!(found, Found::Dead(Reason::InFuture), "{name} {headers:?}");
        }
    }
    for (name, value) in dated(253_402_300_799_000_000) {
        assert_eq!(Door::default().take(&value, AT), Found::Dead(Reason::InFuture), "{name}");
    }
}

#[test]
fn a_forwarded_record_is_as_old_as_it_was_when_it_first_stood_in_a_log() {
    let first = vec![(FIRST_TIMESTAMP.to_owned(), AT.micros().to_string().into_bytes())];
    let [(_, value), ..] = dated(AT.micros());
    let later = AT.plus_micros(91 * WINDOW);
    assert_eq!(Door::default().take_with(&value, &first, later), Found::Folded);
    assert_eq!(Door::default().take(&value, later), Found::Dead(Reason::TooOld));
}
