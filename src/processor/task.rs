//! A task: one partition of the usage topic and all that belongs to it. It folds records, proposes what to publish
//! and persists what is published; it never talks to Kafka itself (the worker does).
//!
//! A task first replays muted up to O*, then is `ready_to_speak`: it persists, decides every scope once, and from
//! then on publishes differences (Law 5). What it holds in memory follows from the store, the log and the control
//! topic, so that after any failed transaction it is thrown away and recovered (Law 3).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock as _;
use crate::codec::{DecodeError, Decoder};
use crate::domain::cube::fold::Fold;
use crate::domain::cube::interner::Symbol;
use crate::domain::cube::seal::Sealer;
use crate::domain::limits::decision::LimitDecision;
use crate::domain::terms::book::TermsBook;
use crate::domain::terms::records::TermsRecord;
use crate::domain::time::Timestamp;
use crate::domain::usage::dedupe::{IdHasher, IdKey, Seen};
use crate::domain::usage::event::Event;
use crate::store::{PoliciesRead, Store, StoreError, TaskMeta};
use crate::telemetry::{TaskState, Telemetry};

use super::checksum::Checksum;
use super::intake::{self, Rules, Verdict};
use super::orgs::{Change, Ending, Law, Orgs};
use super::ports::{Header, Output, OutputTopic, Record, RecordBatch};
use super::recovery::Halt;
use super::settings::TaskSettings;
use super::trusted_clock::DEVIATION_MICROS_MAX;

mod aside;
mod cause;
mod counts;
mod flush;
mod guard;
mod new_ids;
mod publish;
mod terms;
mod waits;

use cause::cause_of;
use counts::Counts;
use flush::Flushing;
use guard::Guard;
use new_ids::NewIds;
use waits::Waits;

/// Why a task cannot go on with a record.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Nothing is wrong with the record: ask again later (Law 7).
    #[error("{0}")]
    Unavailable(String),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log is not the one that was published through (Law 3).
    #[error("{}", .0.message)]
    OtherLog(Halt),
}

