//! The whole processor on a real Kafka, on this machine: records a second of a full drain beside a raw batch drain of the
//! same topic, and the time from producing an event to seeing the decision that it causes, at two rates.
//!
//! `cargo bench --profile release --bench kafka [-- EVENTS]`; EVENTS of the drain, 2,000,000 by default. It needs the
//! servers that `make setup` fetches, starts its own broker and ends by itself after about three minutes.
#![expect(clippy::cast_precision_loss, reason = "rates are told in whole records")]

mod instance;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use instance::{PARTITIONS, send_policy, start, wait_until_ready};
use support::kafka::Kafka;
use tallyman::app::App;
use tallyman::cli::generator::{Generator, Load};
use tallyman::clock::{Clock as _, SystemClock};
use tallyman::codec::{Decoder, ValueEncoding, encode_usage};
use tallyman::kafka::{KafkaSettings, Producer, Sent, drain, follow};
use tallyman::processor::settings::AdoptFrom;

const ORGS: u32 = 1_000;
/// How long each rate is held.
const HELD: Duration = Duration::from_secs(20);
/// What an org of the latency run may use: about what it does use, so that every threshold is crossed.
const CREDITS_PER_EVENT: i64 = 3_300_000;

/// A broker compiles its code while it is new: each first round is told as that.
const WARMING_UP: &str = "  (warming up)";

fn main() {
    // `cargo bench` adds flags of its own.
    let events = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2_000_000);
    let kafka = Kafka::shared();
    println!("full drain, {ORGS} orgs, {events} events of about 150 bytes, all built-in views, 24 h dedupe");
    drained(kafka, events);
    println!("\nproduce to decision seen by a read_committed reader, {ORGS} orgs, {} s each", HELD.as_secs());
    println!(
        "{:>10}  {:>9}  {:>8}  {:>8}  {:>8}  {:>14}  {:>8}",
        "events/s", "decisions", "p50 ms", "p99 ms", "max ms", "transaction ms", "flush ms"
    );
    for (rate, what) in [(15_000, WARMING_UP), (5_000, ""), (15_000, "")] {
        latency(kafka, rate, what);
    }
}

fn metrics(app: &App) -> String {
    let answer = ureq::get(format!("http://{}/metrics", app.address())).call();
    answer.expect("metrics answer").body_mut().read_to_string().expect("metrics are text")
}

