//! `tallyman simulate`: what other terms would have made of an organisation's usage, beside what its own made of it.
//! A running instance answers at once, by the hour; `--exact` reads the log of the organisation's partition (`exact`).

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::apply::{read_documents, refused};
use super::exact;
use super::policy::Asking;
use super::query::{org_path, write_json};
use super::table::{Output, Table, shown};
use crate::codec::terms_document::{DocumentErrors, TermsDocument};
use crate::codec::terms_fields;
use crate::config::Settings;
use crate::domain::time::Timestamp;
use crate::domain::what_if::simulate::{Moment, PeriodOutcome};
use crate::domain::what_if::simulate_budgets::{self, Reached, ScopePair};

/// Budgets' scopes that the table shows; CSV and JSON have all that the answer has.
const SCOPES_SHOWN: usize = 20;
/// Characters of a budget's or a value's name that the table shows.
const NAME_WIDTH: usize = 24;

/// Arguments of `tallyman simulate`.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("terms").args(["policy", "budget"]).required(true).multiple(true)))]
pub(super) struct SimulateArgs {
    /// The organisation's id
    pub(super) org: String,
    /// A file of terms, as `policy apply` takes it; what leaves out `effective_at` holds from the range's start
    #[arg(long, value_name = "FILE")]
    policy: Vec<String>,
    /// A further file, likewise
    #[arg(long, value_name = "FILE")]
    budget: Vec<String>,
    /// First hour: a date, or a whole UTC hour in RFC 3339 [default: the running period's start]
    #[arg(long)]
    pub(super) from: Option<String>,
    /// First hour no longer in the range, likewise [default: the running hour's end]
    #[arg(long)]
    pub(super) to: Option<String>,
    /// Read every event of the organisation's partition from Kafka instead of asking for hours
    #[arg(long)]
    exact: bool,
    #[command(flatten)]
    asking: Asking,
}

/// The answer.
#[derive(Deserialize, Serialize)]
pub(super) struct Answer {
    pub(super) org_id: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) simulated: Vec<Outcome>,
    pub(super) actual: Vec<Outcome>,
    pub(super) budgets: Vec<Scope>,
    pub(super) budgets_left_out: usize,
}

/// What came of a period.
#[derive(Deserialize, Serialize)]
pub(super) struct Outcome {
    period_start: String,
    period_end: String,
    used: String,
    allowance: Option<String>,
    overage: String,
    used_while_blocked: String,
    packs: i32,
    blocked: Vec<Blocked>,
    thresholds: Vec<Threshold>,
}

/// A budget's scope under either terms.
#[derive(Deserialize, Serialize)]
pub(super) struct Scope {
    dimension: Option<String>,
    value: Option<String>,
    budget_id: String,
    simulated: Option<ScopeOutcome>,
    actual: Option<ScopeOutcome>,
}

/// What came of it: the period in which most of the limit was used, and all that was blocked or reached.
#[derive(Deserialize, Serialize)]
struct ScopeOutcome {
    budget_name: String,
    period_start: String,
    period_end: String,
    used: String,
    limit: String,
    first_blocked: Option<Blocked>,
    blocks: u32,
    blocked_seconds: i64,
    used_while_blocked: String,
    thresholds: Vec<ScopeThreshold>,
}

#[derive(Deserialize, Serialize)]
struct ScopeThreshold {
    percent: i32,
    at: String,
    periods: u32,
}

#[derive(Deserialize, Serialize)]
struct Blocked {
    from: String,
    until: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Threshold {
    percent: i32,
    at: String,
}

impl Outcome {
    /// Of a replay whose instants are exact.
    pub(super) fn of(outcome: &PeriodOutcome) -> Self {
        Self {
            period_start: outcome.period.starts_at().to_string(),
            period_end: outcome.period.ends_at().to_string(),
            used: outcome.used.to_string(),
            allowance: outcome.allowance.map(|allowance| allowance.to_string()),
            overage: outcome.overage.to_string(),
            used_while_blocked: outcome.while_blocked.to_string(),
            packs: outcome.packs,
            blocked: outcome
                .blocked
                .iter()
                .map(|((from, _), until)| Blocked {
                    from: from.to_string(),
                    until: until.map(|at| at.to_string()),
                })
                .collect(),
            thresholds: outcome
                .thresholds
                .iter()
                .map(|(percent, (at, _))| Threshold { percent: *percent, at: at.to_string() })
                .collect(),
        }
    }
}

impl Scope {
    /// Of replays whose instants are exact.
    pub(super) fn of(pair: &ScopePair) -> Self {
        let side = |side: &Option<simulate_budgets::ScopeOutcome>| side.as_ref().map(ScopeOutcome::of);
        Self {
            dimension: pair.scope.dimension.map(|dimension| dimension.name().to_owned()),
            value: pair.scope.value.clone(),
            budget_id: pair.scope.budget_id.clone(),
            simulated: side(&pair.simulated),
            actual: side(&pair.actual),
        }
    }

