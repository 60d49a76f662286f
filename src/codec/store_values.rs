//! The store's values: totals, content rows, the fold's settings and the task's position. Each opens with a
//! version byte; `tests/fixtures/store` keeps bytes of every version, and they must read for ever.
//!
//! The same value gives the same bytes, so that two folds of one log can be compared byte by byte (Law 2).

use crate::domain::credits::CreditSum;
use crate::domain::cube::bytes::{Reader, StoredError, put_i64, put_i128, put_option, put_text, put_u64};
use crate::domain::cube::tally::Tally;
use crate::domain::limits::rate::RateRing;
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::content::{Content, Settled, Values};
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::event::Outcome;

const VERSION: u8 = 1;
/// Totals whose latency buckets are a list; version 1 was a row of a view.
const TOTAL_LISTED: u8 = 2;
/// Settings of a fold onto facts; versions 1 and 2 had views, and their stores are built anew.
const OF_FACTS: u8 = 3;

/// What the fold was told: another set of settings is another fold, hence a rebuild (Law 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldSettings {
    /// Microseconds of log time during which an id counts as seen.
    pub dedupe_window: i64,
    /// Microseconds that an event may lie past its record's time.
    pub max_future: i64,
    /// Microseconds that a usage event may lie before its record's time.
    pub max_age: i64,
    /// Which rules turn bytes into events.
    pub codec_version: u32,
    /// Whether each org's recent rate is kept: only a guard needs it.
    pub rates: bool,
}

/// The rules that turn bytes into events and facts today; another number than a store's means that it is built anew (Law 2).
///
/// 2: every RFC 3339 instant and every whole number of JSON, a CloudEvent's `time`, `out_of_range` before the year 2000, and
/// latency buckets without an upper end.
pub const CODEC_VERSION: u32 = 2;

/// What identifies the last folded record (Law 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRecord {
    /// Its offset.
    pub offset: i64,
    /// Kafka's timestamp.
    pub timestamp: Timestamp,
    /// CRC-32 of its key and value.
    pub crc: u32,
}

/// What became of the usage records from the origin on: the log and the fold's settings alone decide it, so that a replay
/// comes to the same (Law 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageCounts {
    /// Records that were folded.
    pub folded: u64,
    /// Records that were dropped as duplicates.
    pub duplicate: u64,
    /// Records that became dead letters.
    pub dead: u64,
    /// Records that belong to another partition.
    pub forwarded: u64,
    /// Micro-credits of what was folded, corrections included.
    pub credits: i128,
}

/// How far the policies partition is read, and what was found there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoliciesRead {
    /// First offset ever read.
    pub origin: i64,
    /// Records that were taken as terms.
    pub taken: u64,
    /// The last record that was read.
    pub last_record: Option<LastRecord>,
}

/// Where a task stands in its log: written in the same batch as the facts that the log up to there gives (Law 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskMeta {
    /// Next usage offset to fold.
    pub position: i64,
    /// Next policies offset to take.
    pub policies_position: i64,
    /// First usage offset ever folded.
    pub origin: i64,
    /// Log time from which the log was whole; `None` when nothing of it was missing at the first start.
    pub since: Option<Timestamp>,
    /// Greatest Kafka timestamp folded.
    pub log_time: Timestamp,
    /// The record before `position`, if one was folded.
    pub last_record: Option<LastRecord>,
    /// What became of the records from `origin` to `position`.
    pub counts: UsageCounts,
    /// What was read of the policies below `policies_position`.
    pub policies: PoliciesRead,
    /// The Kafka cluster.
    pub cluster_id: String,
    /// Partitions of the usage topic.
    pub partitions: i32,
}

/// Appends a total: the mask of its plain fields, the steps from one latency bucket to the next, then all values.
pub fn put_tally(out: &mut Vec<u8>, tally: &Tally) {
    let (mask, values, latencies) = tally.parts();
    out.push(TOTAL_LISTED);
    put_u64(out, mask);
    put_u64(out, latencies.len() as u64);
    let mut before = 0;
    for (bucket, _) in latencies {
        put_u64(out, u64::from(bucket - before));
        before = *bucket;
    }
    for value in values {
        put_i128(out, *value);
    }
    for (_, count) in latencies {
        put_i64(out, *count);
    }
}

