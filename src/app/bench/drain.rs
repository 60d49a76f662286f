//! The drain: a topic of events that occurred over 72 hours, written now, so that no id leaves its window; folded from its start
//! with everything on (24 h of dedupe, decisions, stores on disk), beside what librdkafka alone reads of the same topic in the same
//! round. Then the instance starts again on its store. Content has two lines of its own.
#![expect(clippy::cast_precision_loss, reason = "rates are told in whole records")]

use std::time::{Duration, Instant};

use super::machine;
use super::site::{Directory, Site};
use super::spread;
use crate::app::{App, AppError, fold_settings};
use crate::cli::bench::DrainArgs;
use crate::cli::generator::{Generator, Load};
use crate::clock::{Clock as _, SystemClock};
use crate::codec::{ValueEncoding, encode_usage};
use crate::config::Settings;
use crate::kafka::{self, Producer, Sent};
use crate::store::{self, Store, StoreMemory};

const SPAN_MICROS: i64 = 72 * 3_600_000_000;
/// How long the broker may take to have all events.
const PATIENCE: Duration = Duration::from_mins(5);

/// What a round measured, in the order of the columns.
const COLUMNS: [&str; 8] = [
    "raw drain/s",
    "tallyman/s",
    "ratio",
    "CPU us/event",
    "written B/event",
    "stored B/event",
    "peak MiB",
    "restart s",
];

/// Which events make content, each its own piece.
#[derive(Clone, Copy)]
enum Makes {
    /// As the generator has it: about half, a quarter of them once more on the same piece.
    Some,
    None,
    All,
}

pub(super) fn drain(settings: &Settings, args: &DrainArgs) -> Result<(), AppError> {
    let site = Site::new(settings)?;
    println!(
        "full drain: {} events that occurred over 72 h, {} organisations, 24 h of dedupe that holds every id",
        args.events, args.orgs
    );
    produce(&site, args, Makes::Some)?;
    println!("{}", COLUMNS.map(|name| format!("{name:>17}")).concat());
    let mut rounds = Vec::new();
    for round in 0..=args.rounds {
        let figures = one(settings, &site, args.events)?;
        let what = if round == 0 { "  (warming up)" } else { "" };
        println!("{}{what}", line(&figures));
        rounds.extend((round > 0).then_some(figures));
    }
    for (place, name) in ["least", "median", "greatest"].into_iter().enumerate() {
        let of =
            |column: usize| spread(&mut rounds.iter().map(|figures| figures[column]).collect::<Vec<_>>())[place];
        println!("{}  {name}", line(&std::array::from_fn(of)));
    }
    for (makes, what) in [(Makes::None, "events without content"), (Makes::All, "events that make content each")] {
        let site = Site::new(settings)?;
        produce(&site, args, makes)?;
        println!("{}  {what}", line(&one(settings, &site, args.events)?));
    }
    Ok(())
}

fn line(figures: &[f64; COLUMNS.len()]) -> String {
    let cell = |figure: &f64| {
        if *figure >= 1000.0 { format!("{figure:>17.0}") } else { format!("{figure:>17.3}") }
    };
    figures.iter().map(cell).collect()
}

fn produce(site: &Site, args: &DrainArgs, makes: Makes) -> Result<(), AppError> {
    let producer = Producer::new(site.kafka(), "tallyman-bench")?;
    let mut generator = Generator::new(Load::new(1, args.orgs));
    let (end, events) = (SystemClock.now(), i64::try_from(args.events.max(1)).unwrap_or(i64::MAX));
    let mut value = Vec::new();
    for number in 0..events {
        let at = end.plus_micros(-(SPAN_MICROS / events) * (events - number));
        value.clear();
        let mut event = generator.next(at);
        match makes {
            Makes::Some => {}
            Makes::None => (event.content_id, event.attempt) = (None, None),
            // An event that comes twice has the same content.
            Makes::All => {
                event.content_id = Some(format!("content-{}", event.event_id).into());
                event.attempt = Some(1);
            }
        }
        encode_usage(&event, ValueEncoding::SingleObject, &mut value);
        let sent = Sent { key: Some(event.org_id.as_bytes()), value: Some(&value), ..Sent::default() };
        producer.send(&site.kafka().topics.usage, &sent)?;
    }
    Ok(producer.flush(PATIENCE)?)
}

fn one(settings: &Settings, site: &Site, events: u64) -> Result<[f64; COLUMNS.len()], AppError> {
    let raw = kafka::drain(site.kafka(), &site.kafka().topics.usage)?;
    let dir = Directory::new(settings)?;
    machine::reset_peak();
    let (cpu, written) = (machine::cpu_seconds(), machine::written_bytes());
    let group = site.group();
    let app = site.start(&group, dir.path())?;
    // As for the raw drain, the clock starts with the first records: joining a group is no draining.
    await_folded(&app, 1)?;
    let (started, before) = (Instant::now(), app.telemetry.records_so_far());
    await_folded(&app, events)?;
    let took = started.elapsed().as_secs_f64();
    app.stop()?;
    let (cpu, written) = (machine::cpu_seconds() - cpu, machine::written_bytes() - written);
    let (peak, count) = (machine::peak_bytes(), events as f64);
    let (raw, own) = (raw.records as f64 / raw.elapsed.as_secs_f64(), (events - before) as f64 / took);
    let restart = restart(site, &group, &dir)?;
    let stored = merged_bytes(settings, &dir)?;
    let peak = peak / f64::from(1 << 20);
    Ok([raw, own, own / raw, cpu * 1e6 / count, written / count, stored / count, peak, restart])
}

/// Waits until that many records are folded, duplicates included.
pub(super) fn await_folded(app: &App, events: u64) -> Result<(), AppError> {
    while app.telemetry.records_so_far() < events {
        if app.is_ending() {
            return Err(AppError::Drain);
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Ok(())
}

/// Seconds until an instance that stopped well is ready again.
fn restart(site: &Site, group: &str, dir: &Directory) -> Result<f64, AppError> {
    let started = Instant::now();
    let app = site.start(group, dir.path())?;
    while app.health().ready().is_err() {
        if app.is_ending() {
            return Err(AppError::Drain);
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let took = started.elapsed();
    app.stop()?;
    Ok(took.as_secs_f64())
}

/// Bytes on disk once all is merged.
fn merged_bytes(settings: &Settings, dir: &Directory) -> Result<f64, AppError> {
    let (fold, memory) = (fold_settings(settings), StoreMemory::new(64 << 20));
    let mut bytes = 0.0;
    for partition in store::partitions(dir.path())? {
        let store = Store::create_or_open(dir.path(), partition, &fold, &memory)?;
        store.compact();
        bytes += store.stats()?.disk_bytes as f64;
        store.close()?;
    }
    Ok(bytes)
}
