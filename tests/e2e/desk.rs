//! A gateway that is asked all the time, and each of its verdicts held against what the newest decisions say that it can have read:
//! the decisions topic is read a second time, and a verdict must be the one of some prefix of its partition, never of a shorter one
//! than a verdict before. While the test has told the truth of the logs, each verdict must be that, too. It decides nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tallyman::codec::Decoder;
use tallyman::domain::credits::CreditSum;
use tallyman::domain::limits::decision::{Action, LimitDecision};
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::usage::murmur2::partition_of;
use tallyman::gateway::table::{Request, Rules, Table};
use tallyman::gateway::{Gateway, Source};
use tallyman::kafka::{KafkaSettings, follow};

use crate::support::PATIENCE;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    pub org: &'static str,
    pub user: Option<&'static str>,
    pub model: Option<&'static str>,
}

impl Asker {
    fn request(&self) -> Request<'_> {
        let mut request = Request::of(self.org);
        for (dimension, value) in [(Dimension::User, self.user), (Dimension::Model, self.model)] {
            request = value.map_or(request, |value| request.with(dimension, value));
        }
        request
    }

    fn value(&self, dimension: Dimension) -> Option<&str> {
        if dimension == Dimension::User { self.user } else { self.model }
    }
}

/// A record of the decisions topic: its key, and the decision or its end.
type Told = (String, Option<LimitDecision>);

/// What a verdict is compared by: whether it blocks, the scope that it tells, that decision's version.
type Verdict = (bool, Option<String>, Option<i64>);

struct Shared {
    askers: Vec<Asker>,
    table: Arc<Table>,
    partitions: i32,
    read: Mutex<Vec<Vec<Told>>>,
    came: Condvar,
    truth: Mutex<Option<Vec<bool>>>,
    stop: AtomicBool,
    checks: AtomicU64,
    settled: AtomicU64,
}

/// The gateway and who asks it.
pub struct Desk {
    shared: Arc<Shared>,
    _gateway: Gateway,
    threads: Vec<JoinHandle<()>>,
}

impl Desk {
    /// Opens; from here on it is asked.
    pub fn open(kafka: &KafkaSettings, askers: Vec<Asker>) -> Self {
        let gateway = Gateway::start(Source::new(kafka.clone()), Rules::default()).unwrap();
        let shared = Arc::new(Shared {
            askers,
            table: gateway.table(),
            partitions: kafka.partitions,
            read: Mutex::new((0..kafka.partitions).map(|_| Vec::new()).collect()),
            came: Condvar::new(),
            truth: Mutex::new(None),
            stop: AtomicBool::new(false),
            checks: AtomicU64::new(0),
            settled: AtomicU64::new(0),
        });
        gateway.wait_until_ready(PATIENCE).unwrap();
        let (reader, asked, kafka) = (Arc::clone(&shared), Arc::clone(&shared), kafka.clone());
        let threads =
            vec![std::thread::spawn(move || reader.read(&kafka)), std::thread::spawn(move || asked.ask())];
        Self { shared, _gateway: gateway, threads }
    }

    /// What the gateway says now to each asker: whether it is blocked.
    pub fn verdicts(&self) -> Vec<bool> {
        assert!(!self.threads.iter().any(JoinHandle::is_finished), "a verdict was wrong, see above");
        self.shared.askers.iter().map(|asker| self.shared.table.check(&asker.request()).is_blocked()).collect()
    }

    /// Holds the verdicts against the truth for so many checks.
    pub fn hold(&self, truth: Vec<bool>, checks: u64) {
        let before = self.shared.settled.load(Ordering::SeqCst);
        *self.shared.truth.lock().unwrap() = Some(truth);
        crate::support::wait_until("checks against the truth", PATIENCE, || {
            drop(self.verdicts());
            self.shared.settled.load(Ordering::SeqCst) >= before + checks
        });
        *self.shared.truth.lock().unwrap() = None;
    }

    /// All checks, and those that were held against the truth.
    pub fn close(mut self) -> (u64, u64) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        (self.shared.checks.load(Ordering::SeqCst), self.shared.settled.load(Ordering::SeqCst))
    }
}

impl Shared {
    fn read(&self, kafka: &KafkaSettings) {
        let mut decoder = Decoder::new(None);
        follow(kafka, &kafka.topics.decisions, &self.stop, |record| {
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            if !key.starts_with("!heartbeat|") {
                let decision = record.value.map(|value| decoder.decision(value).unwrap());
                self.read.lock().unwrap()[usize::try_from(record.partition).unwrap()].push((key, decision));
                self.came.notify_all();
            }
        })
        .unwrap();
    }

