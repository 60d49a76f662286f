//! The store against real files: what is on disk keeps its meaning, a commit is whole or absent, and a reader sees
//! one position. Helpers here; read on: `format`, `commits`, `ids`, `merge_crash`, `reads`.

#![allow(clippy::must_use_candidate, clippy::missing_errors_doc, reason = "helpers of these tests alone")]

mod commits;
#[path = "../support/facts.rs"]
mod facts;
mod format;
mod ids;
mod merge_crash;
mod reads;

use std::ops::ControlFlow;
use std::path::Path;

use tallyman::domain::credits::CreditSum;
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::limits::decision::{Action, Cause, DecisionReason, Figures, Level, LimitDecision};
use tallyman::domain::limits::scope::Scope;
use tallyman::domain::time::{Hour, Timestamp};
use tallyman::domain::usage::dimension::Dimension;
use tallyman::store::{
    FoldSettings, LastRecord, PoliciesRead, Store, StoreBatch, StoreError, StoreMemory, TaskMeta, UsageCounts,
};

/// A day, in the unit of the fold's settings.
const DAY_US: i64 = 86_400_000_000;

/// The fold's settings of most tests.
fn settings() -> FoldSettings {
    FoldSettings {
        dedupe_window: DAY_US,
        max_future: 300_000_000,
        max_age: 90 * DAY_US,
        codec_version: 1,
        rates: false,
    }
}

/// Opens partition 3 below `dir` with those settings and memory of its own.
fn open(dir: &Path) -> Result<Store, StoreError> {
    Store::create_or_open(dir, 3, &settings(), &StoreMemory::new(64 << 20))
}

/// The place of a task that has folded `position` records.
fn meta(position: i64) -> TaskMeta {
    let log_time = Timestamp::from_millis(1_795_000_000_000 + position);
    TaskMeta {
        position,
        policies_position: 2,
        origin: 0,
        since: None,
        log_time,
        last_record: Some(LastRecord { offset: position - 1, timestamp: log_time, crc: 77 }),
        counts: UsageCounts::default(),
        policies: PoliciesRead::default(),
        cluster_id: "cluster".into(),
        partitions: 12,
    }
}

/// Adds one event of so many micro-credits to a batch.
fn add(batch: &mut StoreBatch, org: &str, hour: i32, user: Option<&str>, credits: i64) {
    let mut values = [None; Dimension::COUNT];
    values[Dimension::User.index()] = user;
    facts::seal(&[(org, Hour(hour), values, tally(credits.into()))], |sealed| batch.add(sealed));
}

/// An org's stored hours with their credits and events.
fn totals(store: &Store, org: &str) -> Vec<(i32, i128, i128)> {
    let mut found = Vec::new();
    let reader = store.reader();
    let every = Hour(i32::MIN)..Hour(i32::MAX);
    let mut each = |hour: Hour, tally: &Tally| {
        found.push((hour.0, tally.sum(Field::CREDITS), tally.sum(Field::EVENTS)));
        ControlFlow::Continue(())
    };
    reader.snapshot().totals(org, every, &mut each).unwrap();
    found
}

/// A tally of one event of so many micro-credits.
fn tally(credits: i128) -> Tally {
    let mut tally = Tally::new();
    tally.add(Field::CREDITS, credits);
    tally.add(Field::EVENTS, 1);
    tally
}

/// An org's decision.
fn decision(scope: Scope, version: i64) -> LimitDecision {
    let at = Timestamp::from_millis(1_795_000_000_000);
    LimitDecision {
        scope,
        level: Level {
            action: Action::Block,
            reason: DecisionReason::AllowanceSpent,
            level: 100,
            allowance: Some(CreditSum::whole(1000)),
            extra: None,
            budget: None,
            period_start: at,
            period_end: at.plus_micros(30 * DAY_US),
            valid_until: at.plus_micros(DAY_US),
            forecast_alerted_on: Some(20_000),
            purchases_requested: 2,
        },
        figures: Figures {
            used: CreditSum(1_000_000_001),
            remaining: Some(CreditSum::ZERO),
            micros_per_second: -5,
        },
        version,
        decided_at: at,
        cause: Cause {
            record: Some((3, 41)),
            event_id: Some("e-41".into()),
            trace_id: None,
            policy_offset: Some(1),
        },
    }
}

/// What a crash at this moment would leave: a copy of the files of an open store, put below another directory.
fn crash_image(dir: &Path) -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    let to = image.path().join("p3");
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(dir.join("p3")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    image
}

/// The store's facts, totals and content rows as text.
fn dump(store: &Store) -> String {
    let mut text = Vec::new();
    store.dump(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}
