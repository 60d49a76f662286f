//! What time and terms alone decide: the library in process, its clock turned by hand, on a log whose timestamps the producer sets.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tallyman::app::{App, Wiring};
use tallyman::clock::ManualClock;
use tallyman::domain::time::Timestamp;
use tallyman::kafka::{KafkaSettings, OffsetKeeper, Producer, Sent, create_topics};

use crate::audit;
use crate::operations::make_topic;
use crate::support::{PATIENCE, Site, get, kafka, wait_for};

/// 2025-03-10T12:00:00Z: a broker takes timestamps of the past.
const NOON: i64 = 1_741_608_000_000_000;
const HOUR: i64 = 3_600_000_000;
/// 2025-04-01T00:00:00Z.
const APRIL: i64 = 1_743_465_600_000_000;

/// Topics of one partition; those that are read take the producer's timestamps.
fn topics() -> KafkaSettings {
    let settings = kafka().settings("rollover", 1);
    let config = [("message.timestamp.type", "CreateTime"), ("retention.ms", "-1")];
    for topic in [&settings.topics.usage, &settings.topics.policies] {
        make_topic(&settings.bootstrap_servers, topic, 1, &config);
    }
    create_topics(&settings).unwrap();
    settings
}

/// An instance with a clock, and the pen that writes its log.
struct Stage {
    app: App,
    clock: ManualClock,
    now: i64,
    producer: Producer,
    kafka: KafkaSettings,
    events: u32,
    _site: Site,
}

impl Stage {
    fn set() -> Self {
        let kafka = topics();
        let site = Site::new(&kafka, &[("kafka.accept_topic_settings", "true")]);
        let clock = ManualClock::new(Timestamp::from_micros(NOON));
        let wiring = Wiring {
            clock: Arc::new(clock.clone()),
            offsets: OffsetKeeper::Broker,
            check_topics: true,
            adopt_from: None,
        };
        let app = App::start(&site.settings(), wiring).unwrap();
        let producer = Producer::new(&kafka, "e2e").unwrap();
        Self { app, clock, now: NOON, producer, kafka, events: 0, _site: site }
    }

    fn turn_to(&mut self, at: i64) {
        self.now = at;
        self.clock.set(Timestamp::from_micros(at));
    }

    fn send(&self, topic: &str, value: &Value) {
        let value = value.to_string();
        let sent = Sent {
            key: Some(b"roll"),
            value: Some(value.as_bytes()),
            timestamp: Some(Timestamp::from_micros(self.now)),
            ..Sent::default()
        };
        self.producer.send(topic, &sent).unwrap();
        self.producer.flush(Duration::from_secs(30)).unwrap();
    }

    fn policy(&self, base: &str, effective_at: i64, status: &str) {
        let policy = json!({
            "type": "OrgPolicy", "org_id": "roll", "plan": "team", "base_allocation": base, "status": status,
            "effective_at": effective_at, "updated_by": "e2e",
        });
        self.send(&self.kafka.topics.policies, &policy);
    }

    fn usage(&mut self, record: &str, credits: &str) {
        self.events += 1;
        let id = format!("{record}-{}", self.events);
        let mut event = json!({
            "type": record, "source": "e2e", "occurred_at": self.now, "org_id": "roll", "product": "chat",
            "operation": "completion", "credits": credits,
        });
        let id_field = if record == "UsageEvent" { "event_id" } else { "adjustment_id" };
        event[id_field] = id.into();
        if record == "UsageAdjusted" {
            event["reason"] = "e2e".into();
        }
        self.send(&self.kafka.topics.usage, &event);
    }

    /// Waits until the org's decision says so.
    fn expect(&self, action: &str, reason: &str, allowance: &str, used: &str) {
        let url = format!("http://{}/v1/orgs/roll/decisions", self.app.address());
        let mut last = Value::Null;
        let what = format!("{action} {reason} of {allowance} with {used} used");
        wait_for(&what, PATIENCE, || {
            let (status, body) = get(&url);
            last = if status == 200 { serde_json::from_str(&body).unwrap() } else { Value::Null };
            let decision = &last["decisions"][0];
            let told =
                ["action", "reason", "allowance", "used"].map(|field| decision[field].as_str().unwrap_or(""));
            (told == [action, reason, allowance, used]).then_some(())
        });
    }
}

#[test]
fn time_and_terms_alone_change_decisions() {
    let mut stage = Stage::set();
    stage.policy("10", NOON - 24 * HOUR, "active");
    stage.usage("UsageEvent", "10");
    stage.expect("BLOCK", "ALLOWANCE_SPENT", "10.000000", "10.000000");
    // The period ends: no record says so.
    stage.turn_to(APRIL - 1_000_000);
    stage.policy("100", APRIL + 5 * HOUR, "active");
    stage.turn_to(APRIL);
    stage.expect("ALLOW", "WITHIN_ALLOWANCE", "10.000000", "0.000000");
    // A policy of the future begins to hold: likewise.
    stage.turn_to(APRIL + 5 * HOUR);
    stage.expect("ALLOW", "WITHIN_ALLOWANCE", "100.000000", "0.000000");
    stage.policy("100", stage.now, "suspended");
    stage.expect("BLOCK", "SUSPENDED", "100.000000", "0.000000");
    stage.policy("100", stage.now, "active");
    stage.expect("ALLOW", "WITHIN_ALLOWANCE", "100.000000", "0.000000");
    stage.turn_to(APRIL + 6 * HOUR);
    stage.usage("UsageEvent", "100.5");
    stage.expect("BLOCK", "ALLOWANCE_SPENT", "100.000000", "100.500000");
    stage.policy("200", stage.now, "active");
    stage.expect("ALLOW", "WITHIN_ALLOWANCE", "200.000000", "100.500000");
    stage.usage("UsageEvent", "99.5");
    stage.expect("BLOCK", "ALLOWANCE_SPENT", "200.000000", "200.000000");
    stage.usage("UsageAdjusted", "-0.000001");
    stage.expect("ALLOW", "WITHIN_ALLOWANCE", "200.000000", "199.999999");
    // A correction of March is of March.
    stage.turn_to(APRIL + 7 * HOUR);

    let mut kinds: Vec<_> = audit::alerts(&stage.kafka).iter().map(|alert| alert["kind"].clone()).collect();
    let alerts = kinds.len();
    kinds.retain(|kind| kind != "DEPLETION_FORECAST");
    assert_eq!(alerts - kinds.len(), 1, "at 100.5 credits an hour 200 do not last for a month: told once a day");
    let expected =
        ["BLOCKED", "UNBLOCKED", "BLOCKED", "UNBLOCKED", "BLOCKED", "UNBLOCKED", "BLOCKED", "UNBLOCKED"];
    assert_eq!(kinds, expected, "thresholds that are jumped over at a block are no alerts of their own");
    let decisions = audit::decisions(&stage.kafka);
    assert_eq!(audit::letters(&stage.kafka, &stage.kafka.topics.dead_letters), []);
    println!("{} decisions", decisions.len());
    stage.app.stop().unwrap();
}
