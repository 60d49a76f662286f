//! `tallyman query`: asks a running instance and shows its answer. It computes nothing: what it prints is what
//! `/v1/orgs/...` says.

use std::io::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::summary;
use super::table::{Output, Table};
use crate::codec::Fields;
use crate::domain::id::is_id;

/// Rows that are asked for at once.
const PAGE_SIZE: &str = "5000";
/// Periods that are asked for at once.
const PERIODS_PAGE: &str = "60";
/// The largest answer that is read, bytes.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// How long an answer may take: longer than the instance allows itself.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Ask a running instance about an organisation.
#[derive(Clone, Debug, clap::Args)]
pub struct QueryArgs {
    /// What to ask.
    #[command(subcommand)]
    pub question: Question,
    /// The instance's address [default: that of http.listen]
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// How to write the answer
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Output,
}

/// What can be asked.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Question {
    /// The running period: plan, allowance, used, remaining, decision
    Summary {
        /// The organisation's id
        org: String,
    },
    /// Every period, the running one first: base, allowance, used, grants used, overage
    Periods {
        /// The organisation's id
        org: String,
    },
    /// Usage over a range, by time and up to three dimensions
    Usage(UsageArgs),
}

/// The parameters of `/v1/orgs/{org}/usage`.
#[derive(Clone, Debug, clap::Args)]
pub struct UsageArgs {
    /// The organisation's id
    pub org: String,
    /// First hour: a date, or a whole UTC hour in RFC 3339 [default: the running period's start]
    #[arg(long)]
    pub from: Option<String>,
    /// First hour no longer in the range, likewise [default: the running hour's end]
    #[arg(long)]
    pub to: Option<String>,
    /// How much time a row holds: hour, day, week, month, period, none [default: day]
    #[arg(long)]
    pub bucket: Option<String>,
    /// IANA time zone of dates, days, weeks and months [default: UTC]
    #[arg(long)]
    pub time_zone: Option<String>,
    /// Up to three dimensions, comma separated: user, product, model, ...
    #[arg(long)]
    pub group_by: Option<String>,
    /// Only rows of this dimension:value; several of one dimension mean any of them
    #[arg(long, value_name = "DIM:VALUE")]
    pub filter: Vec<String>,
    /// What to show, comma separated: credits, events, overage, success_rate, latency_p95_ms, ...
    #[arg(long)]
    pub measures: Option<String>,
    /// A field to order by; `FIELD desc` turns it round
    #[arg(long)]
    pub order_by: Option<String>,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The question itself is wrong.
    #[error("{0}")]
    Question(String),
    /// The instance cannot answer it.
    #[error("{0}")]
    Answer(String),
    /// Nobody answers at the address.
    #[error("{url} does not answer: {problem}; is `tallyman run` or `tallyman dev` up, and is --url its address?")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What happened.
        problem: String,
    },
    /// The answer cannot be written.
    #[error("the answer cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl AskError {
    /// The process's exit code (CONTRACT.md): 2 for a wrong question, 1 for all else.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Question(_) => 2,
            _ => 1,
        }
    }
}

