//! The JSON of answers: names and formats of CONTRACT.md. Credits are decimal strings; counts are numbers, and strings
//! beyond 2^53, where a reader's float would round them.

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::{Value as Json, json};

use super::object::{Object, object};
use crate::domain::credits::{CreditSum, Credits, format_decimal};
use crate::domain::decision::LimitDecision;
use crate::domain::dimension::Dimension;
use crate::domain::summary::{PERCENT_SCALE, Summary};
use crate::domain::terms::{BudgetPeriod, LimitMode, OrgPolicy, OrgStatus};
use crate::domain::time::{Day, Timestamp};
use crate::query::{Measure, PeriodEntry, Standing, SummaryAnswer, UsageAnswer, Value};

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

#[expect(clippy::needless_pass_by_value, reason = "small copies, and it maps over options")]
fn text(value: impl ToString) -> Json {
    Json::String(value.to_string())
}

fn credits(value: Option<CreditSum>) -> Json {
    value.map_or(Json::Null, text)
}

fn money(value: Option<Credits>) -> Json {
    value.map_or(Json::Null, text)
}

fn percent(value: Option<i128>) -> Json {
    value.map_or(Json::Null, |value| text(format_decimal(value, PERCENT_SCALE)))
}

fn date(day: Day) -> Json {
    let mut instant = day.first_hour().start().to_string();
    instant.truncate(instant.find('T').unwrap_or(instant.len()));
    Json::String(instant)
}

const fn period_name(period: BudgetPeriod) -> &'static str {
    match period {
        BudgetPeriod::Day => "day",
        BudgetPeriod::Week => "week",
        BudgetPeriod::Month => "month",
    }
}

const fn status_name(status: OrgStatus) -> &'static str {
    match status {
        OrgStatus::Active => "active",
        OrgStatus::Suspended => "suspended",
    }
}

const fn mode_name(mode: LimitMode) -> &'static str {
    match mode {
        LimitMode::Hard => "HARD",
        LimitMode::Soft => "SOFT",
    }
}

/// A LimitDecision with every field of CONTRACT.md.
pub fn decision(decision: &LimitDecision) -> Object {
    let LimitDecision { scope, level, figures, version, decided_at, cause } = decision;
    let narrower = scope.budget.as_ref();
    let budget = level.budget.as_ref();
    let record = cause.record;
    object! {
        "org_id": json!(scope.org_id),
        "dimension": json!(narrower.and_then(|scope| scope.dimension).map(Dimension::name)),
        "value": json!(narrower.and_then(|scope| scope.value.as_deref())),
        "budget_id": json!(narrower.map(|scope| &scope.budget_id)),
        "budget_name": json!(budget.map(|(name, _)| name)),
        "period": json!(budget.map(|(_, period)| period_name(*period))),
        "action": json!(level.action.name()),
        "reason": json!(level.reason.name()),
        "level": json!(level.level),
        "used": credits(Some(figures.used)),
        "allowance": credits(level.allowance),
        "extra": credits(level.extra),
        "remaining": credits(figures.remaining),
        "credits_per_second": credits(Some(CreditSum(figures.micros_per_second))),
        "period_start": text(level.period_start),
        "period_end": text(level.period_end),
        "valid_until": text(level.valid_until),
        "version": json!(version),
        "decided_at": text(decided_at),
        "forecast_alerted_on": level.forecast_alerted_on.map_or(Json::Null, |day| date(Day(day))),
        "purchases_requested": json!(level.purchases_requested),
        "cause_partition": json!(record.map(|(partition, _)| partition)),
        "cause_offset": json!(record.map(|(_, offset)| offset)),
        "cause_event_id": json!(cause.event_id),
        "cause_trace_id": json!(cause.trace_id),
        "policy_offset": json!(cause.policy_offset),
    }
}

/// An OrgPolicy with every field of CONTRACT.md.
pub fn policy(policy: &OrgPolicy) -> Object {
    let auto_purchase = policy.auto_purchase.as_ref().map(|auto| {
        object! {
            "at_percent": json!(auto.at_percent),
            "pack_credits": text(auto.pack_credits),
            "max_packs_per_period": json!(auto.max_packs_per_period),
        }
    });
    object! {
        "org_id": json!(policy.org_id),
        "plan": json!(policy.plan),
        "status": json!(status_name(policy.status)),
        "unlimited": json!(policy.unlimited),
        "base_allocation": text(policy.base_allocation),
        "limit_mode": json!(mode_name(policy.limit_mode)),
        "soft_extra": text(policy.soft_extra),
        "unlimited_overage": json!(policy.unlimited_overage),
        "thresholds": json!(policy.thresholds),
        "anchor_day": json!(policy.anchor_day),
        "time_zone": json!(policy.time_zone),
        "auto_purchase": auto_purchase,
        "products": json!(policy.products),
        "credit_price": money(policy.credit_price),
        "overage_price": money(policy.overage_price),
        "currency": json!(policy.currency),
        "effective_at": text(policy.effective_at),
        "updated_by": json!(policy.updated_by),
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

/// `/v1/orgs/{org}`. Forecast and cost are null until they are told.
pub fn summary(answer: &SummaryAnswer) -> Object {
    let summary: &Summary = &answer.summary;
    let policy = answer.policy.as_ref();
    let body = object! {
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
        "decision": answer.decision.as_ref().map(decision),
    };
    with_standing(body, &answer.standing)
}
