//! `tallyman simulate --exact`: replays the log of an organisation's partition, record by record, through the door that the
//! fold uses (`processor::intake`) and the judgement that decisions use (`domain::simulate`). It needs no instance and
//! writes nothing. What is known of a record's time is Kafka's timestamp.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Usage;
use super::apply::{registry, terms_of};
use super::simulate::{Answer, Outcome, Scope, SimulateArgs};
use crate::clock::{Clock as _, SystemClock};
use crate::codec::Decoder;
use crate::codec::terms_document::TermsDocument;
use crate::config::Settings;
use crate::domain::credits::CreditSum;
use crate::domain::limits::walk::Terms;
use crate::domain::terms::book::OrgTerms;
use crate::domain::terms::change::TermsLog;
use crate::domain::terms::records::TermsRecord;
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dedupe::{IdHasher, IdKey, Seen, Window};
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::event::{Event, Multiplier};
use crate::domain::usage::murmur2::partition_of;
use crate::domain::what_if::budget_replay::Cycles;
use crate::domain::what_if::replay::Step;
use crate::domain::what_if::simulate::{Simulation, with_terms};
use crate::domain::what_if::simulate_budgets::{BudgetSimulation, PERIODS_KEPT_MAX, SCOPES_MAX, side_by_side};
use crate::kafka;
use crate::processor::intake::{self, Rules, Verdict};
use crate::processor::ports::{Header, Record};
use crate::query::{QueryError, SimulateParams, check_range};

/// Records between two looks at the bar.
const BAR_EVERY: u64 = 4096;

/// Replays the log under the documents' terms and under the organisation's own.
pub(super) fn simulate(
    settings: &Settings,
    args: &SimulateArgs,
    documents: &[TermsDocument],
) -> anyhow::Result<Answer> {
    let named = [("from", &args.from), ("to", &args.to)];
    let params: Vec<(String, String)> =
        named.iter().filter_map(|(name, value)| Some(((*name).to_owned(), (*value).clone()?))).collect();
    let wrong = |error: QueryError| Usage(error.to_string());
    let params = SimulateParams::parse(&params).map_err(wrong)?;
    let default = settings.default_terms()?;
    let log = terms_of(settings, &BTreeSet::from([args.org.as_str()]))?.remove(&args.org).unwrap_or_default();
    let own = org_terms(&log);
    let now = SystemClock.now();
    let to = params.to.unwrap_or(Hour(now.hour().0 + 1));
    let own_terms = Terms { org: &own, default };
    let from = params.from.unwrap_or_else(|| own_terms.period(now.min(to.start())).start);
    check_range(from, to).map_err(wrong)?;
    let records: Vec<TermsRecord> = documents.iter().map(|document| document.holding_from(from.start())).collect();
    let other = with_terms(&own, &records);
    let mut sides = [
        Simulation::of_other_terms(&args.org, Terms { org: &other, default }, from.start(), to.start()),
        Simulation::new(&args.org, own_terms, from.start(), to.start()),
    ];
    let cycles = [&other, &own].map(|org| Cycles::new(Terms { org, default }, from.start(), to.start()));
    let [of_other, of_own] = &cycles;
    let mut budgets = [
        BudgetSimulation::of_events(&other, of_other, from.start(), to.start()),
        BudgetSimulation::of_events(&own, of_own, from.start(), to.start()),
    ];
    let mut is_known = log.last_offset().is_some();
    let partition = read(settings, &args.org, &mut |step, event| {
        is_known = true;
        sides.iter_mut().for_each(|side| side.add(step));
        budgets.iter_mut().for_each(|side| add(side, step, event));
    })?;
    if !is_known {
        return Err(QueryError::UnknownOrg { org: args.org.clone(), partition }.into());
    }
    let [simulated, actual] = sides.map(|side| side.finish().iter().map(Outcome::of).collect());
    if budgets.iter().any(BudgetSimulation::is_full) {
        anyhow::bail!(
            "budgets would bind more than {SCOPES_MAX} values or {PERIODS_KEPT_MAX} of their periods: simulate fewer \
             budgets, or a shorter range, at once"
        );
    }
    let [of_other, of_own] = budgets.map(BudgetSimulation::finish);
    let (scopes, budgets_left_out) = side_by_side(of_other, of_own);
    Ok(Answer {
        org_id: args.org.clone(),
        from: from.start().to_string(),
        to: to.start().to_string(),
        simulated,
        actual,
        budgets: scopes.iter().map(Scope::of).collect(),
        budgets_left_out,
    })
}