    fn ask(&self) {
        let mut random = SmallRng::seed_from_u64(4);
        let mut models: Vec<Model> = (0..self.partitions).map(|_| Model::default()).collect();
        let pause = Duration::from_millis(5);
        while !self.stop.load(Ordering::SeqCst) {
            let truth = self.truth.lock().unwrap();
            for _ in 0..2000 {
                let number = random.random_range(0..self.askers.len());
                let asker = &self.askers[number];
                let verdict = self.table.check(&asker.request());
                let said = (verdict.is_blocked(), verdict.scope().map(str::to_owned), verdict.version());
                if let Some(truth) = &*truth {
                    assert_eq!(said.0, truth[number], "{asker:?} is told {verdict:?}");
                    self.settled.fetch_add(1, Ordering::Relaxed);
                }
                let partition = partition_of(asker.org.as_bytes(), self.partitions);
                let partition = usize::try_from(partition).unwrap();
                let model = &mut models[partition];
                while *model.verdict(number, asker) != said {
                    self.advance(model, partition, &format!("{asker:?} was told {said:?}"));
                }
                self.checks.fetch_add(1, Ordering::Relaxed);
            }
            let is_busy = truth.is_some();
            drop(truth);
            if !is_busy {
                // The others share these cores.
                std::thread::park_timeout(pause);
            }
        }
    }

    /// Takes the next decision of a partition, which may have reached the gateway first.
    fn advance(&self, model: &mut Model, partition: usize, why: &str) {
        let read = self.read.lock().unwrap();
        let is_there = |read: &mut Vec<Vec<Told>>| read[partition].len() <= model.next;
        let (read, late) = self.came.wait_timeout_while(read, Duration::from_secs(20), is_there).unwrap();
        assert!(!late.timed_out(), "{why}, which no decision says: {:?}", model.held.keys());
        let (key, decision) = &read[partition][model.next];
        model.next += 1;
        model.verdicts.clear();
        match decision {
            None => drop(model.held.remove(key)),
            Some(decision) => {
                let before = model.held.insert(key.clone(), decision.clone());
                assert!(before.is_none_or(|before| before.version < decision.version), "{key} goes back");
            }
        }
    }
}

/// The decisions of a partition up to one of them.
#[derive(Default)]
struct Model {
    next: usize,
    held: BTreeMap<String, LimitDecision>,
    verdicts: HashMap<usize, Verdict>,
}

impl Model {
    fn verdict(&mut self, number: usize, asker: &Asker) -> &Verdict {
        let held = &self.held;
        self.verdicts.entry(number).or_insert_with(|| verdict_of(held, asker))
    }
}

/// What these decisions say of a request: blocked first, then least remaining, then user before model before the org.
fn verdict_of(held: &BTreeMap<String, LimitDecision>, asker: &Asker) -> Verdict {
    let all: Vec<&LimitDecision> = held.values().filter(|each| each.scope.org_id == asker.org).collect();
    let id = |each: &LimitDecision| each.scope.budget.as_ref().map(|budget| budget.budget_id.clone());
    let of = |dimension: Dimension, value: Option<&str>| -> Vec<&LimitDecision> {
        let same = |each: &&&LimitDecision| {
            let budget = each.scope.budget.as_ref();
            budget.is_some_and(|budget| budget.dimension == Some(dimension) && budget.value.as_deref() == value)
        };
        all.iter().filter(same).copied().collect()
    };
    let matches = |each: &&&LimitDecision| {
        let Some(budget) = &each.scope.budget else { return true };
        let Some(dimension) = budget.dimension else { return true };
        let Some(asked) = asker.value(dimension) else { return false };
        if budget.value.is_some() {
            return budget.value.as_deref() == Some(asked);
        }
        let (own, rest) = (of(dimension, Some(asked)), of(dimension, None));
        let among = |all: &[&LimitDecision], one: &LimitDecision| all.iter().any(|other| id(other) == id(one));
        // A budget that is over says so without an allowance.
        let mut in_force = own.iter().filter(|own| own.level.allowance.is_some());
        !among(&own, each) && in_force.all(|own| among(&rest, own))
    };
    let rank = |each: &&&LimitDecision| {
        let budget = each.scope.budget.as_ref();
        let order = match budget.and_then(|budget| budget.dimension) {
            Some(Dimension::User) => 0,
            Some(_) => 1,
            None => 2,
        };
        let is_rest = budget.is_some_and(|budget| budget.value.is_none());
        let remaining = each.figures.remaining.map_or(i128::MAX, CreditSum::micros);
        (
            each.level.action == Action::Allow,
            remaining,
            order,
            is_rest,
            budget.map(|budget| budget.budget_id.clone()),
        )
    };
    let told = all.iter().filter(matches).min_by_key(rank);
    // An org without a decision of its own is unknown, which is allowed and has no end.
    let is_known = all.iter().any(|each| each.scope.budget.is_none());
    match told.filter(|told| is_known || rank(told) < (true, i128::MAX, 2, false, None)) {
        Some(told) => (told.level.action == Action::Block, Some(told.scope.key()), Some(told.version)),
        None => (false, None, None),
    }
}
