//! What is spent beyond a limit, and what a guard makes of it, on a real Kafka on this machine: at each rate without a guard
//! and with one that looks ahead by the p99 of the run before. Every org spends steadily, as it did in the five minutes
//! before, until a gateway that follows the decisions says BLOCK.
//!
//! `cargo bench --profile release --bench overshoot`. It needs the servers that `make setup` fetches, starts its own broker
//! and ends by itself after about two minutes.
#![expect(clippy::cast_precision_loss, reason = "credits and times are told in a few digits")]

mod instance;
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use instance::{PARTITIONS, start, wait_until_ready};
use support::kafka::Kafka;
use tallyman::app::bench::send_policy;
use tallyman::cli::generator::{Generator, Load};
use tallyman::clock::{Clock as _, SystemClock};
use tallyman::codec::{ValueEncoding, encode_usage};
use tallyman::domain::credits::Credits;
use tallyman::domain::time::Timestamp;
use tallyman::gateway::table::{Request, Rules};
use tallyman::gateway::{Gateway, Source};
use tallyman::kafka::{KafkaSettings, Producer, Sent};

const ORGS: u32 = 100;
/// What each event costs.
const CREDIT: i64 = 1_000_000;
/// The first org's limit is reached after so long, the others' over so long behind it.
const FIRST: Duration = Duration::from_secs(5);
const SPREAD: Duration = Duration::from_secs(10);
/// How long the last block is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let kafka = Kafka::shared();
    println!("{ORGS} orgs, 1 credit an event, limits of a little over five minutes of usage");
    println!(
        "| events/s | guard | heard after p50 / p99 | overshoot mean / max | of the limit | unused mean / max | of the limit |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    // One rate as an argument makes a short run.
    let asked: Option<u32> = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    for rate in asked.map_or_else(|| vec![1_000, 5_000, 15_000], |rate| vec![rate]) {
        let took = run(kafka, rate, None);
        // To whole tens of milliseconds, upwards.
        let tens = took.as_millis().div_ceil(10).max(1);
        run(kafka, rate, Some(Duration::from_millis(u64::try_from(tens * 10).expect("seconds"))));
    }
}

/// One org as its services see it.
struct Spender {
    org: String,
    /// Credits of its limit, and spent so far.
    limit: i64,
    spent: i64,
    /// When what was spent reached the limit.
    crossed: Option<Instant>,
    heard: Option<Instant>,
}

/// Writes usage.
struct Writer<'a> {
    kafka: &'a KafkaSettings,
    producer: Producer,
    generator: Generator,
    value: Vec<u8>,
}

impl Writer<'_> {
    fn send(&mut self, org: &str, credits: i64, at: Timestamp) {
        let mut event = self.generator.next(at);
        event.org_id = org.into();
        event.content_id = None;
        event.credits = Credits::from_micros(credits * CREDIT).expect("within bounds");
        self.value.clear();
        encode_usage(&event, ValueEncoding::SingleObject, &mut self.value);
        let sent =
            Sent { key: Some(org.as_bytes()), value: Some(&self.value), timestamp: Some(at), ..Sent::default() };
        self.producer.send(&self.kafka.topics.usage, &sent).expect("the broker takes it");
    }
}

