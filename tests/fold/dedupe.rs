//! The door: what is a duplicate, for how long, and what only shares its id.

use std::collections::HashMap;

use tallyman::codec::{DecodeError, Decoder, ValueEncoding, encode_event};
use tallyman::domain::dedupe::{IdHasher, IdKey, Seen, Window};
use tallyman::domain::event::Event;
use tallyman::domain::reject::Reason;
use tallyman::domain::time::Timestamp;
use tallyman::processor::intake::{Rules, Verdict, judge};
use tallyman::processor::ports::Record;

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
        let rules = Rules {
            partitions: 1,
            window: Window::new(WINDOW),
            future_micros_max: 300_000_000,
            age_micros_max: 90 * WINDOW,
        };
        let key = Some(b"org".as_slice());
        let record = Record { partition: 0, offset: 0, timestamp: log_time, key, value: Some(value) };
        let (seen, mut decoder) = (&self.seen, Decoder::new(None));
        let judged = judge(&record, &[], log_time, &rules, &mut decoder, &mut self.hasher, |key| {
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
