//! One log with everything in it: limits that are crossed, lifted and renewed, duplicates, late records, content, and a
//! record of every kind that cannot be folded. Phases follow one another as a producer would write them.

use crate::in_memory::{POLICIES, USAGE};
use serde_json::{Value, json};
use tallyman::domain::terms::purchase_id::purchase_id;
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::murmur2::partition_of;
use tallyman::processor::intake::FIRST_TIMESTAMP;
use tallyman::processor::ports::Rebalance;

use crate::support::{DAY, HOUR, PARTITIONS, START, World};

/// The `nth` org whose records belong in `partition`.
pub fn org_in(partition: i32, nth: usize) -> String {
    let named = (0..).map(|number| format!("org-{number}"));
    named.filter(|org| partition_of(org.as_bytes(), PARTITIONS) == partition).nth(nth).unwrap()
}

/// HARD, 10 credits; partition 0.
pub fn hard() -> String {
    org_in(0, 0)
}
/// SOFT, 10 credits and 5 more; partition 1.
pub fn soft() -> String {
    org_in(1, 0)
}
/// Without a policy; partition 0.
pub fn free() -> String {
    org_in(0, 1)
}
/// Suspended; partition 1.
pub fn suspended() -> String {
    org_in(1, 1)
}

/// HARD, 10 credits, with a promotion that ends and packs bought by itself; partition 0.
pub fn buyer() -> String {
    org_in(0, 2)
}

/// The partition of an org's records.
pub fn home(org: &str) -> i32 {
    partition_of(org.as_bytes(), PARTITIONS)
}

/// A usage event of `credits` as people write them.
pub fn usage(id: &str, org: &str, credits: &str, at: Timestamp) -> Value {
    json!({
        "type": "UsageEvent", "event_id": id, "source": "sim", "occurred_at": at.micros(), "org_id": org,
        "product": "chat", "operation": "answer", "model": "m1", "user_id": format!("u{}", id.len() % 3),
        "credits": credits, "multiplier": "2.0", "input_tokens": 7, "latency_ms": 120,
    })
}

/// A policy in force from the start on.
pub fn policy(org: &str, base: &str) -> Value {
    json!({
        "type": "OrgPolicy", "org_id": org, "plan": "p", "base_allocation": base,
        "effective_at": START.plus_micros(-DAY).micros(), "updated_by": "sim",
    })
}

/// A grant of the buyer's from the start on.
pub fn grant(id: &str, credits: &str, others: &Value) -> Value {
    let grant = json!({
        "type": "CreditGrant", "org_id": buyer(), "grant_id": id, "credits": credits, "kind": "pack", "priority": 1,
        "effective_at": START.plus_micros(-DAY).micros(), "updated_by": "sim",
    });
    with(grant, others)
}

/// `value` with the fields of `others` in place of its own.
pub fn with(mut value: Value, others: &Value) -> Value {
    let fields = value.as_object_mut().unwrap();
    fields.extend(others.as_object().unwrap().clone());
    value
}

impl World {
    /// Appends a record in its org's partition.
    pub fn put(&self, topic: &'static str, value: &Value) {
        let org = value["org_id"].as_str().unwrap();
        self.put_raw(topic, home(org), Some(org), Some(value.to_string().as_bytes()));
    }

    /// Appends any bytes.
    pub fn put_raw(&self, topic: &'static str, partition: i32, key: Option<&str>, value: Option<&[u8]>) {
        self.log.append(topic, partition, self.now(), key.map(str::as_bytes), value, Vec::new());
    }

    /// Appends a usage event of now.
    pub fn spend(&self, id: &str, org: &str, credits: &str) {
        self.put(USAGE, &usage(id, org, credits, self.now()));
    }
}

/// What is written next, before a worker of that client id settles; rows and last decisions depend on nothing else.
pub type Phase = fn(&World, &str);

/// All phases in order.
pub const PHASES: &[Phase] = &[
    |world, _| terms(world),
    |world, _| first_usage(world),
    |world, client| {
        bad_records(world);
        world.log.rebalance(client, Rebalance::Revoked(vec![1]));
        world.log.rebalance(client, Rebalance::Assigned(vec![1]));
    },
    |world, _| content(world),
    |world, _| packs(world),
    |world, _| corrections(world),
    |world, _| world.set_now(START.plus_micros(7 * HOUR)),
    |world, _| world.set_now(START.plus_micros(11 * DAY)),
    |world, _| next_period(world),
    |world, _| last_terms(world),
];

fn terms(world: &World) {
    world.put(POLICIES, &policy(&hard(), "10"));
    world.put(POLICIES, &with(policy(&soft(), "10"), &json!({"limit_mode": "SOFT", "soft_extra": "5"})));
    world.put(POLICIES, &with(policy(&suspended(), "10"), &json!({"status": "suspended"})));
    let packs = json!({"at_percent": 80, "pack_credits": "5", "max_packs_per_period": 2});
    world.put(POLICIES, &with(policy(&buyer(), "10"), &json!({"auto_purchase": packs})));
    // Spent before anything else, and what is left of it ends six hours later.
    world.put(POLICIES, &grant("promo", "1", &json!({"expires_at": START.plus_micros(6 * HOUR).micros()})));
    world.put_raw(POLICIES, 0, Some("x"), Some(b"{nothing"));
    world.put_raw(POLICIES, 1, Some("x"), None);
    // It takes effect in the next phase, wherever it stands.
    let foreign = policy(&org_in(1, 2), "1");
    world.put_raw(POLICIES, 0, Some("elsewhere"), Some(foreign.to_string().as_bytes()));
}

