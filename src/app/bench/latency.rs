//! The latency: events at a rate, and the time from sending one to seeing the decision that it causes; then the same rate through
//! a bare echo, which consumes, writes one small record a transaction, and has it read back. What the echo takes is the broker's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::drain::await_folded;
use super::site::{Directory, Site};
use super::{percentile, spread};
use crate::app::AppError;
use crate::cli::bench::LatencyArgs;
use crate::cli::generator::{Generator, Load};
use crate::clock::{Clock as _, SystemClock};
use crate::codec::{Decoder, ValueEncoding, encode_terms, encode_usage};
use crate::config::Settings;
use crate::domain::credits::Credits;
use crate::domain::terms::records::{LimitMode, OrgPolicy, OrgStatus, TermsRecord};
use crate::domain::time::Timestamp;
use crate::kafka::{self, Echo, KafkaSettings, Producer, Sent};

const ORGS: u32 = 1_000;
/// What an org may use for each of its events: about what it does use, so that every threshold is crossed.
const CREDITS_PER_EVENT: u64 = 3_300_000;
/// How long the broker may take to have all events.
const PATIENCE: Duration = Duration::from_mins(1);
/// Nothing more comes when nothing came for so long.
const QUIET: Duration = Duration::from_secs(1);

pub(super) fn latency(settings: &Settings, args: &LatencyArgs) -> Result<(), AppError> {
    println!("produce to decision seen, {} events/s for {} s, {ORGS} organisations", args.rate, args.seconds);
    println!(
        "{:>12}{:>12}{:>12}{:>12}{:>12}{:>10}",
        "decisions", "p50 ms", "p99 ms", "echo p50", "echo p99", "p99 ratio"
    );
    let mut ratios = Vec::new();
    for round in 0..=args.rounds {
        let own = decided(settings, args)?;
        let echo = echoed(settings, args)?;
        let ratio = percentile(&own, 99) / percentile(&echo, 99);
        let [p50, p99] = [50, 99].map(|percent| percentile(&own, percent));
        let [echo50, echo99] = [50, 99].map(|percent| percentile(&echo, percent));
        let what = if round == 0 { "  (warming up)" } else { "" };
        println!("{:>12}{p50:>12.1}{p99:>12.1}{echo50:>12.1}{echo99:>12.1}{ratio:>10.2}{what}", own.len());
        ratios.extend((round > 0).then_some(ratio));
    }
    let [least, median, greatest] = spread(&mut ratios);
    println!("p99 ratio: least {least:.2}, median {median:.2}, greatest {greatest:.2}");
    Ok(())
}

/// Times from events to the decisions that they cause, sorted.
fn decided(settings: &Settings, args: &LatencyArgs) -> Result<Vec<Duration>, AppError> {
    let site = Site::new(settings)?;
    let producer = Producer::new(site.kafka(), "tallyman-bench")?;
    let load = Load { skew: 0.0, duplicates: 0.0, ..Load::new(2, ORGS) };
    let events = args.rate * args.seconds;
    let allowance = i64::try_from(CREDITS_PER_EVENT * events / u64::from(ORGS)).unwrap_or(i64::MAX);
    for org in &load.orgs {
        send_policy(site.kafka(), &producer, org, allowance, (1..=32).map(|step| step * 3).collect())?;
    }
    producer.flush(PATIENCE)?;
    let dir = Directory::new(settings)?;
    let app = site.start(&site.group(), dir.path())?;
    while app.health().ready().is_err() && !app.is_ending() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let mut decoder = Decoder::new(None);
    let reader = read_times(&site, began, &stop, move |key, value| {
        let decision = (!key.starts_with(b"!")).then(|| decoder.decision(value).ok()).flatten()?;
        decision.cause.event_id?.parse().ok()
    });
    pace(site.kafka(), &producer, load, args, began)?;
    await_folded(&app, events)?;
    std::thread::park_timeout(QUIET);
    let times = finish(reader, &stop)?;
    app.stop()?;
    Ok(times)
}