    fn told(&self) -> String {
        match (&self.dimension, &self.value) {
            (None, _) => "all usage".to_owned(),
            (Some(dimension), None) => format!("each other {dimension}"),
            (Some(dimension), Some(value)) => format!("{dimension} {value}"),
        }
    }
}

impl ScopeOutcome {
    fn of(outcome: &simulate_budgets::ScopeOutcome) -> Self {
        let block = |((from, _), until): &(Moment, Option<Timestamp>)| Blocked {
            from: from.to_string(),
            until: until.map(|at| at.to_string()),
        };
        let threshold = |reached: &Reached| ScopeThreshold {
            percent: reached.percent,
            at: reached.first.0.to_string(),
            periods: reached.periods,
        };
        Self {
            budget_name: outcome.budget_name.clone(),
            period_start: outcome.fullest.period.starts_at().to_string(),
            period_end: outcome.fullest.period.ends_at().to_string(),
            used: outcome.fullest.used.to_string(),
            limit: outcome.fullest.limit.to_string(),
            first_blocked: outcome.first_block.as_ref().map(block),
            blocks: outcome.blocks,
            blocked_seconds: outcome.blocked_micros / 1_000_000,
            used_while_blocked: outcome.while_blocked.to_string(),
            thresholds: outcome.thresholds.iter().map(threshold).collect(),
        }
    }
}

pub(super) fn run(settings: &Settings, args: &SimulateArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = org_path(&args.org, "/simulate")?;
    let mut documents = Vec::new();
    for file in args.policy.iter().chain(&args.budget) {
        documents.extend(documents_of(&args.org, file)?);
    }
    let answer = if args.exact {
        exact::simulate(settings, args, &documents)?
    } else {
        let named = [("from", &args.from), ("to", &args.to)];
        let params: Vec<(&str, &str)> =
            named.iter().filter_map(|(name, value)| value.as_deref().map(|value| (*name, value))).collect();
        let terms: Vec<Value> = documents.iter().map(question).collect();
        args.asking.api(settings).post(&path, &params, &json!({"terms": terms}))?
    };
    Ok(match args.asking.output {
        Output::Json => write_json(&answer, out),
        Output::Csv => write_csv(&answer, out),
        Output::Table => write(&answer, args.exact, out),
    }?)
}

/// The documents of a file, all of which are the organisation's own: another's are perhaps not meant for it.
fn documents_of(org: &str, file: &str) -> anyhow::Result<Vec<TermsDocument>> {
    let documents = read_documents(file)?;
    let fault = |document: &TermsDocument| {
        let whose = document.record.org_id();
        let what =
            format!("is {whose}, and {org} is simulated: to try these terms give a copy with `org_id: {org}`");
        (whose != org).then(|| document.error("org_id", &what))
    };
    let errors: Vec<_> = documents.iter().filter_map(fault).collect();
    if errors.is_empty() { Ok(documents) } else { Err(refused(file)(DocumentErrors(errors)).into()) }
}

/// A document as the instance is asked with it.
fn question(document: &TermsDocument) -> Value {
    let mut fields = terms_fields(&document.record);
    if !document.says_effective_at {
        fields.0.retain(|(name, _)| name != "effective_at");
    }
    json!(fields)
}

/// A table a period: what these terms would have made of it, beside what was.
fn write(answer: &Answer, exact: bool, out: &mut dyn Write) -> io::Result<()> {
    let grain = if exact { "event by event" } else { "hour by hour" };
    writeln!(out, "{} from {} to {}, {grain}", answer.org_id, answer.from, answer.to)?;
    let mut starts: Vec<&str> =
        answer.simulated.iter().chain(&answer.actual).map(|period| period.period_start.as_str()).collect();
    starts.sort_unstable();
    starts.dedup();
    for start in starts {
        let find = |periods: &'_ [Outcome]| periods.iter().position(|period| period.period_start == start);
        let simulated = find(&answer.simulated).map(|place| &answer.simulated[place]);
        let actual = find(&answer.actual).map(|place| &answer.actual[place]);
        let mut table =
            Table::new([format!("period from {start}"), "with these terms".into(), "as it was".into()]);
        let mut row = |name: &str, value: &dyn Fn(&Outcome) -> String| {
            let cell = |outcome: Option<&Outcome>| outcome.map(value).unwrap_or_default();
            table.push([name.to_owned(), cell(simulated), cell(actual)]);
        };
        row("ends", &|outcome| outcome.period_end.clone());
        row("used", &|outcome| outcome.used.clone());
        row("allowance", &|outcome| outcome.allowance.clone().unwrap_or_else(|| "no limit".to_owned()));
        row("overage", &|outcome| outcome.overage.clone());
        row("blocked", &|outcome| times(outcome.blocked.len()));
        if [simulated, actual].into_iter().flatten().any(|outcome| !outcome.blocked.is_empty()) {
            row("first blocked from", &|outcome| span(outcome.blocked.first())[0].clone());
            row("until", &|outcome| until(outcome.blocked.first()));
        }
        row("used while blocked", &|outcome| outcome.used_while_blocked.clone());
        row("packs asked for", &|outcome| outcome.packs.to_string());
        let mut percents: Vec<i32> =
            [simulated, actual].into_iter().flatten().flat_map(|o| &o.thresholds).map(|t| t.percent).collect();
        percents.sort_unstable();
        percents.dedup();
        for percent in percents {
            row(&format!("{percent} % reached"), &|outcome| {
                let found = outcome.thresholds.iter().find(|threshold| threshold.percent == percent);
                found.map_or_else(|| "no".to_owned(), |threshold| threshold.at.clone())
            });
        }
        writeln!(out)?;
        table.write(out)?;
    }
    budgets(answer, out)?;
    if !exact {
        writeln!(
            out,
            "\nWhere usage brought an instant about, the hour of that usage stands here. What began and ended within one hour\nis \
             not seen. --exact shows both to the event."
        )?;
    }
    Ok(())
}

/// The columns of CSV; a cell is empty where the answer does not tell it of an organisation, or of a budget's scope.
const COLUMNS: [&str; 18] = [
    "org_id",
    "terms",
    "dimension",
    "value",
    "budget_id",
    "budget_name",
    "period_start",
    "period_end",
    "used",
    "allowance",
    "overage",
    "packs",
    "blocks",
    "blocked_seconds",
    "first_blocked_from",
    "first_blocked_until",
    "used_while_blocked",
    "thresholds",
];

/// One row for each period of the organisation, then for each scope of a budget, under either terms: `simulated` and `actual`.
fn write_csv(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(COLUMNS);
    for (terms, periods) in [("simulated", &answer.simulated), ("actual", &answer.actual)] {
        for period in periods {
            let scope = [&answer.org_id, terms, "", "", "", ""].map(str::to_owned);
            table.push(scope.into_iter().chain(period.row()));
        }
    }
    for scope in &answer.budgets {
        for (terms, side) in [("simulated", &scope.simulated), ("actual", &scope.actual)] {
            let Some(side) = side else { continue };
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let (id, name) = (scope.budget_id.clone(), side.budget_name.clone());
            let names =
                [answer.org_id.clone(), terms.to_owned(), text(&scope.dimension), text(&scope.value), id, name];
            table.push(names.into_iter().chain(side.row()));
        }
    }
    table.write_csv(out)?;
    // Not in the answer's rows, and not to be missed.
    if answer.budgets_left_out > 0 {
        eprintln!("{} more scopes of budgets are left out", answer.budgets_left_out);
    }
    Ok(())
}

/// `75=<instant> 90=<instant>`, lowest first.
fn reached<'a>(thresholds: impl Iterator<Item = (i32, &'a String)>) -> String {
    thresholds.map(|(percent, at)| format!("{percent}={at}")).collect::<Vec<_>>().join(" ")
}

