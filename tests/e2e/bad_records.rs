//! Records that cannot be folded: each becomes a dead letter that says why and where, or goes to where it belongs, and the partition
//! goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tallyman::clock::{Clock as _, SystemClock};
use tallyman::domain::usage::murmur2::partition_of;
use tallyman::domain::usage::reject::Reason;
use tallyman::kafka::{Producer, Sent};
use tallyman::processor::ports::Header;

use crate::audit::{self, Letter};
use crate::support::{PATIENCE, Site, kafka, wait_until};

const HOUR: i64 = 3_600_000_000;

/// An org that stands in partition 0 of two.
fn home_org() -> String {
    (0..100).map(|number| format!("org-{number}")).find(|org| partition_of(org.as_bytes(), 2) == 0).unwrap()
}

fn event(org: &str, id: &str, credits: &str, more: &Value) -> Vec<u8> {
    let mut event = json!({
        "type": "UsageEvent", "event_id": id, "source": "e2e", "occurred_at": SystemClock.now().micros(),
        "org_id": org, "product": "chat", "operation": "completion", "credits": credits,
    });
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    event.to_string().into_bytes()
}

/// A bad record of each kind.
fn bad(org: &str) -> Vec<(Reason, Option<Vec<u8>>)> {
    let now = SystemClock.now().micros();
    // Its time is in seconds.
    let correction =
        json!({"type": "UsageAdjusted", "adjustment_id": "1970", "reason": "r", "occurred_at": now / 1_000_000});
    let of = |id: &str, more: Value| Some(event(org, id, "1", &more));
    vec![
        (Reason::Undecodable, Some(b"no record at all".to_vec())),
        (Reason::Undecodable, None),
        (Reason::UnknownSchema, Some([&[0xc3, 0x01][..], &[7; 8], b"body"].concat())),
        (Reason::BadField, of("bad-field", json!({"product": null}))),
        (Reason::BadDecimal, of("bad-decimal", json!({"credits": "1.0000001"}))),
        (Reason::InFuture, of("future", json!({"occurred_at": now + HOUR}))),
        (Reason::TooOld, of("old", json!({"occurred_at": now - 91 * 24 * HOUR}))),
        (Reason::IdConflict, of("good-1", json!({"credits": "2"}))),
        (Reason::OutOfRange, of("range", json!({"credits": "1000000000.000001"}))),
        (Reason::OutOfRange, of("corrected", correction)),
        (Reason::UnknownType, of("type", json!({"type": "OrgPolicy"}))),
    ]
}