/// Times from events to their echoes, sorted.
fn echoed(settings: &Settings, args: &LatencyArgs) -> Result<Vec<Duration>, AppError> {
    let site = Site::new(settings)?;
    let producer = Producer::new(site.kafka(), "tallyman-bench")?;
    let load = Load { skew: 0.0, duplicates: 0.0, ..Load::new(2, ORGS) };
    let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let mut decoder = Decoder::new(None);
    let mut echo = Echo::new(site.kafka())?;
    let reader = read_times(&site, began, &stop, move |_, value| decoder.usage(value).ok()?.id().parse().ok());
    let echoing = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || echo.run(&stop))
    };
    pace(site.kafka(), &producer, load, args, began)?;
    std::thread::park_timeout(QUIET);
    let times = finish(reader, &stop)?;
    echoing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(times)
}

type Reader = JoinHandle<Result<Vec<Duration>, kafka::Error>>;

/// Reads the decisions topic; `sent` tells from a record when its event was sent, in nanoseconds since `began`.
fn read_times(
    site: &Site,
    began: Instant,
    stop: &Arc<AtomicBool>,
    mut sent: impl FnMut(&[u8], &[u8]) -> Option<u64> + Send + 'static,
) -> Reader {
    let (kafka, stop) = (site.kafka().clone(), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut times = Vec::new();
        kafka::follow(&kafka, &kafka.topics.decisions, &stop, |record| {
            let sent = record.value.and_then(|value| sent(record.key.unwrap_or_default(), value));
            times.extend(sent.map(|sent| began.elapsed().saturating_sub(Duration::from_nanos(sent))));
        })?;
        Ok(times)
    })
}

fn finish(reader: Reader, stop: &AtomicBool) -> Result<Vec<Duration>, AppError> {
    stop.store(true, Ordering::Relaxed);
    let mut times = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    times.sort_unstable();
    Ok(times)
}

/// Sends events at the rate, in steps of a millisecond. An event's id is the time since `began` at which it was sent, in
/// nanoseconds.
fn pace(
    kafka: &KafkaSettings,
    producer: &Producer,
    load: Load,
    args: &LatencyArgs,
    began: Instant,
) -> Result<(), AppError> {
    let mut generator = Generator::new(load);
    let (started, mut sent, mut value) = (Instant::now(), 0, Vec::new());
    let events = args.rate * args.seconds;
    while sent < events {
        let elapsed = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let due = (elapsed.saturating_mul(args.rate) / 1_000_000).min(events);
        while sent < due {
            value.clear();
            let mut event = generator.next(SystemClock.now());
            event.event_id = began.elapsed().as_nanos().to_string().into();
            encode_usage(&event, ValueEncoding::SingleObject, &mut value);
            let record = Sent { key: Some(event.org_id.as_bytes()), value: Some(&value), ..Sent::default() };
            producer.send(&kafka.topics.usage, &record)?;
            sent += 1;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(producer.flush(PATIENCE)?)
}

/// Sends a policy with a hard limit of `allowance` micro-credits a month, which alerts at `thresholds`, in percent.
///
/// # Errors
/// When the broker does not take it.
pub fn send_policy(
    kafka: &KafkaSettings,
    producer: &Producer,
    org: &str,
    allowance: i64,
    thresholds: Vec<i32>,
) -> Result<(), AppError> {
    let policy = TermsRecord::OrgPolicy(OrgPolicy {
        org_id: org.to_owned(),
        plan: "bench".into(),
        status: OrgStatus::default(),
        unlimited: false,
        base_allocation: Credits::from_micros(allowance).unwrap_or(Credits::ZERO),
        limit_mode: LimitMode::default(),
        soft_extra: Credits::ZERO,
        unlimited_overage: false,
        thresholds,
        anchor_day: 1,
        time_zone: "UTC".into(),
        auto_purchase: None,
        products: Vec::new(),
        credit_price: None,
        overage_price: None,
        currency: None,
        effective_at: Timestamp::from_micros(0),
        updated_by: "bench".into(),
    });
    let mut value = Vec::new();
    encode_terms(&policy, ValueEncoding::Json, &mut value);
    let sent = Sent { key: Some(org.as_bytes()), value: Some(&value), ..Sent::default() };
    Ok(producer.send(&kafka.topics.policies, &sent)?)
}