fn span(blocked: Option<&Blocked>) -> [String; 2] {
    let until = blocked.and_then(|blocked| blocked.until.clone());
    [blocked.map(|blocked| blocked.from.clone()).unwrap_or_default(), until.unwrap_or_default()]
}

impl Outcome {
    fn row(&self) -> [String; 12] {
        let [from, until] = span(self.blocked.first());
        [
            self.period_start.clone(),
            self.period_end.clone(),
            self.used.clone(),
            self.allowance.clone().unwrap_or_default(),
            self.overage.clone(),
            self.packs.to_string(),
            self.blocked.len().to_string(),
            String::new(),
            from,
            until,
            self.used_while_blocked.clone(),
            reached(self.thresholds.iter().map(|threshold| (threshold.percent, &threshold.at))),
        ]
    }
}

impl ScopeOutcome {
    fn row(&self) -> [String; 12] {
        let [from, until] = span(self.first_blocked.as_ref());
        [
            self.period_start.clone(),
            self.period_end.clone(),
            self.used.clone(),
            self.limit.clone(),
            String::new(),
            String::new(),
            self.blocks.to_string(),
            self.blocked_seconds.to_string(),
            from,
            until,
            self.used_while_blocked.clone(),
            reached(self.thresholds.iter().map(|threshold| (threshold.percent, &threshold.at))),
        ]
    }
}