#[test]
fn each_bad_record_becomes_a_dead_letter_and_the_partition_goes_on() {
    let kafka = kafka().with_topics("bad", 2);
    let (site, org) = (Site::new(&kafka, &[]), home_org());
    let instance = site.run();
    let producer = Producer::new(&kafka, "e2e").unwrap();
    let own: [Header; 1] = [("trace".to_owned(), b"abc".to_vec())];
    let forwarded: [Header; 1] = [("tallyman-timestamp".to_owned(), b"1".to_vec())];
    let send = |value: Option<&[u8]>, partition, headers: &[Header]| {
        let sent = Sent { key: Some(org.as_bytes()), value, partition: Some(partition), headers, timestamp: None };
        producer.send(&kafka.topics.usage, &sent).unwrap();
    };
    send(Some(&event(&org, "good-1", "1.000001", &json!({}))), 0, &[]);
    let bad = bad(&org);
    for (_, value) in &bad {
        send(value.as_deref(), 0, &own);
    }
    let misrouted = event(&org, "misrouted", "1", &json!({}));
    send(Some(&misrouted), 1, &forwarded);
    for (id, credits) in [("good-2", "2"), ("good-3", "0.000002")] {
        send(Some(&event(&org, id, credits, &json!({"user": "ann"}))), 0, &[]);
    }
    let policy = Sent { key: Some(org.as_bytes()), value: Some(b"{}"), partition: Some(0), ..Sent::default() };
    producer.send(&kafka.topics.policies, &policy).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();

    let count = bad.len() + 2;
    let found = || audit::letters(&kafka, &kafka.topics.dead_letters);
    wait_until("all dead letters", PATIENCE, || found().len() >= count);
    site.wait_for_the_end(PATIENCE);
    let used =
        || serde_json::from_str::<Value>(&instance.get(&format!("/v1/orgs/{org}")).1).unwrap()["used"].clone();
    wait_until("the partition to go on", PATIENCE, || used() == "3.000003");

    let letters = found();
    assert_eq!(letters.len(), count);
    let of = |topic: &str, partition: &str, offset: usize| {
        let at = |letter: &&Letter| {
            let header = |name: &str| letter.headers[name].as_str();
            header("tallyman-topic") == topic
                && header("tallyman-partition") == partition
                && header("tallyman-offset") == offset.to_string()
        };
        letters.iter().find(at).unwrap_or_else(|| panic!("no letter of {topic}/{partition} at {offset}"))
    };
    let usage = &kafka.topics.usage;
    for (place, (reason, value)) in bad.iter().enumerate() {
        let letter = of(usage, "0", place + 1);
        assert_eq!(letter.headers["tallyman-reason"], reason.as_str(), "{letter:?}");
        assert_eq!((&letter.key, &letter.value), (&Some(org.clone().into_bytes()), value), "{letter:?}");
        assert_eq!((letter.partition, letter.headers["trace"].as_str()), (0, "abc"));
        assert!(!letter.headers["tallyman-detail"].is_empty());
        let at: i64 = letter.headers["tallyman-timestamp"].parse().unwrap();
        assert!((SystemClock.now().micros() - at).abs() < HOUR, "{letter:?}");
    }
    let letter = of(usage, "1", 0);
    assert_eq!((letter.headers["tallyman-reason"].as_str(), &letter.value), ("misrouted", &Some(misrouted)));
    let letter = of(&kafka.topics.policies, "0", 0);
    assert_eq!((&letter.value, letter.partition), (&Some(b"{}".to_vec()), 0));

    let metrics = instance.metrics();
    let mut expected: BTreeMap<&str, f64> = BTreeMap::new();
    for letter in &letters {
        *expected.entry(&letter.headers["tallyman-reason"]).or_default() += 1.0;
    }
    assert_eq!(expected.len(), Reason::ALL.len(), "every reason: {expected:?}");
    for (reason, count) in expected {
        let told = metrics.get(&format!("tallyman_dead_letters_total{{reason=\"{reason}\"}}"));
        // A transaction that fails is made again, and counted again.
        assert!(told >= count, "{reason}: {told}");
    }
    assert!(metrics.get("tallyman_records_total{outcome=\"folded\"}") >= 3.0);
    assert!(metrics.get("tallyman_unknown_fields_total") >= 2.0);
    let log = instance.running.said();
    let named: Vec<&str> = log.lines().filter(|line| line.contains("`user` is no field of UsageEvent")).collect();
    assert!(named.len() == 1 && named[0].contains("`user_id`") && named[0].contains("e2e"), "{named:?}");
    instance.stop();
}

#[test]
fn a_record_without_its_key_or_in_a_foreign_partition_is_folded_once_at_home() {
    let kafka = kafka().with_topics("foreign", 2);
    let (site, org) = (Site::new(&kafka, &[]), home_org());
    let instance = site.run();
    let producer = Producer::new(&kafka, "e2e").unwrap();
    let own: [Header; 1] = [("trace".to_owned(), b"abc".to_vec())];
    let places = [(None, 1), (None, 0), (Some(org.as_str()), 1), (Some("other"), 0)];
    for (number, (key, partition)) in places.into_iter().enumerate() {
        let value = event(&org, &format!("event-{number}"), "1.5", &json!({}));
        let key = key.map(str::as_bytes);
        let sent = Sent { key, value: Some(&value), partition: Some(partition), headers: &own, timestamp: None };
        producer.send(&kafka.topics.usage, &sent).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let used =
        || serde_json::from_str::<Value>(&instance.get(&format!("/v1/orgs/{org}")).1).unwrap()["used"].clone();
    wait_until("all four to be folded", PATIENCE, || used() == "6.000000");
    site.wait_for_the_end(PATIENCE);

    let records = audit::letters(&kafka, &kafka.topics.usage);
    let forwards: Vec<_> =
        records.iter().filter(|record| record.headers.contains_key("tallyman-timestamp")).collect();
    assert_eq!((records.len(), forwards.len()), (8, 4));
    for forward in &forwards {
        assert_eq!((forward.partition, forward.key.as_deref()), (0, Some(org.as_bytes())), "{forward:?}");
        assert_eq!(forward.headers["trace"], "abc");
        assert_eq!(&forward.headers["tallyman-topic"], &kafka.topics.usage);
        assert!(records.iter().filter(|record| record.value == forward.value).count() == 2, "{forward:?}");
    }
    let from: Vec<_> = forwards.iter().map(|forward| forward.headers["tallyman-partition"].as_str()).collect();
    assert_eq!(from.iter().filter(|partition| **partition == "1").count(), 2);
    assert_eq!(audit::letters(&kafka, &kafka.topics.dead_letters), []);
    let metrics = instance.metrics();
    for (outcome, count) in [("forwarded", 4.0), ("folded", 4.0)] {
        let told = metrics.get(&format!("tallyman_records_total{{outcome=\"{outcome}\"}}"));
        assert!(told >= count, "{outcome}: {told}");
    }
    assert_eq!(used(), "6.000000");
    instance.stop();
}