/// Counts an event for the org and for each of its values, as the fold tells them.
fn add(budgets: &mut BudgetSimulation<'_>, step: Step, event: &Event<'_>) {
    let (dims, multiplier) = match event {
        Event::Usage(usage) => (&usage.dims, usage.multiplier),
        Event::Adjusted(adjusted) => (&adjusted.dims, None),
        Event::Outcome(_) => return,
    };
    budgets.add(None, step);
    for dimension in Dimension::ALL {
        let derived = multiplier.filter(|_| dimension == Dimension::Tier).map(Multiplier::tier);
        if let Some(value) = dims.get(dimension).or(derived) {
            budgets.add(Some((dimension, value)), step);
        }
    }
}

fn org_terms(log: &TermsLog) -> OrgTerms {
    let mut terms = OrgTerms::default();
    for (offset, record) in log.iter() {
        terms.insert(offset, record.clone());
    }
    terms
}

/// What is remembered while the log is read.
struct Door {
    decoder: Decoder,
    rules: Rules,
    hasher: IdHasher,
    log_time: Timestamp,
    seen: HashMap<IdKey, Seen>,
    /// Ids are looked through for expired ones when there are so many.
    expire_at: usize,
    problem: Option<String>,
}

impl Door {
    /// The step that a record of the org is, where the fold would take it.
    fn step<'a>(&mut self, record: &Record<'a>, headers: &[Header]) -> Option<(Step, Event<'a>)> {
        let log_time = self.log_time;
        let Self { decoder, rules, hasher, seen, .. } = self;
        let known = |key: IdKey| Ok::<_, crate::codec::DecodeError>(seen.get(&key).copied());
        let (event, key, first) = match intake::judge(record, headers, log_time, rules, decoder, hasher, known) {
            Ok(Verdict::Fold(event, key, first)) => (event, key, first),
            Ok(_) => return None,
            Err(error) => {
                self.problem.get_or_insert_with(|| error.to_string());
                return None;
            }
        };
        seen.insert(key, first);
        if seen.len() > self.expire_at {
            let window = rules.window;
            seen.retain(|_, first| window.remembers(first.at, log_time));
            self.expire_at = (2 * seen.len()).max(self.expire_at);
        }
        let credits = match &event {
            Event::Usage(usage) => usage.credits,
            Event::Adjusted(adjusted) => adjusted.credits,
            Event::Outcome(_) => return None,
        };
        let hour = event.occurred_at().hour();
        Some((Step { known_at: log_time, hour, credits: CreditSum::from(credits) }, event))
    }
}

/// Each step of the org that its partition's log holds, with a bar of how far it is read; gives the partition.
fn read(settings: &Settings, org: &str, each: &mut dyn FnMut(Step, &Event<'_>)) -> anyhow::Result<i32> {
    let partitions = kafka::cluster_info(&settings.kafka)?.partitions;
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let mut door = Door {
        decoder: Decoder::new(registry(settings)?),
        rules: Rules {
            partitions,
            window: Window::new(micros(settings.dedupe_window)),
            future_micros_max: micros(settings.time.max_future),
            age_micros_max: micros(settings.time.max_age),
        },
        hasher: IdHasher::default(),
        log_time: Timestamp::from_micros(0),
        seen: HashMap::new(),
        expire_at: 1 << 16,
        problem: None,
    };
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} records, {per_sec}, {eta} left");
    let bar = ProgressBar::new(0).with_style(style.expect("the template is a legal constant"));
    let partition = partition_of(org.as_bytes(), partitions);
    let mut count = 0_u64;
    kafka::read_partitions(
        &settings.kafka,
        &settings.kafka.topics.usage,
        &[partition],
        |record, headers, end| {
            door.log_time = door.log_time.max(record.timestamp);
            if count.is_multiple_of(BAR_EVERY) {
                bar.set_length(end.unsigned_abs());
                bar.set_position(record.offset.unsigned_abs());
            }
            count += 1;
            // Only a record under the org's key can be its own here: all others are forwarded first.
            if record.key == Some(org.as_bytes())
                && let Some((step, event)) = door.step(record, headers)
            {
                each(step, &event);
            }
        },
    )?;
    bar.finish_and_clear();
    match door.problem {
        Some(problem) => Err(anyhow::anyhow!("the log cannot be replayed: {problem}")),
        None => Ok(partition),
    }
}
