//! The JSON of answers: names and formats of CONTRACT.md. Credits are decimal strings; counts are numbers, and strings
//! beyond 2^53, where a reader's float would round them.

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::{Value as Json, json};

use super::object::{Object, object};
use crate::domain::analysis::summary::{PERCENT_SCALE, Summary};
use crate::domain::credits::{CreditSum, format_decimal};
use crate::domain::terms::records::LimitMode;
use crate::domain::time::{Day, Timestamp};
use crate::domain::usage::dimension::Dimension;
use crate::query::{Measure, PeriodEntry, Standing, SummaryAnswer, UsageAnswer, Value, decision_fields};

/// The greatest integer that every JSON reader keeps exact.
const EXACT_MAX: i128 = (1 << 53) - 1;

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Null => serializer.serialize_none(),
            Self::Count(count) => match i64::try_from(count) {
                Ok(exact) if count.abs() <= EXACT_MAX => serializer.serialize_i64(exact),
                _ => serializer.collect_str(self),
            },
            Self::Decimal(..) => serializer.collect_str(self),
            #[expect(clippy::cast_precision_loss, reason = "a rate or a mean, rounded to millionths already")]
            Self::Ratio(millionths) => serializer.serialize_f64(millionths as f64 / 1e6),
        }
    }
}

/// One row of `/usage`.
pub struct Row<'a> {
    start: Option<Timestamp>,
    group: Vec<(Dimension, Option<&'a str>)>,
    measures: Vec<(Measure, Value)>,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(start) = self.start {
            map.serialize_entry("start", &start.to_string())?;
        }
        for (dimension, value) in &self.group {
            map.serialize_entry(dimension.name(), value)?;
        }
        for (measure, value) in &self.measures {
            map.serialize_entry(measure.name(), value)?;
        }
        map.end()
    }
}

/// One page of `/usage`.
#[derive(Serialize)]
pub struct UsageBody<'a> {
    rows: Vec<Row<'a>>,
    total: Row<'a>,
    next_page_token: &'a str,
    from: String,
    to: String,
    as_of: String,
    position: Json,
    since: Option<String>,
}

impl<'a> UsageBody<'a> {
    /// The body of an answer.
    pub fn new(answer: &'a UsageAnswer) -> Self {
        let values = |tally| answer.measures.iter().map(|measure| (*measure, measure.value(tally))).collect();
        let row = |row: &'a crate::query::UsageRow| Row {
            start: answer.has_start.then(|| row.start.start()),
            group: answer.group_by.iter().copied().zip(row.group.iter().map(Option::as_deref)).collect(),
            measures: values(&row.tally),
        };
        Self {
            rows: answer.rows.iter().map(row).collect(),
            total: Row { start: None, group: Vec::new(), measures: values(&answer.total) },
            next_page_token: &answer.next_page_token,
            from: answer.from.start().to_string(),
            to: answer.to.start().to_string(),
            as_of: answer.standing.as_of.to_string(),
            position: position(&answer.standing),
            since: answer.standing.since.map(|since| since.to_string()),
        }
    }
}

/// The records that an answer follows from.
pub fn position(standing: &Standing) -> Json {
    json!({"partition": standing.partition, "usage": standing.usage, "policies": standing.policies})
}

/// Adds how fresh an answer is.
pub fn with_standing(mut body: Object, standing: &Standing) -> Object {
    let fresh = object! {
        "as_of": text(standing.as_of),
        "position": position(standing),
        "since": standing.since.map_or(Json::Null, text),
    };
    body.0.extend(fresh.0);
    body
}

/// A value as the text that it is shown as.
#[expect(clippy::needless_pass_by_value, reason = "small copies, and it maps over options")]
pub fn text(value: impl ToString) -> Json {
    Json::String(value.to_string())
}

/// Credits as a decimal text, null without a limit.
pub fn credits(value: Option<CreditSum>) -> Json {
    value.map_or(Json::Null, text)
}

fn percent(value: Option<i128>) -> Json {
    value.map_or(Json::Null, |value| text(format_decimal(value, PERCENT_SCALE)))
}

/// A UTC day as `YYYY-MM-DD`.
pub fn date(day: Day) -> Json {
    let mut instant = day.first_hour().start().to_string();
    instant.truncate(instant.find('T').unwrap_or(instant.len()));
    Json::String(instant)
}

const fn mode_name(mode: LimitMode) -> &'static str {
    match mode {
        LimitMode::Hard => "HARD",
        LimitMode::Soft => "SOFT",
    }
}

/// One of `/v1/orgs/{org}/periods`.
pub fn period(entry: &PeriodEntry) -> Object {
    let PeriodEntry { period, plan, balance } = entry;
    object! {
        "start": text(period.starts_at()),
        "end": text(period.ends_at()),
        "plan": json!(plan),
        "base_allocation": credits(balance.base),
        "allowance": credits(balance.allowance()),
        "used": text(balance.used),
        "beyond_base": text(balance.beyond_base()),
        "grants_used": text(balance.grants_used),
        "overage": text(balance.uncovered),
    }
}

/// `/v1/orgs/{org}`, without how fresh it is. Forecast and cost are null until they are known.
pub fn summary(answer: &SummaryAnswer) -> Object {
    let summary: &Summary = &answer.summary;
    let policy = answer.policy.as_ref();
    object! {
        "org_id": json!(answer.org_id),
        "plan": json!(policy.map(|policy| &policy.plan)),
        "limit_mode": json!(policy.map(|policy| mode_name(policy.limit_mode))),
        "base_allocation": credits(summary.base_allocation),
        "base_used": credits(summary.base_used),
        "base_remaining": credits(summary.base_remaining),
        "base_percent_used": percent(summary.base_percent_used),
        "beyond_base": text(summary.beyond_base),
        "grants_used": text(summary.grants_used),
        "grants_remaining": text(summary.grants_remaining),
        "allowance": credits(summary.allowance),
        "used": text(summary.used),
        "remaining": credits(summary.remaining),
        "percent_used": percent(summary.percent_used),
        "overage": text(summary.overage),
        "soft_extra": credits(summary.soft_extra),
        "soft_extra_remaining": credits(summary.soft_extra_remaining),
        "period_start": text(summary.period_start),
        "period_end": text(summary.period_end),
        "days_until_reset": json!(summary.days_until_reset),
        "active_products": json!(summary.active_products),
        "peak_day": summary.peak_day.map(|(day, sum)| object! {"date": date(day), "credits": text(sum)}),
        "average_per_elapsed_day": text(summary.average_per_elapsed_day),
        "average_per_active_day": credits(summary.average_per_active_day),
        "forecast": json!(null),
        "cost": json!(null),
        "decision": answer.decision.as_ref().map(decision_fields),
    }
}