fn first_usage(world: &World) {
    world.set_now(START.plus_micros(HOUR));
    for number in 0..9 {
        world.spend(&format!("h{number}"), &hard(), "1.1");
        world.spend(&format!("s{number}"), &soft(), "1.9");
    }
    world.spend("h3", &hard(), "1.1");
    world.spend("p1", &buyer(), "9");
    world.spend("f0", &free(), "3");
    world.spend("b0", &suspended(), "0.000001");
    world.spend("p0", &org_in(1, 2), "2");
    let foreign = usage("h-foreign", &hard(), "0.5", world.now());
    world.put_raw(USAGE, 1, Some(&hard()), Some(foreign.to_string().as_bytes()));
    let keyless = usage("s-keyless", &soft(), "0.25", world.now());
    world.put_raw(USAGE, 1, None, Some(keyless.to_string().as_bytes()));
}

fn bad_records(world: &World) {
    world.set_now(START.plus_micros(2 * HOUR));
    let (now, org) = (world.now(), hard());
    world.put_raw(USAGE, 0, Some(&org), Some(b"nonsense"));
    world.put_raw(USAGE, 1, None, None);
    world.put_raw(USAGE, 0, Some(&org), Some(&[0xc3, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    let good = |id: &str| usage(id, &org, "1", now);
    let bad = [
        with(good("x1"), &json!({"product": ""})),
        with(good("x2"), &json!({"credits": "1.0000001"})),
        with(good("x3"), &json!({"occurred_at": now.plus_micros(HOUR).micros()})),
        with(good("x4"), &json!({"occurred_at": now.plus_micros(-91 * DAY).micros()})),
        with(good("h1"), &json!({"credits": "7"})),
        with(good("x5"), &json!({"credits": "1000000001"})),
        with(good("x6"), &json!({"type": "Nonsense"})),
    ];
    for value in &bad {
        world.put(USAGE, value);
    }
    let marked = vec![(FIRST_TIMESTAMP.to_owned(), now.micros().to_string().into_bytes())];
    let astray = good("x7").to_string();
    world.log.append(USAGE, 1, now, Some(org.as_bytes()), Some(astray.as_bytes()), marked);
    world.put(USAGE, &usage("h-late", &org, "0.125", now.plus_micros(-60 * DAY)));
}

fn content(world: &World) {
    world.set_now(START.plus_micros(3 * HOUR));
    for (id, org) in [("c1", hard()), ("c2", soft())] {
        for attempt in 0..3 {
            let event = usage(&format!("{id}-{attempt}"), &org, "0.01", world.now());
            world.put(USAGE, &with(event, &json!({"content_id": id})));
        }
        for (number, outcome) in ["accepted", "published"].iter().enumerate() {
            let told = json!({
                "type": "OutcomeRecorded", "outcome_id": format!("{id}-o{number}"), "source": "sim",
                "occurred_at": world.now().plus_micros(HOUR * i64::try_from(number).unwrap() - HOUR).micros(),
                "org_id": org, "content_id": id, "outcome": outcome, "rating": 4, "value": "2.5",
            });
            world.put(USAGE, &told);
        }
        let late = usage(&format!("{id}-late"), &org, "0.02", world.now());
        world.put(USAGE, &with(late, &json!({"content_id": id})));
    }
}

/// The first pack is bought and comes, the second is asked for and declined.
fn packs(world: &World) {
    world.set_now(START.plus_micros(3 * HOUR + HOUR / 2));
    world.put(POLICIES, &grant(&pack(1), "5", &json!({"kind": "purchase"})));
    world.spend("p2", &buyer(), "5");
    let declined = json!({
        "type": "PurchaseDeclined", "org_id": buyer(), "purchase_id": pack(2), "reason": "no money",
    });
    world.put(POLICIES, &declined);
}

/// The id of the buyer's `ordinal`th purchase in the first period.
pub fn pack(ordinal: i32) -> String {
    let start = "2026-11-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    purchase_id(&buyer(), Timestamp::from_micros(start.as_microsecond()), ordinal)
}

fn corrections(world: &World) {
    world.set_now(START.plus_micros(4 * HOUR));
    for (org, credits) in [(hard(), "-3.5"), (soft(), "-9.75"), (buyer(), "-2")] {
        let correction = json!({
            "type": "UsageAdjusted", "adjustment_id": format!("a-{org}"), "source": "sim",
            "occurred_at": START.plus_micros(HOUR).micros(), "org_id": org, "product": "chat", "operation": "answer",
            "credits": credits, "events": -1, "reason": "a refund",
        });
        world.put(USAGE, &correction);
        world.put(USAGE, &correction);
    }
}

fn next_period(world: &World) {
    world.set_now(START.plus_micros(11 * DAY + HOUR));
    world.spend("h1", &hard(), "8");
    world.spend("s1", &soft(), "11");
    world.put(USAGE, &usage("h-old-period", &hard(), "4", START));
}

/// The last decision of each org with a policy is made of all its usage, however it came.
fn last_terms(world: &World) {
    world.set_now(START.plus_micros(11 * DAY + 2 * HOUR));
    for (org, base) in [(hard(), "4"), (soft(), "100"), (suspended(), "3"), (org_in(1, 2), "9")] {
        world.put(POLICIES, &with(policy(&org, base), &json!({"effective_at": world.now().micros()})));
    }
}