/// Reads a total.
///
/// # Errors
/// When the bytes are none.
pub fn read_tally(bytes: &[u8]) -> Result<Tally, StoredError> {
    let mut reader = Reader::versioned("total", bytes, TOTAL_LISTED)?;
    let mask = reader.u64()?;
    let mut last = 0;
    let buckets = reader.list(|reader| {
        let next = u8::try_from(reader.u64()?).ok().and_then(|step| step.checked_add(last));
        last = next.ok_or(reader.wrong("a latency bucket is too large"))?;
        Ok(last)
    })?;
    let values = (0..mask.count_ones()).map(|_| reader.i128()).collect::<Result<_, _>>()?;
    let counted = |bucket| Ok((bucket, reader.i64()?));
    let latencies = buckets.into_iter().map(counted).collect::<Result<_, _>>()?;
    let tally = Tally::from_parts(mask, values, latencies).ok_or(reader.wrong("its latency buckets are none"))?;
    reader.end(tally)
}

fn put_values(out: &mut Vec<u8>, values: &Values) {
    let present =
        |mask: u64, (place, value): (usize, &Option<Box<str>>)| mask | u64::from(value.is_some()) << place;
    put_u64(out, values.iter().enumerate().fold(0, present));
    for value in values.iter().flatten() {
        put_text(out, value);
    }
}

fn read_values(reader: &mut Reader<'_>) -> Result<Box<Values>, StoredError> {
    let mask = reader.u64()?;
    if mask >> Dimension::COUNT != 0 {
        return Err(reader.wrong("an unknown dimension"));
    }
    let mut values = Box::<Values>::default();
    for (place, value) in values.iter_mut().enumerate() {
        if mask >> place & 1 == 1 {
            *value = Some(reader.text()?.into());
        }
    }
    Ok(values)
}

fn put_settled(out: &mut Vec<u8>, settled: &Settled) {
    put_option(out, settled.outcome, |out, outcome| out.push(outcome as u8));
    put_option(out, settled.rating, Vec::push);
    put_option(out, settled.value, put_i128);
    put_i64(out, settled.hour.0.into());
    put_values(out, &settled.values);
    out.push(settled.first_attempt.into());
}

fn read_settled(reader: &mut Reader<'_>) -> Result<Settled, StoredError> {
    let outcome = |reader: &mut Reader<'_>| {
        let number = usize::from(reader.u8()?);
        Outcome::ALL.get(number).copied().ok_or(reader.wrong("an unknown outcome"))
    };
    Ok(Settled {
        outcome: reader.option(outcome)?,
        rating: reader.option(Reader::u8)?,
        value: reader.option(Reader::i128)?,
        hour: Hour(reader.i32()?),
        values: read_values(reader)?,
        first_attempt: reader.bool()?,
    })
}

/// Appends a content row.
pub fn put_content(out: &mut Vec<u8>, content: &Content) {
    out.push(VERSION);
    put_i128(out, content.credits.0);
    put_u64(out, content.events);
    put_i64(out, content.attempts);
    put_values(out, &content.values);
    put_option(out, content.settled.as_ref(), put_settled);
}

/// Reads a content row.
///
/// # Errors
/// When the bytes are none.
pub fn read_content(bytes: &[u8]) -> Result<Content, StoredError> {
    let mut reader = Reader::versioned("content row", bytes, VERSION)?;
    let content = Content {
        credits: CreditSum(reader.i128()?),
        events: reader.u64()?,
        attempts: reader.i64()?,
        values: read_values(&mut reader)?,
        settled: reader.option(read_settled)?,
    };
    reader.end(content)
}

/// Appends an org's recent rate.
pub fn put_rate(out: &mut Vec<u8>, ring: &RateRing) {
    out.push(VERSION);
    put_i64(out, ring.minute);
    for &micros in &ring.micros {
        put_i128(out, micros);
    }
}

/// Reads an org's recent rate.
///
/// # Errors
/// When the bytes are none.
pub fn read_rate(bytes: &[u8]) -> Result<RateRing, StoredError> {
    let mut reader = Reader::versioned("recent rate", bytes, VERSION)?;
    let mut ring = RateRing { minute: reader.i64()?, ..RateRing::default() };
    for micros in &mut ring.micros {
        *micros = reader.i128()?;
    }
    reader.end(ring)
}