/// One run; gives the p99 of the time from the event that reached a limit to its block at the gateway.
fn run(kafka: &Kafka, rate: u32, guard: Option<Duration>) -> Duration {
    let kafka = kafka.with_topics("bench-overshoot", PARTITIONS);
    let producer = Producer::new(&kafka, "bench").expect("a producer");
    let each = i64::from(rate / ORGS);
    let mut spenders: Vec<Spender> = (0..ORGS)
        .map(|number| {
            let live = FIRST + SPREAD * number / ORGS;
            let limit =
                each * 300 + i64::try_from(u128::from(rate / ORGS) * live.as_millis() / 1000).expect("small");
            Spender { org: format!("org-{number:04}"), limit, spent: 0, crossed: None, heard: None }
        })
        .collect();
    for spender in &spenders {
        send_policy(&kafka, &producer, &spender.org, spender.limit * CREDIT, vec![100])
            .expect("the broker takes it");
    }
    let load = Load { duplicates: 0.0, ..Load::new(u64::from(rate), ORGS) };
    let mut writer = Writer { kafka: &kafka, producer, generator: Generator::new(load), value: Vec::new() };
    // The five minutes before, in steps of thirty seconds.
    let now = SystemClock.now();
    for step in 0..10 {
        for spender in &mut spenders {
            writer.send(&spender.org, each * 30, now.plus_micros((step * 30 - 300) * 1_000_000));
            spender.spent += each * 30;
        }
    }
    writer.producer.flush(Duration::from_secs(60)).expect("all arrive");

    let dir = tempfile::tempdir().expect("a folder");
    let limits = guard.map(|guard| format!("guard = \"{}ms\"\n", guard.as_millis())).unwrap_or_default();
    let app = start(&kafka, dir.path(), &limits, None);
    wait_until_ready(&app);
    let gateway = Gateway::start(Source::new(kafka.clone()), Rules::default()).expect("a gateway");
    gateway.wait_until_ready(Duration::from_secs(30)).expect("it reads the decisions");
    spend(&mut writer, &gateway, &mut spenders, each);
    writer.producer.flush(Duration::from_secs(60)).expect("all arrive");
    drop(gateway);
    app.stop().expect("the instance drains");
    told(rate, guard, &spenders)
}

/// Lets each org spend `each` credits a second until the gateway blocks it.
fn spend(writer: &mut Writer<'_>, gateway: &Gateway, spenders: &mut [Spender], each: i64) {
    let before: Vec<i64> = spenders.iter().map(|spender| spender.spent).collect();
    let started = Instant::now();
    while spenders.iter().any(|spender| spender.heard.is_none()) {
        assert!(started.elapsed() < PATIENCE, "a limit was reached and nobody was told");
        // Orgs are out of step with one another, as services are.
        for (number, spender) in (0..).zip(&mut *spenders).filter(|(_, spender)| spender.heard.is_none()) {
            let elapsed = i64::try_from(started.elapsed().as_micros()).expect("a minute");
            let due = (elapsed * each + 1_000_000 * number / i64::from(ORGS)) / 1_000_000;
            while spender.spent - before[usize::try_from(number).expect("small")] < due {
                if gateway.check(&Request::of(&spender.org)).is_blocked() {
                    break;
                }
                writer.send(&spender.org, 1, SystemClock.now());
                spender.spent += 1;
                if spender.spent >= spender.limit && spender.crossed.is_none() {
                    spender.crossed = Some(Instant::now());
                }
            }
            if gateway.check(&Request::of(&spender.org)).is_blocked() {
                spender.heard = Some(Instant::now());
            }
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn told(rate: u32, guard: Option<Duration>, spenders: &[Spender]) -> Duration {
    let took = |spender: &Spender| Some(spender.heard? - spender.crossed?);
    let mut took: Vec<Duration> = spenders.iter().filter_map(took).collect();
    took.sort();
    let at = |percent: usize| took.get((took.len().max(1) - 1) * percent / 100).copied().unwrap_or_default();
    // Mean and max, in credits and in percent of the limit.
    let of = |beyond: &dyn Fn(&Spender) -> i64| {
        let beyond = spenders.iter().map(|spender| (beyond(spender).max(0) as f64, spender.limit as f64));
        let mean = |values: f64| values / f64::from(ORGS);
        let (sum, percent, max) = beyond.fold((0.0, 0.0, 0.0_f64), |(sum, percent, max), (credits, limit)| {
            (sum + credits, percent + credits * 100.0 / limit, max.max(credits))
        });
        format!("{:.1} / {max:.0} | {:.3} %", mean(sum), mean(percent))
    };
    let guard = guard.map_or("off".to_owned(), |guard| format!("{} ms", guard.as_millis()));
    let heard = match took.len() {
        0 => "-".to_owned(),
        _ => format!("{} / {} ms", at(50).as_millis(), at(99).as_millis()),
    };
    println!(
        "| {rate} | {guard} | {heard} ({} of {ORGS}) | {} | {} |",
        took.len(),
        of(&|spender| spender.spent - spender.limit),
        of(&|spender| spender.limit - spender.spent)
    );
    at(99)
}
