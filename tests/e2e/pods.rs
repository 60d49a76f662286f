//! What one org's pods do together: each asks a gateway of its own before each request, and all spend from one allowance. Each has a
//! loop that ends with the first block; the log says what came of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tallyman::domain::credits::CreditSum;
use tallyman::domain::limits::decision::{Action, LimitDecision};
use tallyman::gateway::table::{Request, Rules};
use tallyman::gateway::{Gateway, Source};
use tallyman::kafka::{KafkaSettings, Producer, Sent};

use crate::audit;
use crate::support::{PATIENCE, Site, kafka, wait_until};

const PODS: usize = 4;
const LIMIT: i64 = 200;

/// Spends a credit a request until it is told to stop: how many, and what it was told.
fn pod(kafka: &KafkaSettings, gateway: &Gateway, number: usize) -> (i64, LimitDecision) {
    let producer = Producer::new(kafka, "pod").unwrap();
    for spent in 0..100_000 {
        let verdict = gateway.check(&Request::of("acme"));
        if verdict.is_blocked() {
            return (spent, verdict.decision().unwrap());
        }
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        let event = json!({
            "type": "UsageEvent", "event_id": format!("{number}-{spent}"), "source": "pod", "occurred_at": now,
            "org_id": "acme", "product": "chat", "operation": "ask", "credits": "1",
        });
        let value = event.to_string();
        let sent = Sent { key: Some(b"acme"), value: Some(value.as_bytes()), ..Sent::default() };
        producer.send(&kafka.topics.usage, &sent).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
    }
    panic!("pod {number} is never blocked");
}

#[test]
fn pods_overshoot_by_what_is_in_flight_alone_and_none_is_blocked_before_the_limit() {
    let kafka = kafka().with_topics("pods", 2);
    let site = Site::new(&kafka, &[]);
    site.apply(&format!("type: OrgPolicy\norg_id: acme\nplan: team\nbase_allocation: {LIMIT}\n"));
    let instance = site.run();
    instance.wait_until_ready(PATIENCE);
    let gateways: Vec<Gateway> =
        (0..PODS).map(|_| Gateway::start(Source::new(kafka.clone()), Rules::default()).unwrap()).collect();
    gateways.iter().for_each(|gateway| gateway.wait_until_ready(PATIENCE).unwrap());
    let told: Vec<(i64, LimitDecision)> = std::thread::scope(|scope| {
        let kafka = &kafka;
        let pods = gateways.iter().enumerate();
        let pods: Vec<_> =
            pods.map(|(number, gateway)| scope.spawn(move || pod(kafka, gateway, number))).collect();
        pods.into_iter().map(|pod| pod.join().unwrap()).collect()
    });
    let spent: i64 = told.iter().map(|(spent, _)| spent).sum();
    assert!(told.iter().all(|(spent, _)| *spent > 0), "each of them was served: {told:?}");
    for (_, decision) in &told {
        assert_eq!(decision.level.action, Action::Block);
        assert!(decision.figures.used >= CreditSum::whole(LIMIT), "blocked too early: {decision:?}");
        assert_eq!(decision, &told[0].1, "one decision for all of them");
    }

    // What lies beyond the limit is known to the credit once the block ends, and counted once.
    site.wait_for_the_end(PATIENCE);
    site.apply("type: OrgPolicy\norg_id: acme\nplan: team\nbase_allocation: 100000\n");
    for gateway in &gateways {
        wait_until("a pod to be served again", PATIENCE, || !gateway.check(&Request::of("acme")).is_blocked());
    }
    let decisions = audit::decisions(&kafka);
    assert_eq!(
        decisions.last().unwrap().figures.used,
        CreditSum::whole(spent),
        "nothing is lost or counted twice"
    );
    let metrics = instance.metrics();
    let overshoot = metrics.sum("tallyman_overshoot_credits_sum");
    assert_eq!(metrics.sum("tallyman_overshoot_credits_count").to_string(), "1");
    assert_eq!(overshoot.to_string(), (spent - LIMIT).to_string());
    println!("{PODS} pods, limit {LIMIT}, overshoot {overshoot}");
    instance.stop();
}