impl From<DecodeError> for TaskError {
    fn from(error: DecodeError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// What recovery found out about a task before it runs.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Where the store stands.
    pub meta: TaskMeta,
    /// O*: what records below it caused is published.
    pub published_through: i64,
    /// Policies position of that commit.
    pub policies_through: i64,
    /// Terms are loaded when the policies are read up to here.
    pub policies_end: i64,
    /// Transactions committed for this partition so far.
    pub transactions: u64,
    /// Whether a person said what O* is: then the store may be written before this instance has committed anything.
    pub adopted: bool,
    /// What the log up to O* was; `None` when the committer did not know or a person adopted the log as it is.
    pub checksum: Option<Checksum>,
    /// The levels that the control topic holds.
    pub levels: Vec<LimitDecision>,
}

/// One task.
pub struct Task {
    partition: i32,
    settings: Arc<TaskSettings>,
    rules: Rules,
    store: Store,
    fold: Fold,
    /// Makes blocks of what is folded; away while a flush is on its way.
    sealer: Option<Sealer>,
    flushing: Option<Flushing>,
    hasher: IdHasher,
    new_ids: NewIds,
    /// Memory for the next.
    spare_ids: NewIds,
    terms: TermsBook,
    new_terms: Vec<(i64, TermsRecord)>,
    orgs: Orgs,
    guard: Option<Guard>,
    places: HashMap<Symbol, u32>,
    meta: TaskMeta,
    recovered: Recovered,
    started: Instant,
    flushed_at: Instant,
    flush_took: Duration,
    speaking: bool,
    /// Where the log was last seen to end.
    log_end: i64,
    caught_up: bool,
    /// Position at the last known commit.
    committed: (i64, i64),
    /// What was read of the policies up to there.
    committed_policies: PoliciesRead,
    transactions: u64,
    persisted: (i64, i64),
    outbox: Vec<Output>,
    changes: Vec<Change>,
    endings: Vec<Ending>,
    /// Decisions that the store does not hold yet, by key; `None` where a tombstone took one away.
    new_levels: BTreeMap<String, Option<LimitDecision>>,
    decided_at: Timestamp,
    /// Kafka timestamps of records that wait for the commit of the decisions they caused; of those that came while it was
    /// caught up, for how long a backlog stood in the log says nothing of the time from event to decision.
    causes: Vec<Timestamp>,
    waits: Waits,
}

impl Task {
    /// A task that starts from what recovery found.
    ///
    /// # Errors
    /// When the store's terms cannot be read.
    pub fn new(
        partition: i32,
        partitions: i32,
        store: Store,
        recovered: Recovered,
        settings: Arc<TaskSettings>,
    ) -> Result<Self, StoreError> {
        let mut terms = TermsBook::default();
        store.reader().snapshot().all_terms(&mut |offset, record| {
            terms.insert(offset, record);
        })?;
        let stored = recovered.meta.clone();
        // Law 4: the topic wins, also over what it holds no more.
        let mut new_levels = BTreeMap::new();
        store.reader().snapshot().levels(&mut |level| drop(new_levels.insert(level.scope.key(), None)))?;
        new_levels.extend(recovered.levels.iter().map(|level| (level.scope.key(), Some(level.clone()))));
        let guard = settings.guard.map(|latency| i64::try_from(latency.as_micros()).unwrap_or(i64::MAX));
        // A decision that is dated ahead of the clock was made by one that was wrong: its date binds nobody.
        let latest = settings.clock.now().plus_micros(DEVIATION_MICROS_MAX);
        let decided_at = recovered.levels.iter().map(|level| level.decided_at).filter(|at| *at <= latest).max();
        let ahead = recovered.levels.iter().filter(|level| level.decided_at > latest).count();
        if ahead > 0 {
            tracing::warn!(partition, "{ahead} decisions are dated later than {latest}: they are decided anew");
        }
        Ok(Self {
            partition,
            rules: settings.rules(partitions),
            fold: Fold::default(),
            sealer: Some(Sealer::default()),
            flushing: None,
            settings,
            store,
            hasher: IdHasher::default(),
            new_ids: NewIds::default(),
            spare_ids: NewIds::default(),
            terms,
            new_terms: Vec::new(),
            orgs: Orgs::new(guard),
            guard: guard.map(|_| Guard::default()),
            places: HashMap::default(),
            speaking: false,
            log_end: 0,
            caught_up: false,
            committed: (recovered.published_through, recovered.policies_through),
            committed_policies: stored.policies,
            transactions: recovered.transactions,
            persisted: (stored.position, stored.policies_position),
            meta: stored,
            recovered,
            started: Instant::now(),
            flushed_at: Instant::now(),
            flush_took: Duration::ZERO,
            outbox: Vec::new(),
            changes: Vec::new(),
            endings: Vec::new(),
            new_levels,
            decided_at: decided_at.unwrap_or(Timestamp::MIN),
            causes: Vec::new(),
            waits: Waits::default(),
        })
    }

    /// Its partition.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.partition
    }

    /// Next offset to fold.
    #[must_use]
    pub const fn position(&self) -> i64 {
        self.meta.position
    }

    /// Next policies offset to take.
    #[must_use]
    pub const fn policies_position(&self) -> i64 {
        self.meta.policies_position
    }

    /// How far its restore is.
    #[must_use]
    pub const fn restoring(&self) -> TaskState {
        TaskState::Replaying {
            position: self.meta.position,
            until: self.recovered.published_through,
            terms: self.meta.policies_position,
            terms_until: self.recovered.policies_end,
        }
    }

    /// Where its store stood when it was recovered.
    #[must_use]
    pub const fn recovered_from(&self) -> i64 {
        self.recovered.meta.position
    }

    /// How long ago it was recovered.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The position of its last known commit.
    #[must_use]
    pub const fn committed_position(&self) -> i64 {
        self.committed.0
    }

    /// Whether a transaction was ever committed for its partition.
    #[must_use]
    pub const fn has_commit(&self) -> bool {
        self.transactions > 0
    }

    /// Whether a store batch may be written: no earlier than the first known commit (Law 5), but while a person's word
    /// stands for it. A replay of the whole log would else keep all of it in memory.
    #[must_use]
    pub const fn may_persist(&self) -> bool {
        self.has_commit() || self.recovered.adopted
    }

    /// Log time of its partition.
    #[must_use]
    pub const fn log_time(&self) -> Timestamp {
        self.meta.log_time
    }