/// Asks the instance at `--url`, else at `base_url`, and writes its answer to `out`.
///
/// # Errors
/// Told as sentences; [`AskError::exit_code`] says what the process ends with.
pub fn run(args: &QueryArgs, base_url: &str, out: &mut dyn Write) -> Result<(), AskError> {
    let api = Api::new(args.url.as_deref().unwrap_or(base_url));
    let written = match &args.question {
        Question::Summary { org } => {
            let summary: Fields = api.get(&org_path(org, "")?, &[])?;
            match args.output {
                Output::Table => summary::write(&summary, out),
                other => write_fields(&summary, other, out),
            }
        }
        Question::Periods { org } => write_periods(&all_periods(&api, org)?, args.output, out),
        Question::Usage(usage) => write_usage(&all_pages(&api, usage)?, args.output, out),
    };
    match written {
        // Whoever reads the pipe has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// The path of one org's resource; refuses what cannot be an org's id.
pub(super) fn org_path(org: &str, rest: &str) -> Result<String, AskError> {
    if is_id(org) {
        return Ok(format!("/v1/orgs/{org}{rest}"));
    }
    Err(AskError::Question(format!("`{org}` cannot be an org id: an id is 1 to 128 of A-Z a-z 0-9 . _ : @ -")))
}

/// A running instance.
pub(super) struct Api {
    agent: ureq::Agent,
    base: String,
}

impl Api {
    pub(super) fn new(base: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWER_MAX));
        Self { agent: config.build().into(), base: base.trim_end_matches('/').to_owned() }
    }

    pub(super) fn get<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        params: &[(&str, &str)],
    ) -> Result<T, AskError> {
        let url = format!("{}{path}", self.base);
        let request = self.agent.get(&url).header("accept", "application/json");
        let request = params.iter().fold(request, |request, (name, value)| request.query(name, value));
        answer(&url, request.call())
    }

    /// The same with a question that is a JSON body.
    pub(super) fn post<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        params: &[(&str, &str)],
        body: &Value,
    ) -> Result<T, AskError> {
        let url = format!("{}{path}", self.base);
        let request = self.agent.post(&url).header("content-type", "application/json");
        let request = params.iter().fold(request, |request, (name, value)| request.query(name, value));
        answer(&url, request.send(body.to_string().as_bytes()))
    }
}

