//! What budgets cost a drain: a task (decode, duplicates, fold, decide, its store) takes the same log without budgets,
//! with ten thousand in one org of a hundred thousand, and with three in each of them, in turn, in the same run. The first
//! half of the log is not measured: a value's first usage in a period publishes its scope, which is told apart.
//! `cargo bench --profile release --bench budgets [-- <events>]`; one line per measurement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tallyman::cli::generator::{Generator, Load};
use tallyman::clock::ManualClock;
use tallyman::codec::{Decoder, Encoder, OutputEncoding, ValueEncoding, encode_terms, encode_usage};
use tallyman::domain::credits::Credits;
use tallyman::domain::terms::records::{Budget, BudgetAction, BudgetPeriod, DefaultTerms, TermsRecord};
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::processor::ports::{Header, Record, RecordBatch};
use tallyman::processor::settings::TaskSettings;
use tallyman::processor::task::{Recovered, Task};
use tallyman::processor::trusted_clock::TrustedClock;
use tallyman::store::{FoldSettings, PoliciesRead, Store, StoreMemory, TaskMeta, UsageCounts};
use tallyman::telemetry::Telemetry;

const BATCH: usize = 10_000;
const ORGS: u32 = 100_000;
/// Users of each org: the busiest orgs' values are met in the first half.
const USERS: u32 = 50;
/// Budgets of the one org.
const MANY: u32 = 10_000;
/// Rows at which a task is flushed.
const FLUSH_ROWS: usize = 200_000;
const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// Keys and values at neighbouring offsets of partition 0.
struct Log {
    first: i64,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl RecordBatch for Log {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn get(&self, index: usize) -> Record<'_> {
        let (key, value) = &self.records[index];
        let offset = self.first + i64::try_from(index).expect("small");
        Record { partition: 0, offset, timestamp: START, key: Some(key), value: Some(value) }
    }

    fn headers(&self, _: usize) -> Vec<Header> {
        Vec::new()
    }

    fn ends(&self) -> &[(i32, i64)] {
        &[]
    }
}

fn usage(events: usize) -> Vec<Log> {
    let mut generator = Generator::new(Load { users_per_org: USERS, ..Load::new(1, ORGS) });
    let mut at = START.plus_micros(-3_600_000_000);
    let mut draw = |_| {
        at = at.plus_micros(1_000);
        let event = generator.next(at);
        let mut value = Vec::new();
        encode_usage(&event, ValueEncoding::SingleObject, &mut value);
        (event.org_id.as_bytes().to_vec(), value)
    };
    let records: Vec<_> = (0..events).map(&mut draw).collect();
    let batches = records.chunks(BATCH).enumerate();
    batches.map(|(number, part)| Log { first: (number * BATCH) as i64, records: part.to_vec() }).collect()
}

fn budget(org: u32, id: u32, bound: Option<(Dimension, String)>) -> (Vec<u8>, Vec<u8>) {
    let org_id = format!("org-{org:04}");
    let (dimension, value) = bound.unzip();
    let record = TermsRecord::Budget(Budget {
        org_id: org_id.clone(),
        budget_id: format!("budget-{id}"),
        name: format!("budget {id}"),
        dimension,
        value,
        limit: Credits::from_micros(2_000_000_000).expect("2,000 credits are within bounds"),
        period: BudgetPeriod::Month,
        action: BudgetAction::Block,
        thresholds: vec![75, 90, 100],
        effective_at: START.plus_micros(-3_600_000_000),
        expires_at: None,
        updated_by: "bench".into(),
    });
    let mut value = Vec::new();
    encode_terms(&record, ValueEncoding::SingleObject, &mut value);
    (org_id.into_bytes(), value)
}

fn no_budgets() -> Vec<(Vec<u8>, Vec<u8>)> {
    Vec::new()
}

/// The busiest org has a budget for each user, and many for users that are away, each value of three dimensions and itself.
fn ten_thousand_in_one() -> Vec<(Vec<u8>, Vec<u8>)> {
    let users = (0..MANY - 4).map(|user| budget(0, user, Some((Dimension::User, format!("user-{user}")))));
    let each = [Dimension::User, Dimension::Model, Dimension::Product];
    let each = (MANY..).zip(each).map(|(id, dimension)| budget(0, id, Some((dimension, "*".into()))));
    users.chain(each).chain([budget(0, MANY + 9, None)]).collect()
}

fn three_in_each() -> Vec<(Vec<u8>, Vec<u8>)> {
    let of = |org| {
        [
            budget(org, 0, Some((Dimension::User, "*".into()))),
            budget(org, 1, Some((Dimension::Product, "*".into()))),
            budget(org, 2, None),
        ]
    };
    (0..ORGS).flat_map(of).collect()
}

struct Drain {
    task: Task,
    decoder: Decoder,
    encoder: Encoder,
    telemetry: Telemetry,
    outputs: usize,
    /// Time of all but flushes, which a worker leaves to another thread; and of flushes.
    took: [Duration; 2],
}