/// The fold's settings as bytes.
#[must_use]
pub fn settings(settings: &FoldSettings) -> Vec<u8> {
    let mut out = vec![OF_FACTS];
    for micros in [settings.dedupe_window, settings.max_future, settings.max_age] {
        put_i64(&mut out, micros);
    }
    put_u64(&mut out, settings.codec_version.into());
    out.push(settings.rates.into());
    out
}

/// Reads the fold's settings.
///
/// # Errors
/// When the bytes are none.
pub fn read_settings(bytes: &[u8]) -> Result<FoldSettings, StoredError> {
    let mut reader = Reader::versioned("fold settings", bytes, OF_FACTS)?;
    let settings = FoldSettings {
        dedupe_window: reader.i64()?,
        max_future: reader.i64()?,
        max_age: reader.i64()?,
        codec_version: u32::try_from(reader.u64()?).map_err(|_| reader.wrong("a number is too large"))?,
        rates: reader.bool()?,
    };
    reader.end(settings)
}

/// The version of a time-zone database as bytes.
#[must_use]
pub fn zones(version: &str) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_text(&mut out, version);
    out
}

/// Reads the version of a time-zone database.
///
/// # Errors
/// When the bytes are none.
pub fn read_zones(bytes: &[u8]) -> Result<String, StoredError> {
    let mut reader = Reader::versioned("time-zone version", bytes, VERSION)?;
    let version = reader.text()?.to_owned();
    reader.end(version)
}

/// A task's position with the counts of the log up to there; version 1 had no counts.
const WITH_COUNTS: u8 = 2;

fn put_last(out: &mut Vec<u8>, last: LastRecord) {
    put_i64(out, last.offset);
    put_i64(out, last.timestamp.micros());
    put_u64(out, last.crc.into());
}

fn read_last(reader: &mut Reader<'_>) -> Result<LastRecord, StoredError> {
    Ok(LastRecord {
        offset: reader.i64()?,
        timestamp: Timestamp::from_micros(reader.i64()?),
        crc: u32::try_from(reader.u64()?).map_err(|_| reader.wrong("a number is too large"))?,
    })
}

/// A task's position as bytes.
#[must_use]
pub fn task(meta: &TaskMeta) -> Vec<u8> {
    let mut out = vec![WITH_COUNTS];
    put_i64(&mut out, meta.position);
    put_i64(&mut out, meta.policies_position);
    put_i64(&mut out, meta.origin);
    put_option(&mut out, meta.since, |out, since| put_i64(out, since.micros()));
    put_i64(&mut out, meta.log_time.micros());
    put_option(&mut out, meta.last_record, put_last);
    put_text(&mut out, &meta.cluster_id);
    put_i64(&mut out, meta.partitions.into());
    let counts = &meta.counts;
    for count in [counts.folded, counts.duplicate, counts.dead, counts.forwarded] {
        put_u64(&mut out, count);
    }
    put_i128(&mut out, counts.credits);
    put_i64(&mut out, meta.policies.origin);
    put_u64(&mut out, meta.policies.taken);
    put_option(&mut out, meta.policies.last_record, put_last);
    out
}

/// Reads a task's position. One of version 1 has counts of zero: a store with it has other fold settings too, and is built
/// anew before they are compared.
///
/// # Errors
/// When the bytes are none.
pub fn read_task(bytes: &[u8]) -> Result<TaskMeta, StoredError> {
    let counted = bytes.first() == Some(&WITH_COUNTS);
    let mut reader = Reader::versioned("task position", bytes, if counted { WITH_COUNTS } else { VERSION })?;
    let time = |reader: &mut Reader<'_>| Ok(Timestamp::from_micros(reader.i64()?));
    let mut meta = TaskMeta {
        position: reader.i64()?,
        policies_position: reader.i64()?,
        origin: reader.i64()?,
        since: reader.option(time)?,
        log_time: time(&mut reader)?,
        last_record: reader.option(read_last)?,
        cluster_id: reader.text()?.to_owned(),
        partitions: reader.i32()?,
        counts: UsageCounts::default(),
        policies: PoliciesRead::default(),
    };
    if counted {
        meta.counts = UsageCounts {
            folded: reader.u64()?,
            duplicate: reader.u64()?,
            dead: reader.u64()?,
            forwarded: reader.u64()?,
            credits: reader.i128()?,
        };
        meta.policies =
            PoliciesRead { origin: reader.i64()?, taken: reader.u64()?, last_record: reader.option(read_last)? };
    }
    reader.end(meta)
}