/// A table a scope, as of the periods: what these terms would have made of it, beside what was.
fn budgets(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    if !answer.budgets.is_empty() {
        writeln!(out, "\nBudgets that blocked or reached a threshold, the most severe first:")?;
    }
    for scope in answer.budgets.iter().take(SCOPES_SHOWN) {
        writeln!(out)?;
        budget(scope, out)?;
    }
    let more = answer.budgets_left_out + answer.budgets.len().saturating_sub(SCOPES_SHOWN);
    if more > 0 {
        let told = answer.budgets.len();
        writeln!(out, "\n{more} more are left out; --output csv and --output json have the first {told}.")?;
    }
    Ok(())
}

fn budget(scope: &Scope, out: &mut dyn Write) -> io::Result<()> {
    let sides = [&scope.simulated, &scope.actual];
    let named = |text: &str| clipped(&shown(text), NAME_WIDTH);
    let name = format!("{}, {}", named(&scope.budget_id), named(&scope.told()));
    let mut table = Table::new([&name, "with these terms", "as it was"]);
    let mut row = |name: &str, value: &dyn Fn(&ScopeOutcome) -> String| {
        table.push(
            std::iter::once(name.to_owned()).chain(sides.map(|side| side.as_ref().map(value).unwrap_or_default())),
        );
    };
    row("blocked", &|side| match side.blocks {
        0 => "never".to_owned(),
        blocks => {
            let (hours, minutes) = (side.blocked_seconds / 3600, side.blocked_seconds / 60 % 60);
            format!("{}, {hours} h {minutes} min", times(blocks as usize))
        }
    });
    if sides.into_iter().flatten().any(|side| side.blocks > 0) {
        row("first blocked from", &|side| span(side.first_blocked.as_ref())[0].clone());
        row("until", &|side| until(side.first_blocked.as_ref()));
        row("used while blocked", &|side| side.used_while_blocked.clone());
    }
    row("most used", &|side| format!("{} of {}", side.used, side.limit));
    row("in the period from", &|side| side.period_start.clone());
    let mut percents: Vec<i32> =
        sides.into_iter().flatten().flat_map(|side| &side.thresholds).map(|t| t.percent).collect();
    percents.sort_unstable();
    percents.dedup();
    for percent in percents {
        row(&format!("{percent} % reached first"), &|side| {
            let found = side.thresholds.iter().find(|threshold| threshold.percent == percent);
            found.map_or_else(|| "no".to_owned(), |threshold| threshold.at.clone())
        });
    }
    table.write(out)
}

/// A name as a line has room for.
fn clipped(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    name.chars().take(width - 1).chain(['\u{2026}']).collect()
}

fn times(count: usize) -> String {
    match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// The end of the first block.
fn until(blocked: Option<&Blocked>) -> String {
    blocked.map_or_else(String::new, |blocked| {
        blocked.until.clone().unwrap_or_else(|| "still blocked at the end".into())
    })
}
