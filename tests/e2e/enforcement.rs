//! Twenty orgs that cross their limits and come back by every means there is, on a real Kafka, with a processor that is killed on the
//! way and a gateway that is asked all the time. What is right is said by `oracle`, from the logs alone; `desk` asks the gateway.
//!
//! The processor is this test binary once more, as a child whose clock is a file: so it can be killed, and days and months pass at
//! once. Its input topics take the producer's timestamps.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tallyman::app::{App, Wiring};
use tallyman::clock::Clock;
use tallyman::config;
use tallyman::domain::time::Timestamp;
use tallyman::kafka::{KafkaSettings, OffsetKeeper, Producer, Sent, create_topics, read_topic};

use crate::audit;
use crate::desk::{Asker, Desk};
use crate::operations::make_topic;
use crate::oracle::Logs;
use crate::support::{Instance, PATIENCE, Site, kafka, wait_until};
use crate::verifier::Verifier;

const PARTITIONS: i32 = 4;
/// Monday 2025-03-10T12:00:00Z.
const NOON: i64 = 1_741_608_000_000_000;
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
/// 2025-04-01T00:00:00Z.
const APRIL: i64 = 1_743_465_600_000_000;
/// Checks against the truth after each step.
const CHECKS: u64 = 55_000;

/// Named by how each of them comes back.
const ORGS: [&str; 20] = [
    "adjustment",
    "adjustment-of-user",
    "budget-ended",
    "budget-exact",
    "budget-raised",
    "day-of-model",
    "day-of-user",
    "free",
    "grant-ended",
    "grant-started",
    "grant-void",
    "kolkata",
    "new-york",
    "no-policy",
    "policy-lower",
    "policy-raise",
    "purchase",
    "purchase-soft",
    "soft",
    "suspended",
];

const CHILD: &str = "enforcement::a_child_of_the_test_is_a_processor_whose_clock_is_a_file";
const CLOCK: &str = "TALLYMAN_E2E_CLOCK";
const CONFIG: &str = "TALLYMAN_E2E_CONFIG";

/// A clock that shows what a file says.
struct FileClock(PathBuf);

impl Clock for FileClock {
    fn read(&self) -> (Timestamp, Duration) {
        let micros: i64 = fs::read_to_string(&self.0).unwrap().parse().unwrap();
        (Timestamp::from_micros(micros), Duration::from_micros(micros.unsigned_abs()))
    }

    fn is_machine(&self) -> bool {
        false
    }
}

#[test]
fn a_child_of_the_test_is_a_processor_whose_clock_is_a_file() {
    let (Ok(clock), Ok(config)) = (std::env::var(CLOCK), std::env::var(CONFIG)) else { return };
    let text = fs::read_to_string(config).unwrap();
    let settings = config::resolve(Some(("tallyman.toml", &text)), []).unwrap();
    let clock = Arc::new(FileClock(clock.into()));
    let wiring = Wiring { clock, offsets: OffsetKeeper::Broker, check_topics: true, adopt_from: None };
    let app = App::start(&settings, wiring).unwrap();
    println!("started: http://{}", app.address());
    loop {
        std::thread::park();
    }
}

/// The log's pen, the clock, the processor and the gateway.
struct Stage {
    kafka: KafkaSettings,
    site: Site,
    producer: Producer,
    now: i64,
    records: u32,
    processor: Option<Instance>,
    kills: u32,
    desk: Desk,
    askers: Vec<Asker>,
    blocked: Vec<bool>,
}

