//! The questions: a store with one org of many facts over thirty days, and what a dashboard asks of it: first when the store was
//! just opened (its files are in the system's page cache), then again and again.
#![expect(clippy::cast_precision_loss, reason = "rates are told in whole facts")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::percentile;
use super::site::Directory;
use crate::app::{AppError, fold_settings};
use crate::cli::bench::QueryArgs;
use crate::cli::generator::{Generator, Load};
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::domain::cube::fold::Fold;
use crate::domain::cube::seal::Sealer;
use crate::domain::terms::records::DefaultTerms;
use crate::domain::time::Timestamp;
use crate::domain::usage::event::Event;
use crate::query::{Query, UsageParams};
use crate::store::{PoliciesRead, Shelf, Store, StoreMemory, TaskMeta, UsageCounts};

/// 2026-11-01, at which the thirty days begin.
const FIRST: Timestamp = Timestamp::from_micros(1_793_491_200_000_000);
const DAYS: i64 = 30;
const DAY_MICROS: i64 = 86_400_000_000;
/// Facts of one flush.
const FLUSH: u64 = 100_000;
/// Users of the org: they make most of its facts distinct.
const USERS: u32 = 5_000;
/// What is asked, by its name in the table.
const QUESTIONS: [(&str, &[(&str, &str)]); 5] = [
    ("30 days by product", &[("bucket", "none"), ("group_by", "product")]),
    ("hours of 30 days", &[("bucket", "hour")]),
    ("hours of an operation", &[("bucket", "hour"), ("group_by", "product"), ("filter", "operation:ask")]),
    (
        "users of a model",
        &[("bucket", "none"), ("group_by", "user"), ("order_by", "credits desc"), ("filter", "model:sage-4")],
    ),
    (
        "user, model, product",
        &[("bucket", "none"), ("group_by", "user,model,product"), ("order_by", "credits desc")],
    ),
];

pub(super) fn query(settings: &Settings, args: &QueryArgs) -> Result<(), AppError> {
    let dir = Directory::new(settings)?;
    let fold = fold_settings(settings);
    let memory = StoreMemory::new(usize::try_from(settings.memory_limit_bytes).unwrap_or(usize::MAX));
    let mut store = Store::create_or_open(dir.path(), 0, &fold, &memory)?;
    let started = Instant::now();
    fill(&mut store, args.facts)?;
    store.compact();
    println!(
        "{} events of one organisation over 30 days, {:.1} bytes each on disk, written in {:.1} s",
        args.facts,
        store.stats()?.disk_bytes as f64 / args.facts.max(1) as f64,
        started.elapsed().as_secs_f64()
    );
    store.close()?;
    println!("{:<24}{:>12}{:>12}{:>12}{:>12}", "question", "first ms", "p50 ms", "p99 ms", "page rows");
    for (name, asked) in QUESTIONS {
        let store = Store::create_or_open(dir.path(), 0, &fold, &StoreMemory::new(256 << 20))?;
        let shelf = Shelf::default();
        shelf.put(&store);
        let query = Query::new(shelf, 1, DefaultTerms::Allow, Arc::new(SystemClock), |_| true);
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..=args.times {
            let (took, found) = ask(&query, asked)?;
            times.push(took);
            rows = found;
        }
        let first = times.remove(0).as_secs_f64() * 1e3;
        times.sort_unstable();
        let [p50, p99] = [50, 99].map(|percent| percentile(&times, percent));
        println!("{name:<24}{first:>12.2}{p50:>12.2}{p99:>12.2}{rows:>12}");
        drop(query);
        store.close()?;
    }
    Ok(())
}

fn ask(query: &Query, asked: &[(&str, &str)]) -> Result<(Duration, usize), AppError> {
    let range = [("from", "2026-11-01"), ("to", "2026-12-01")];
    let raw = range.iter().chain(asked).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let started = Instant::now();
    let params = UsageParams::parse(&raw.collect::<Vec<_>>())?;
    let (_, answer) = query.usage("org-0000", params, |_| false)?;
    Ok((started.elapsed(), answer.map_or(0, |answer| answer.rows.len())))
}

fn fill(store: &mut Store, facts: u64) -> Result<(), AppError> {
    let mut generator = Generator::new(Load { users_per_org: USERS, ..Load::new(3, 1) });
    let (mut fold, mut sealer) = (Fold::default(), Sealer::default());
    let step = DAYS * DAY_MICROS / i64::try_from(facts.max(1)).unwrap_or(i64::MAX);
    let mut at = FIRST;
    for number in 1..=facts {
        let mut event = generator.next(at);
        // What content costs is measured by the drain.
        event.content_id = None;
        fold.add(&Event::Usage(event), store)?;
        at = at.plus_micros(step);
        if number % FLUSH == 0 || number == facts {
            fold.end_batch();
            let mut batch = store.batch();
            let frozen = fold.freeze();
            sealer.seal(&frozen, |sealed| {
                batch.add(sealed);
                Ok::<(), crate::store::StoreError>(())
            })?;
            fold.thaw(frozen);
            store.commit(batch, &meta(number, at))?;
        }
    }
    Ok(())
}

fn meta(number: u64, log_time: Timestamp) -> TaskMeta {
    TaskMeta {
        position: i64::try_from(number).unwrap_or(i64::MAX),
        policies_position: 0,
        origin: 0,
        since: None,
        log_time,
        last_record: None,
        counts: UsageCounts::default(),
        policies: PoliciesRead::default(),
        cluster_id: "bench".into(),
        partitions: 1,
    }
}