fn answer<T: for<'de> Deserialize<'de>>(
    url: &str,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<T, AskError> {
    let unreachable =
        |error: ureq::Error| AskError::Unreachable { url: url.to_owned(), problem: error.to_string() };
    let mut response = response.map_err(unreachable)?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_string().map_err(unreachable)?;
    match status {
        200 => serde_json::from_str(&body)
            .map_err(|error| AskError::Answer(format!("{url} gave what is no answer: {error}"))),
        400 => Err(AskError::Question(told(&body))),
        _ => Err(AskError::Answer(told(&body))),
    }
}

/// What a problem says, or the body itself where it is none.
fn told(body: &str) -> String {
    let problem: Option<Value> = serde_json::from_str(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
    detail.unwrap_or(body).trim().to_owned()
}

/// The answer of `/periods`, all of its pages in one.
#[derive(Debug, Deserialize, Serialize)]
struct PeriodsAnswer {
    periods: Vec<Fields>,
    #[serde(skip_serializing)]
    next_page_token: String,
    as_of: String,
    position: Value,
    since: Option<String>,
}

fn all_periods(api: &Api, org: &str) -> Result<PeriodsAnswer, AskError> {
    let path = org_path(org, "/periods")?;
    let mut all: PeriodsAnswer = api.get(&path, &[("page_size", PERIODS_PAGE)])?;
    while !all.next_page_token.is_empty() {
        let token = std::mem::take(&mut all.next_page_token);
        let page: PeriodsAnswer = api.get(&path, &[("page_size", PERIODS_PAGE), ("page_token", &token)])?;
        all.periods.extend(page.periods);
        all.next_page_token = page.next_page_token;
    }
    Ok(all)
}

fn write_periods(answer: &PeriodsAnswer, output: Output, out: &mut dyn Write) -> io::Result<()> {
    if output == Output::Json {
        return write_json(answer, out);
    }
    let columns = answer.periods.first().map(|period| period.0.iter().map(|(name, _)| name.as_str()));
    let mut table = Table::new(columns.into_iter().flatten());
    for period in &answer.periods {
        table.push(period.0.iter().map(|(_, value)| cell(value)));
    }
    if output == Output::Csv { table.write_csv(out) } else { table.write(out) }
}

/// The answer of `/usage`, all of its pages in one.
#[derive(Debug, Deserialize, Serialize)]
struct Usage {
    rows: Vec<Fields>,
    total: Fields,
    #[serde(skip_serializing)]
    next_page_token: String,
    from: String,
    to: String,
    as_of: String,
    position: Value,
    since: Option<String>,
}

fn all_pages(api: &Api, args: &UsageArgs) -> Result<Usage, AskError> {
    let path = org_path(&args.org, "/usage")?;
    let named = [
        ("from", &args.from),
        ("to", &args.to),
        ("bucket", &args.bucket),
        ("time_zone", &args.time_zone),
        ("group_by", &args.group_by),
        ("measures", &args.measures),
        ("order_by", &args.order_by),
    ];
    let mut params: Vec<(&str, &str)> =
        named.iter().filter_map(|(name, value)| value.as_deref().map(|value| (*name, value))).collect();
    params.extend(args.filter.iter().map(|filter| ("filter", filter.as_str())));
    params.push(("page_size", PAGE_SIZE));
    let mut all: Usage = api.get(&path, &params)?;
    while !all.next_page_token.is_empty() {
        let token = std::mem::take(&mut all.next_page_token);
        let mut asked = params.clone();
        asked.push(("page_token", &token));
        let page: Usage = api.get(&path, &asked)?;
        all.rows.extend(page.rows);
        all.next_page_token = page.next_page_token;
    }
    Ok(all)
}

/// A value as a cell: texts without quotes, null empty.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether nothing of what a row measures is other than zero or absent.
fn is_zero(measures: &[(String, Value)]) -> bool {
    measures.iter().all(|(_, value)| cell(value).bytes().all(|byte| matches!(byte, b'0' | b'.')))
}

pub(super) fn write_json(answer: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    writeln!(out)
}

fn write_usage(usage: &Usage, output: Output, out: &mut dyn Write) -> io::Result<()> {
    if output == Output::Json {
        return write_json(usage, out);
    }
    let columns = usage.rows.first().unwrap_or(&usage.total).0.iter().map(|(name, _)| name.as_str());
    let columns: Vec<&str> = columns.collect();
    let mut table = Table::new(columns.iter().copied());
    let measured = columns.len() - usage.total.0.len();
    // A person looks for what was used; other readers need every bucket.
    let is_shown = |row: &&Fields| output == Output::Csv || measured == 0 || !is_zero(&row.0[measured..]);
    let mut empty = usage.rows.len();
    for row in usage.rows.iter().filter(is_shown) {
        table.push(row.0.iter().map(|(_, value)| cell(value)));
        empty -= 1;
    }
    if output == Output::Csv {
        return table.write_csv(out);
    }
    // The sum stands below, under the column that would tell the rows apart.
    if measured > 0 && !usage.rows.is_empty() {
        let label = |place| if place == 0 { "total" } else { "" };
        let labels = (0..measured).map(|place| label(place).to_owned());
        table.push(labels.chain(usage.total.0.iter().map(|(_, value)| cell(value))));
    }
    table.write(out)?;
    if empty > 0 {
        let rows = if empty == 1 { "row of zeros is" } else { "rows of zeros are" };
        writeln!(out, "\n{empty} {rows} left out of this table; --output csv and --output json have all.")?;
    }
    writeln!(out, "\n{} to {}, as of {}", usage.from, usage.to, usage.as_of)?;
    match &usage.since {
        Some(since) => writeln!(out, "The log holds nothing from before {since}: earlier sums are not whole."),
        None => Ok(()),
    }
}

/// One object: a line for each field.
pub(super) fn write_fields(summary: &Fields, output: Output, out: &mut dyn Write) -> io::Result<()> {
    if output == Output::Json {
        return write_json(summary, out);
    }
    let mut flat = Vec::new();
    for (name, value) in &summary.0 {
        match value {
            Value::Object(inner) => {
                flat.extend(inner.iter().map(|(inner, value)| (format!("{name}.{inner}"), cell(value))));
            }
            value => flat.push((name.clone(), cell(value))),
        }
    }
    if output == Output::Csv {
        let mut table = Table::new(flat.iter().map(|(name, _)| name.as_str()));
        table.push(flat.iter().map(|(_, value)| value.as_str()));
        return table.write_csv(out);
    }
    // A person reads what is there; what has no value yet is in the other outputs.
    let shown: Vec<_> = flat.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    shown.iter().try_for_each(|(name, value)| writeln!(out, "{name:<width$}  {value}"))
}