impl Stage {
    fn set() -> Self {
        let kafka = kafka().settings("enforcement", PARTITIONS);
        let config = [("message.timestamp.type", "CreateTime"), ("retention.ms", "-1")];
        for topic in [&kafka.topics.usage, &kafka.topics.policies] {
            make_topic(&kafka.bootstrap_servers, topic, PARTITIONS, &config);
        }
        create_topics(&kafka).unwrap();
        let quick = ("kafka.client.\"session.timeout.ms\"", "\"1500\"");
        let site = Site::new(&kafka, &[("kafka.accept_topic_settings", "true"), quick]);
        let mut askers = Vec::new();
        for org in ORGS {
            for user in [None, Some("ada"), Some("bob"), Some("eve")] {
                askers.extend([None, Some("owl"), Some("sage")].map(|model| Asker { org, user, model }));
            }
        }
        let desk = Desk::open(&kafka, askers.clone());
        let producer = Producer::new(&kafka, "e2e").unwrap();
        let blocked = vec![false; askers.len()];
        let (processor, now, records, kills) = (None, NOON, 0, 0);
        let mut stage = Self { kafka, site, producer, now, records, processor, kills, desk, askers, blocked };
        stage.turn_to(NOON);
        stage.start();
        stage
    }

    fn turn_to(&mut self, at: i64) {
        self.now = at;
        fs::write(self.site.path("clock.new"), at.to_string()).unwrap();
        fs::rename(self.site.path("clock.new"), self.site.path("clock")).unwrap();
    }

    fn start(&mut self) {
        let (clock, config) = (self.site.path("clock"), self.site.path("tallyman.toml"));
        let program = std::env::current_exe().unwrap().display().to_string();
        let command = [
            "env".to_owned(),
            format!("{CLOCK}={}", clock.display()),
            format!("{CONFIG}={}", config.display()),
            program,
            CHILD.to_owned(),
            "--exact".to_owned(),
            "--nocapture".to_owned(),
        ];
        self.processor = Some(self.site.serve_as("processor", &command));
    }

    /// SIGKILL, wherever it stands.
    fn kill(&mut self) {
        self.processor.take().expect("it runs").kill();
        self.kills += 1;
    }

    fn send(&mut self, topic: &str, org: &str, value: &Value) {
        let value = value.to_string();
        let timestamp = Some(Timestamp::from_micros(self.now));
        let sent = Sent { key: Some(org.as_bytes()), value: Some(value.as_bytes()), timestamp, ..Sent::default() };
        self.producer.send(topic, &sent).unwrap();
    }

    fn terms(&mut self, kind: &str, org: &str, fields: &Value) {
        let mut record = json!({"type": kind, "org_id": org, "effective_at": self.now, "updated_by": "e2e"});
        let fields = fields.as_object().unwrap().clone();
        record.as_object_mut().unwrap().extend(fields);
        if kind == "PurchaseDeclined" {
            record
                .as_object_mut()
                .unwrap()
                .retain(|key, _| !["effective_at", "updated_by"].contains(&key.as_str()));
        }
        let topic = self.kafka.topics.policies.clone();
        self.send(&topic, org, &record);
    }