    /// Whether it decides and publishes.
    #[must_use]
    pub const fn is_speaking(&self) -> bool {
        self.speaking
    }

    /// Its store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The instant for decisions: max(wall clock, last decided_at).
    fn instant(&self, wall: Timestamp) -> Timestamp {
        wall.max(self.decided_at)
    }

    /// Folds the records of `batch` at `places`, all of this partition, in order. Records below the position are
    /// skipped: they were folded before.
    ///
    /// # Errors
    /// [`TaskError::Unavailable`]: all records before the one at the position are folded, read again from there.
    pub fn fold<B: RecordBatch>(
        &mut self,
        batch: &B,
        places: std::ops::Range<usize>,
        decoder: &mut Decoder,
        telemetry: &Telemetry,
    ) -> Result<(), TaskError> {
        let mut last_of: HashMap<Symbol, usize, foldhash::fast::FixedState> = HashMap::default();
        // Where the record of each spend of the batch stands.
        let mut spent_at = Vec::new();
        let mut became = Counts::default();
        let (mut outcome, end) = (Ok(()), places.end);
        let mut last_passed = None;
        for place in places {
            let record = batch.get(place);
            if record.offset < self.meta.position {
                continue;
            }
            let headers = batch.headers(place);
            let verdict = match self.judge(&record, &headers, decoder) {
                Ok(verdict) => verdict,
                Err(error) => {
                    self.await_schemas(&error, batch, place + 1..end, decoder);
                    outcome = Err(error);
                    break;
                }
            };
            self.tell_unknown_fields(decoder, telemetry);
            let muted = record.offset < self.recovered.published_through;
            match verdict {
                Verdict::Fold(event, key, seen) => {
                    became.folded += 1;
                    if let (Event::Adjusted(event), false) = (&event, muted) {
                        telemetry.adjusted(event.credits.into());
                    }
                    last_of.insert(self.accept(&event, key, seen, record.timestamp)?, place);
                    spent_at.resize(self.fold.spends().len(), place);
                }
                Verdict::Duplicate => {
                    became.duplicate += 1;
                    self.meta.counts.duplicate += 1;
                }
                Verdict::Forward(home, org) => {
                    self.meta.counts.forwarded += 1;
                    if !muted && self.send_on(OutputTopic::Usage, &record, headers, (home, &org), telemetry) {
                        became.forwarded += 1;
                    } else {
                        became.dead += u64::from(!muted);
                    }
                }
                Verdict::DeadLetter(reject) => {
                    self.meta.counts.dead += 1;
                    if !muted {
                        self.bury(&self.settings.usage_topic.clone(), &record, headers, &reject, telemetry);
                        became.dead += 1;
                    }
                }
            }
            self.passed(&record);
            last_passed = Some(place);
        }
        if let Some(place) = last_passed {
            // Once a batch: its checksum reads the whole record.
            self.meta.last_record = Some(counts::last_of(&batch.get(place)));
        }
        self.waits.usage = outcome.as_ref().err().map(ToString::to_string);
        became.report(telemetry);
        self.settle(batch, &last_of, &spent_at, decoder)?;
        outcome
    }

    /// Folds an event and notes its id; gives its org's number.
    fn accept(&mut self, event: &Event<'_>, key: IdKey, seen: Seen, at: Timestamp) -> Result<Symbol, TaskError> {
        self.meta.counts.folded += 1;
        self.meta.counts.credits += event.credits().map_or(0, |credits| i128::from(credits.micros()));
        let org = self.fold.add(event, &self.store)?;
        self.rate(event, self.meta.log_time.max(at))?;
        self.new_ids.insert(key, seen);
        Ok(org)
    }