impl Drain {
    fn new(dir: &std::path::Path, terms: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        const DAY: i64 = 86_400_000_000;
        let fold = FoldSettings {
            dedupe_window: DAY,
            max_future: 300_000_000,
            max_age: 90 * DAY,
            codec_version: 1,
            rates: false,
        };
        let store = Store::create_or_open(dir, 0, &fold, &StoreMemory::new(256 << 20)).expect("a new store");
        let settings = TaskSettings {
            fold,
            guard: None,
            default_terms: DefaultTerms::Allow,
            usage_topic: "usage".into(),
            policies_topic: "policies".into(),
            clock: Arc::new(TrustedClock::new(Arc::new(ManualClock::new(START)))),
            working_set_bytes_max: 256 << 20,
            top_orgs: 10,
        };
        let meta = TaskMeta {
            position: 0,
            policies_position: 0,
            origin: 0,
            since: None,
            log_time: Timestamp::MIN,
            last_record: None,
            counts: UsageCounts::default(),
            policies: PoliciesRead::default(),
            cluster_id: "bench".into(),
            partitions: 1,
        };
        let recovered = Recovered {
            meta,
            published_through: 0,
            policies_through: 0,
            policies_end: terms.len() as i64,
            transactions: 0,
            adopted: false,
            checksum: None,
            levels: Vec::new(),
        };
        let task = Task::new(0, 1, store, recovered, Arc::new(settings)).expect("a new store has no terms");
        let (decoder, encoder) = (Decoder::new(None), Encoder::new(OutputEncoding::Json, None));
        let mut drain =
            Self { task, decoder, encoder, telemetry: Telemetry::new(10), outputs: 0, took: [Duration::ZERO; 2] };
        let (log, all) = (Log { first: 0, records: terms }, 0..);
        let places = all.start..log.len();
        drain.task.take_policies(&log, places, &mut drain.decoder, &drain.telemetry).expect("legal terms");
        drain.task.speak().expect("a store that can be read");
        drain.publish();
        drain
    }

    /// Publishes to nobody until nothing waits.
    fn publish(&mut self) {
        loop {
            self.task.decide(20_000);
            let mut outputs = Vec::new();
            self.task.propose(&mut self.encoder, &mut outputs).expect("JSON needs no registry");
            self.outputs += outputs.len();
            self.task.committed(START, &self.telemetry);
            if !self.task.has_queue() {
                return;
            }
        }
    }

    fn take(&mut self, batch: &Log) {
        let started = Instant::now();
        self.task.fold(batch, 0..batch.len(), &mut self.decoder, &self.telemetry).expect("legal records");
        self.publish();
        self.took[0] += started.elapsed();
        let started = Instant::now();
        if self.task.dirty_len() > FLUSH_ROWS {
            self.task.persist(&self.telemetry).expect("a store that can be written");
        }
        self.took[1] += started.elapsed();
    }
}

fn main() {
    let events = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(400_000);
    let log = usage(events);
    let kinds: [(&str, fn() -> Vec<(Vec<u8>, Vec<u8>)>); 3] = [
        ("without budgets", no_budgets),
        ("with 10,000 budgets in one org", ten_thousand_in_one),
        ("with 3 budgets in each of 100,000 orgs", three_in_each),
    ];
    let dirs: Vec<_> = kinds.iter().map(|_| tempfile::tempdir().expect("a temporary folder")).collect();
    let mut drains: Vec<Drain> = Vec::new();
    for ((name, terms), dir) in kinds.iter().zip(&dirs) {
        let started = Instant::now();
        drains.push(Drain::new(dir.path(), terms()));
        println!(
            "start {name:<44} {:>9.1} s, {} decisions",
            started.elapsed().as_secs_f64(),
            drains.last().expect("it was pushed").outputs
        );
    }
    // Batch by batch in turn, so that whatever else the machine does meets all alike.
    let (warm, measured) = log.split_at(log.len() / 2);
    for batch in warm {
        drains.iter_mut().for_each(|drain| drain.take(batch));
    }
    for drain in &mut drains {
        (drain.took, drain.outputs) = ([Duration::ZERO; 2], 0);
    }
    for batch in measured {
        drains.iter_mut().for_each(|drain| drain.take(batch));
    }
    let events: usize = measured.iter().map(Log::len).sum();
    let rate = |took: Duration| events as f64 / took.as_secs_f64();
    let [alone, flushes] = drains[0].took;
    for ((name, _), drain) in kinds.iter().zip(&drains) {
        let [own, flush] = drain.took;
        println!(
            "drain {name:<44} {:>8.0} events/s, {:.3} of without; with flushes {:>8.0}, {:.3}; {} outputs",
            rate(own),
            rate(own) / rate(alone),
            rate(own + flush),
            rate(own + flush) / rate(alone + flushes),
            drain.outputs
        );
    }
}