fn folded(app: &App) -> u64 {
    let text = metrics(app);
    let counts = text.lines().filter(|line| line.starts_with("tallyman_records_total"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// The mean of a histogram of seconds.
fn mean_ms(app: &App, name: &str) -> f64 {
    let text = metrics(app);
    let sum = |suffix: &str| -> f64 {
        let of = text.lines().filter(|line| line.starts_with(&format!("tallyman_{name}_seconds_{suffix}")));
        of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    sum("sum") / sum("count") * 1e3
}

fn drained(kafka: &Kafka, events: u64) {
    let kafka = kafka.with_topics("bench-drain", PARTITIONS);
    let producer = Producer::new(&kafka, "bench").expect("a producer");
    let mut generator = Generator::new(Load::new(1, ORGS));
    let mut value = Vec::new();
    for _ in 0..events {
        value.clear();
        let event = generator.next(SystemClock.now());
        encode_usage(&event, ValueEncoding::SingleObject, &mut value);
        let sent = Sent { key: Some(event.org_id.as_bytes()), value: Some(&value), ..Sent::default() };
        producer.send(&kafka.topics.usage, &sent).expect("the broker takes it");
    }
    producer.flush(Duration::from_secs(60)).expect("all arrive");

    println!("{:>12}  {:>12}  {:>12}  {:>6}", "raw drain/s", "tallyman/s", "CPU us/event", "ratio");
    for round in 0..4 {
        let raw = drain(&kafka, &kafka.topics.usage).expect("the topic is read");
        let dir = tempfile::tempdir().expect("a folder");
        let mut own = kafka.clone();
        own.group_id = format!("{}-{}", kafka.group_id, SystemClock.now().micros());
        let (started, cpu) = (Instant::now(), cpu_seconds());
        // Another round's decisions stand in the control topic.
        let app = start(&own, dir.path(), "", Some(AdoptFrom::Store));
        while folded(&app) < events {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        app.stop().expect("the instance drains");
        let (raw, own) = (raw.records as f64 / raw.elapsed.as_secs_f64(), events as f64 / took);
        let what = if round == 0 { WARMING_UP } else { "" };
        println!("{raw:>12.0}  {own:>12.0}  {:>12.2}  {:>6.3}{what}", cpu * 1e6 / events as f64, own / raw);
    }
}

/// CPU seconds of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn latency(kafka: &Kafka, rate: u64, what: &str) {
    let kafka = kafka.with_topics("bench-latency", PARTITIONS);
    let producer = Producer::new(&kafka, "bench").expect("a producer");
    let load = Load { skew: 0.0, duplicates: 0.0, ..Load::new(2, ORGS) };
    let events = rate * HELD.as_secs();
    let allowance = CREDITS_PER_EVENT * i64::try_from(events / u64::from(ORGS)).expect("small");
    for org in &load.orgs {
        send_policy(&kafka, &producer, org, allowance, (1..=32).map(|step| step * 3).collect());
    }
    producer.flush(Duration::from_secs(60)).expect("all arrive");
    let dir = tempfile::tempdir().expect("a folder");
    let app = start(&kafka, dir.path(), "", None);
    wait_until_ready(&app);
    let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let reader = {
        let (kafka, stop) = (kafka.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let (mut decoder, mut took) = (Decoder::new(None), Vec::new());
            follow(&kafka, &kafka.topics.decisions, &stop, |record| {
                let Some(value) = record.value.filter(|_| !record.key.unwrap_or_default().starts_with(b"!"))
                else {
                    return;
                };
                let decision = decoder.decision(value).expect("a decision");
                let sent = decision.cause.event_id.and_then(|id| id.parse().ok()).map(Duration::from_nanos);
                took.extend(sent.map(|sent| began.elapsed().saturating_sub(sent)));
            })
            .expect("decisions are read");
            took
        })
    };
    pace(&kafka, &producer, load, rate, began);
    while folded(&app) < events {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    // What the last event caused is committed within a turn of the loop; the reader is at the end when nothing comes.
    std::thread::park_timeout(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    let mut took = reader.join().expect("the reader ends");
    let means = ["transaction_duration", "store_flush_duration"].map(|name| mean_ms(&app, name));
    app.stop().expect("the instance drains");
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let [transaction, flush] = means;
    let (decisions, p50, p99, max) = (took.len(), at(50), at(99), at(100));
    println!(
        "{rate:>10}  {decisions:>9}  {p50:>8.1}  {p99:>8.1}  {max:>8.1}  {transaction:>14.1}  {flush:>8.1}{what}"
    );
}

/// Sends events at `rate` a second in steps of a millisecond. An event's id is the time since `began` at which it was sent,
/// in nanoseconds.
fn pace(kafka: &KafkaSettings, producer: &Producer, load: Load, rate: u64, began: Instant) {
    let mut generator = Generator::new(load);
    let (started, mut sent, mut value) = (Instant::now(), 0, Vec::new());
    let events = rate * HELD.as_secs();
    while sent < events {
        let elapsed = u64::try_from(started.elapsed().as_millis()).expect("seconds");
        let due = (elapsed * rate / 1000).min(events);
        while sent < due {
            value.clear();
            let mut event = generator.next(SystemClock.now());
            event.event_id = began.elapsed().as_nanos().to_string().into();
            encode_usage(&event, ValueEncoding::SingleObject, &mut value);
            let record = Sent { key: Some(event.org_id.as_bytes()), value: Some(&value), ..Sent::default() };
            producer.send(&kafka.topics.usage, &record).expect("the broker takes it");
            sent += 1;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    producer.flush(Duration::from_secs(60)).expect("all arrive");
}