    fn judge<'a>(
        &mut self,
        record: &Record<'a>,
        headers: &[Header],
        decoder: &mut Decoder,
    ) -> Result<Verdict<'a>, TaskError> {
        let log_time = self.meta.log_time.max(record.timestamp);
        let (ids, store, window) = (&self.new_ids, &self.store, self.rules.window);
        let on_their_way = self.flushing.as_ref().map(|flushing| &flushing.ids);
        intake::judge(record, headers, log_time, &self.rules, decoder, &mut self.hasher, |key| {
            if let Some(seen) = ids.get(key).or_else(|| on_their_way?.get(key)) {
                return Ok::<_, TaskError>(Some(seen));
            }
            Ok(store.find_id(key, window.oldest_live(log_time)..=window.bucket(log_time))?)
        })
    }

    fn passed(&mut self, record: &Record<'_>) {
        if self.meta.origin > 0 && self.meta.since.is_none() {
            // Law 8: the log had shrunk before the first start; every answer tells from when on it is whole.
            self.meta.since = Some(record.timestamp);
        }
        self.meta.log_time = self.meta.log_time.max(record.timestamp);
        self.meta.position = record.offset + 1;
    }

    /// The log holds no record between the position and `end`, where it ends for now. A muted task takes that as its
    /// position only when it speaks, for its store must not get past O* before (Law 3).
    pub fn reached(&mut self, end: i64) {
        self.log_end = self.log_end.max(end);
        self.caught_up = true;
        let until = if self.speaking { end } else { end.min(self.recovered.published_through) };
        self.meta.position = self.meta.position.max(until);
    }

    /// The next record stands at `offset`: between the position and it the log holds none, only markers of
    /// transactions. A replay is over when that is O* or beyond.
    pub fn replayed_before(&mut self, offset: i64) {
        self.meta.position = self.meta.position.max(offset.min(self.recovered.published_through));
    }

    /// Records wait that it cannot take yet: it stands at the log's end again when they are folded.
    pub const fn fell_behind(&mut self) {
        self.caught_up = false;
    }

    /// Whether it has been at the log's end since it was recovered, and no record waits for what is unavailable.
    #[must_use]
    pub const fn has_caught_up(&self) -> bool {
        self.speaking && self.caught_up
    }

    fn settle<B: RecordBatch>(
        &mut self,
        batch: &B,
        last_of: &HashMap<Symbol, usize, foldhash::fast::FixedState>,
        spent_at: &[usize],
        decoder: &mut Decoder,
    ) -> Result<(), TaskError> {
        if self.speaking {
            let now = self.instant(self.settings.clock.now());
            self.watch(now)?;
            let law = Law { terms: &self.terms, default: &self.settings.default_terms, now };
            let mut touched = Vec::new();
            let mut with_budgets = HashMap::default();
            for delta in self.fold.org_deltas() {
                let place = match self.places.get(&delta.symbol) {
                    Some(&place) => place,
                    None => self.orgs.find(delta.org, &self.store, law)?,
                };
                self.places.insert(delta.symbol, place);
                self.orgs.add(place, &delta);
                if self.orgs.has_budgets(place) {
                    with_budgets.insert(delta.symbol, place);
                }
                touched.push((delta.symbol, place));
            }
            for (symbol, place) in touched {
                let Some(&last) = last_of.get(&symbol) else { continue };
                if self.orgs.changes(place, law) || self.orgs.has_cause(place) {
                    let record = batch.get(last);
                    self.causes.extend(self.caught_up.then_some(record.timestamp));
                    let cause = cause_of(&record, &batch.headers(last), decoder);
                    self.orgs.enqueue_caused(place, cause);
                }
            }
            if !with_budgets.is_empty() {
                self.settle_budgets(batch, &with_budgets, spent_at, decoder);
            }
        }
        self.fold.end_batch();
        if let Some(guard) = &mut self.guard {
            guard.end_batch();
        }
        Ok(())
    }

    /// Counts the batch's records, one by one, on the scopes of their orgs' budgets; the scopes that may be judged
    /// otherwise now are queued, each with the last record that touched it.
    fn settle_budgets<B: RecordBatch>(
        &mut self,
        batch: &B,
        places: &HashMap<Symbol, u32, foldhash::fast::FixedState>,
        spent_at: &[usize],
        decoder: &mut Decoder,
    ) {
        for (record, spend) in (0..).zip(self.fold.spends()) {
            if let Some(&place) = places.get(&spend.symbol) {
                self.orgs.spend(place, &spend, record);
            }
        }
        for touched in self.orgs.take_touched() {
            let place = spent_at[touched.record as usize];
            let record = batch.get(place);
            let cause = cause_of(&record, &batch.headers(place), decoder);
            self.causes.extend(self.caught_up.then_some(record.timestamp));
            self.orgs.caused(touched, cause);
        }
    }
}