    fn policy(&mut self, org: &str, fields: &Value) {
        let mut all = json!({"plan": "team", "base_allocation": "100"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.terms("OrgPolicy", org, &all);
    }

    fn budget(&mut self, org: &str, fields: &Value) {
        let mut all = json!({"budget_id": "b", "name": "b", "period": "month", "action": "BLOCK"});
        all["thresholds"] = json!([50, 100]);
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.terms("Budget", org, &all);
    }

    fn grant(&mut self, org: &str, id: &str, credits: &str, fields: &Value) {
        let mut all = json!({"grant_id": id, "credits": credits, "kind": "pack", "priority": 0});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.terms("CreditGrant", org, &all);
    }

    /// Whole credits that a user spends on a model, in five records of which one comes twice.
    fn spend(&mut self, org: &str, (user, model): (&str, &str), credits: i64) {
        self.spend_at(org, (user, model), credits, self.now);
    }

    fn spend_at(&mut self, org: &str, (user, model): (&str, &str), credits: i64, occurred_at: i64) {
        let topic = self.kafka.topics.usage.clone();
        for _ in 0..5 {
            self.records += 1;
            let event = json!({
                "type": "UsageEvent", "event_id": self.records.to_string(), "source": "e2e", "occurred_at": occurred_at,
                "org_id": org, "product": "chat", "operation": "ask", "user_id": user, "model": model,
                "credits": format!("{}.{}", credits / 5, credits % 5 * 2),
            });
            self.send(&topic, org, &event);
            if self.records.is_multiple_of(5) {
                self.send(&topic, org, &event);
            }
        }
    }

    fn adjust(&mut self, org: &str, (user, model): (&str, &str), credits: &str) {
        self.records += 1;
        let adjusted = json!({
            "type": "UsageAdjusted", "adjustment_id": self.records.to_string(), "source": "e2e", "occurred_at": self.now,
            "org_id": org, "product": "chat", "operation": "ask", "user_id": user, "model": model, "credits": credits,
            "reason": "charged twice",
        });
        let topic = self.kafka.topics.usage.clone();
        self.send(&topic, org, &adjusted);
    }

    /// What the logs say now of each asker.
    fn truth(&self) -> Vec<bool> {
        let logs = Logs::read(&self.kafka);
        let of =
            |asker: &Asker| logs.view(asker.org, i64::MAX, i64::MAX, self.now).blocks(asker.user, asker.model);
        self.askers.iter().map(of).collect()
    }

    /// Waits until the gateway says what the logs say, holds it there, and tells which orgs crossed and which came back.
    fn expect(&mut self, step: &str, crossed: &[&'static str], back: &[&'static str]) {
        self.producer.flush(Duration::from_secs(30)).unwrap();
        if self.processor.is_none() {
            self.start();
        }
        let truth = self.truth();
        wait_until(&format!("the gateway to follow: {step}"), PATIENCE, || self.desk.verdicts() == truth);
        self.desk.hold(truth.clone(), CHECKS);
        let changed = |from: bool| -> BTreeSet<&str> {
            let pairs = self.askers.iter().zip(self.blocked.iter().zip(&truth));
            pairs.filter(|(_, (was, is))| **was == from && **is != from).map(|(asker, _)| asker.org).collect()
        };
        let set = |orgs: &[&'static str]| orgs.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(changed(false), set(crossed), "{step}: crossed");
        assert_eq!(changed(true), set(back), "{step}: came back");
        self.blocked = truth;
    }

    /// The purchases asked for so far: org and id.
    fn purchases(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        read_topic(&self.kafka, &self.kafka.topics.purchases, |record, _| {
            let asked: Value = serde_json::from_slice(record.value.unwrap()).unwrap();
            let text = |field: &str| asked[field].as_str().unwrap().to_owned();
            assert!(found.insert((text("org_id"), text("purchase_id"))), "asked for twice: {asked}");
        })
        .unwrap();
        found
    }
}

const ADA: (&str, &str) = ("ada", "sage");
const BOB: (&str, &str) = ("bob", "owl");

fn terms(stage: &mut Stage) {
    for org in ORGS.into_iter().filter(|org| *org != "no-policy") {
        let fields = match org {
            "soft" => json!({"limit_mode": "SOFT", "soft_extra": "20"}),
            "purchase" => {
                json!({"auto_purchase": {"at_percent": 80, "pack_credits": "50", "max_packs_per_period": 3}})
            }
            "purchase-soft" => json!({"limit_mode": "SOFT", "soft_extra": "10",
                "auto_purchase": {"at_percent": 100, "pack_credits": "25", "max_packs_per_period": 2}}),
            "free" => json!({"unlimited": true, "base_allocation": "0"}),
            "kolkata" | "day-of-user" => json!({"time_zone": "Asia/Kolkata"}),
            "new-york" => json!({"time_zone": "America/New_York"}),
            _ => json!({}),
        };
        stage.policy(org, &fields);
    }
    let ada = |limit: &str| json!({"dimension": "user", "value": "ada", "limit": limit});
    stage.budget("adjustment-of-user", &ada("20"));
    stage.budget("budget-raised", &ada("10"));
    stage.budget("day-of-model", &json!({"dimension": "model", "value": "sage", "limit": "10", "period": "day"}));
    stage.budget("day-of-user", &json!({"dimension": "user", "value": "*", "limit": "5", "period": "day"}));
    stage.budget("budget-exact", &json!({"dimension": "user", "value": "*", "limit": "0"}));
    stage.budget("budget-exact", &json!({"budget_id": "own", "dimension": "user", "value": "ada", "limit": "50"}));
    stage.budget("budget-ended", &json!({"limit": "40", "period": "week"}));
    let ends = json!({"effective_at": NOON - HOUR, "expires_at": NOON + 90 * MINUTE});
    stage.grant("grant-ended", "g", "50", &ends);
    stage.grant("grant-void", "g", "50", &json!({"effective_at": NOON - HOUR}));
    stage.expect("terms", &["budget-exact"], &[]);
}

fn usage(stage: &mut Stage) {
    for org in ORGS {
        stage.spend(org, ADA, 4);
        stage.spend(org, BOB, 3);
    }
    stage.expect("usage within the limits", &[], &[]);
    let crossing = [
        ("adjustment", 93),
        ("adjustment-of-user", 16),
        ("budget-ended", 33),
        ("budget-raised", 6),
        ("day-of-model", 6),
        ("grant-started", 93),
        ("kolkata", 93),
        ("new-york", 93),
        ("policy-raise", 93),
        ("purchase", 93),
        ("purchase-soft", 103),
        ("soft", 113),
    ];
    for (org, credits) in crossing {
        stage.spend(org, ADA, credits);
    }
    stage.spend("day-of-user", BOB, 2);
    for (org, credits) in [("grant-ended", 113), ("grant-void", 113), ("policy-lower", 53), ("free", 1000)] {
        stage.spend(org, ADA, credits);
    }
    stage.producer.flush(Duration::from_secs(30)).unwrap();
    stage.kill();
    let mut crossed = crossing.map(|(org, _)| org).to_vec();
    crossed.push("day-of-user");
    stage.expect("usage", &crossed, &[]);
}

/// The purchase that was asked for and is not among these.
fn asked(stage: &Stage, known: &BTreeSet<(String, String)>, org: &str) -> String {
    let mut id = None;
    wait_until(&format!("{org} to ask for a pack"), PATIENCE, || {
        id = stage.purchases().difference(known).find(|(of, _)| of == org).map(|(_, id)| id.clone());
        id.is_some()
    });
    id.unwrap()
}

fn purchases(stage: &mut Stage) {
    for (org, credits) in [("purchase", "50"), ("purchase-soft", "25")] {
        let id = asked(stage, &BTreeSet::new(), org);
        stage.grant(org, &id, credits, &json!({"kind": "purchase"}));
    }
    stage.expect("purchases answered by grants", &[], &["purchase", "purchase-soft"]);
}

fn corrections_and_policies(stage: &mut Stage) {
    stage.adjust("adjustment", ADA, "-0.5");
    stage.adjust("adjustment-of-user", ADA, "-0.000001");
    stage.expect("corrections", &[], &["adjustment", "adjustment-of-user"]);
    stage.policy("policy-raise", &json!({"base_allocation": "200"}));
    stage.policy("policy-lower", &json!({"base_allocation": "50"}));
    stage.policy("suspended", &json!({"status": "suspended"}));
    stage.producer.flush(Duration::from_secs(30)).unwrap();
    stage.kill();
    stage.expect("policies", &["policy-lower", "suspended"], &["policy-raise"]);
    stage.policy("policy-lower", &json!({"base_allocation": "80"}));
    stage.policy("suspended", &json!({}));
    stage.expect("policies again", &[], &["policy-lower", "suspended"]);
}

fn budgets_and_grants(stage: &mut Stage) {
    stage.budget("budget-raised", &json!({"dimension": "user", "value": "ada", "limit": "30"}));
    stage.budget("budget-exact", &json!({"dimension": "user", "value": "*", "limit": "25"}));
    let ends = json!({"limit": "40", "period": "week", "expires_at": NOON + 30 * MINUTE});
    stage.budget("budget-ended", &ends);
    stage.grant("grant-started", "g", "10", &json!({"effective_at": NOON + 40 * MINUTE}));
    stage.expect("budgets", &[], &["budget-exact", "budget-raised"]);
    stage.kill();
    stage.turn_to(NOON + 45 * MINUTE);
    stage.expect("a budget ended, a grant started", &[], &["budget-ended", "grant-started"]);
    stage.grant("grant-void", "g", "50", &json!({"voided_at": NOON + 80 * MINUTE}));
    stage.turn_to(NOON + 2 * HOUR - 1);
    stage.expect("the hour of a grant's end", &[], &[]);
    stage.turn_to(NOON + 2 * HOUR);
    stage.expect("grants ended", &["grant-ended", "grant-void"], &[]);
    stage.grant("grant-ended", "more", "10", &json!({"kind": "promo"}));
    stage.grant("grant-void", "more", "10", &json!({"kind": "goodwill"}));
    stage.expect("grants", &[], &["grant-ended", "grant-void"]);
}

fn again_and_days(stage: &mut Stage) {
    let known = stage.purchases();
    stage.spend("policy-raise", BOB, 100);
    stage.spend("purchase", BOB, 50);
    stage.adjust("adjustment", BOB, "0.5");
    stage.producer.flush(Duration::from_secs(30)).unwrap();
    stage.kill();
    stage.expect("usage again", &["adjustment", "policy-raise", "purchase"], &[]);
    let second = asked(stage, &known, "purchase");
    let known = stage.purchases();
    stage.terms("PurchaseDeclined", "purchase", &json!({"purchase_id": second, "reason": "no card"}));
    stage.producer.flush(Duration::from_secs(30)).unwrap();
    let third = asked(stage, &known, "purchase");
    stage.grant("purchase", &third, "50", &json!({"kind": "purchase"}));
    stage.expect("the third purchase, after the second was declined", &[], &["purchase"]);
    // Midnight in India is at half past: the day turns with the next whole hour.
    stage.turn_to(NOON + 7 * HOUR - 1);
    stage.expect("before the day ends in India", &[], &[]);
    stage.turn_to(NOON + 7 * HOUR);
    stage.expect("the day ends in India", &[], &["day-of-user"]);
    stage.kill();
    stage.turn_to(NOON + 12 * HOUR);
    stage.expect("the day ends in UTC", &[], &["day-of-model"]);
    stage.spend_at("day-of-model", ADA, 20, NOON);
    stage.expect("usage of yesterday", &[], &[]);
}

fn periods(stage: &mut Stage) {
    stage.turn_to(APRIL - 5 * HOUR - 1);
    stage.expect("before the month ends in India", &[], &[]);
    stage.turn_to(APRIL - 5 * HOUR);
    stage.expect("the month ends in India", &[], &["kolkata"]);
    stage.kill();
    stage.turn_to(APRIL);
    stage.expect("the month ends in UTC", &[], &["adjustment", "policy-raise", "soft"]);
    stage.turn_to(APRIL + 4 * HOUR);
    stage.expect("the month ends in New York", &[], &["new-york"]);
    stage.spend_at("soft", ADA, 30, NOON);
    // Three of the ten credits that the grant carried over.
    stage.spend_at("grant-started", ADA, 3, NOON);
    stage.expect("usage of March", &[], &[]);
    stage.spend("soft", ADA, 120);
    stage.spend("day-of-model", ADA, 10);
    stage.spend("grant-started", ADA, 107);
    stage.expect("usage of April", &["day-of-model", "grant-started", "soft"], &[]);
    stage.adjust("soft", ADA, "-20");
    stage.expect("back into overage", &[], &["soft"]);
}

#[test]
fn every_decision_and_every_verdict_is_what_the_logs_say() {
    let mut stage = Stage::set();
    terms(&mut stage);
    usage(&mut stage);
    purchases(&mut stage);
    corrections_and_policies(&mut stage);
    budgets_and_grants(&mut stage);
    again_and_days(&mut stage);
    periods(&mut stage);
    stage.kill();
    let (checks, settled) = stage.desk.close();
    assert!(settled >= 1_000_000, "{settled} checks were held against the logs");
    let decided = Verifier::new(&stage.kafka).verify(&stage.kafka);
    assert_eq!(stage.kills, 7);
    assert_eq!(audit::letters(&stage.kafka, &stage.kafka.topics.dead_letters), []);
    println!("{checks} checks, {settled} of them against the logs, {decided} decisions, {} kills", stage.kills);
}
