//! The records that Tallyman publishes, field by field in the order of their schemas. Decisions and heartbeats are read
//! back too: a task takes its published levels from the control topic, so they come back exactly as they went (Law 4).

use std::borrow::Cow;

use super::reader::{FieldReader, Read};
use super::slots::Slots;
use super::writer::FieldWriter;
use crate::domain::credits::CreditSum;
use crate::domain::limits::alert::Alert;
use crate::domain::limits::decision::{Action, Cause, DecisionReason, Figures, Heartbeat, Level, LimitDecision};
use crate::domain::limits::purchase::PurchaseRequested;
use crate::domain::limits::scope::{BudgetScope, Scope};
use crate::domain::terms::records::BudgetPeriod;
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;

/// What we wrote ourselves is read whatever its length.
const ANY_LENGTH: usize = usize::MAX;
const CREDIT_SCALE: u32 = 6;

fn write_scope<W: FieldWriter>(scope: &Scope, writer: &mut W) {
    let budget = scope.budget.as_ref();
    writer.text(&scope.org_id);
    writer.opt_text(budget.and_then(|budget| budget.dimension).map(Dimension::name));
    writer.opt_text(budget.and_then(|budget| budget.value.as_deref()));
    writer.opt_text(budget.map(|budget| &*budget.budget_id));
}

fn read_scope(slots: &mut Slots<'_>) -> Read<Scope> {
    let org_id = slots.text(ANY_LENGTH)?.into_owned();
    let dimension = slots.opt_known(Dimension::from_name)?;
    let value = slots.opt_text(ANY_LENGTH)?.map(Cow::into_owned);
    let budget_id = slots.opt_text(ANY_LENGTH)?.map(Cow::into_owned);
    Ok(Scope { org_id, budget: budget_id.map(|budget_id| BudgetScope { dimension, value, budget_id }) })
}

fn sum<W: FieldWriter>(writer: &mut W, value: CreditSum) {
    writer.decimal(value.micros(), CREDIT_SCALE);
}

/// Writes a `LimitDecision`.
pub(crate) fn write_decision<W: FieldWriter>(decision: &LimitDecision, writer: &mut W) {
    let LimitDecision { scope, level, figures, version, decided_at, cause } = decision;
    write_scope(scope, writer);
    writer.opt_text(level.budget.as_ref().map(|(name, _)| &**name));
    writer.opt_text(level.budget.as_ref().map(|(_, period)| period.name()));
    writer.text(level.action.name());
    writer.text(level.reason.name());
    writer.int(level.level);
    sum(writer, figures.used);
    writer.opt(level.allowance, sum);
    writer.opt(level.extra, sum);
    writer.opt(figures.remaining, sum);
    writer.decimal(figures.micros_per_second, CREDIT_SCALE);
    writer.time(level.period_start);
    writer.time(level.period_end);
    writer.time(level.valid_until);
    writer.long(*version);
    writer.time(*decided_at);
    writer.opt(level.forecast_alerted_on, W::day);
    writer.int(level.purchases_requested);
    writer.opt_long(cause.record.map(|(partition, _)| i64::from(partition)));
    writer.opt_long(cause.record.map(|(_, offset)| offset));
    writer.opt_text(cause.event_id.as_deref());
    writer.opt_text(cause.trace_id.as_deref());
    writer.opt_long(cause.policy_offset);
}

/// Reads a `LimitDecision`.
pub(crate) fn read_decision(slots: &mut Slots<'_>) -> Read<LimitDecision> {
    let any = (i32::MIN, i32::MAX);
    let scope = read_scope(slots)?;
    let budget_name = slots.opt_text(ANY_LENGTH)?.map(Cow::into_owned);
    let budget = budget_name.zip(slots.opt_known(BudgetPeriod::from_name)?);
    let action = slots.known(Action::from_name)?;
    let reason = slots.known(DecisionReason::from_name)?;
    let level = slots.int(any.0, any.1)?;
    let used = CreditSum(slots.decimal(CREDIT_SCALE)?);
    let allowance = slots.opt_decimal(CREDIT_SCALE)?.map(CreditSum);
    let extra = slots.opt_decimal(CREDIT_SCALE)?.map(CreditSum);
    let remaining = slots.opt_decimal(CREDIT_SCALE)?.map(CreditSum);
    let micros_per_second = slots.decimal(CREDIT_SCALE)?;
    let (period_start, period_end, valid_until) = (slots.any_time()?, slots.any_time()?, slots.any_time()?);
    let version = slots.long(i64::MIN, i64::MAX)?;
    let decided_at = slots.any_time()?;
    let forecast_alerted_on = slots.opt_day()?;
    let purchases_requested = slots.int(any.0, any.1)?;
    let partition = slots.opt_int(any.0, any.1)?;
    let record = partition.zip(slots.opt_long(i64::MIN, i64::MAX)?);
    let cause = Cause {
        record,
        event_id: slots.opt_text(ANY_LENGTH)?.map(Cow::into_owned),
        trace_id: slots.opt_text(ANY_LENGTH)?.map(Cow::into_owned),
        policy_offset: slots.opt_long(i64::MIN, i64::MAX)?,
    };
    let figures = Figures { used, remaining, micros_per_second };
    let level = Level {
        action,
        reason,
        level,
        allowance,
        extra,
        budget,
        period_start,
        period_end,
        valid_until,
        forecast_alerted_on,
        purchases_requested,
    };
    Ok(LimitDecision { scope, level, figures, version, decided_at, cause })
}

/// What a gateway needs of a decision, whatever words of a later version it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionNotice {
    /// The action's name.
    pub action: String,
    /// The reason's name.
    pub reason: String,
    /// Credits left; `None` when unlimited.
    pub remaining: Option<CreditSum>,
    /// End of the period.
    pub period_end: Timestamp,
    /// Greater with each decision of the key.
    pub version: i64,
}

/// Reads a `LimitDecision` without minding which dimension, period, action or reason it names.
pub(crate) fn read_notice(slots: &mut Slots<'_>) -> Read<DecisionNotice> {
    slots.text(ANY_LENGTH)?;
    // dimension, value, budget_id, budget_name, period
    for _ in 0..5 {
        slots.opt_text(ANY_LENGTH)?;
    }
    let action = slots.text(ANY_LENGTH)?.into_owned();
    let reason = slots.text(ANY_LENGTH)?.into_owned();
    slots.int(i32::MIN, i32::MAX)?;
    // used, allowance, extra
    for _ in 0..3 {
        slots.opt_decimal(CREDIT_SCALE)?;
    }
    let remaining = slots.opt_decimal(CREDIT_SCALE)?.map(CreditSum);
    slots.decimal(CREDIT_SCALE)?;
    slots.any_time()?;
    let period_end = slots.any_time()?;
    slots.any_time()?;
    Ok(DecisionNotice { action, reason, remaining, period_end, version: slots.long(i64::MIN, i64::MAX)? })
}

/// Writes a `Heartbeat`.
pub(crate) fn write_heartbeat<W: FieldWriter>(heartbeat: &Heartbeat, writer: &mut W) {
    writer.int(heartbeat.partition);
    writer.time(heartbeat.at);
    // Before a partition's first record it is the beginning of time, which few languages can tell.
    writer.time(heartbeat.log_time.max(Timestamp::default()));
}

/// Reads a `Heartbeat`.
pub(crate) fn read_heartbeat(slots: &mut Slots<'_>) -> Read<Heartbeat> {
    Ok(Heartbeat { partition: slots.int(0, i32::MAX)?, at: slots.any_time()?, log_time: slots.any_time()? })
}

/// Writes an `Alert`.
pub(crate) fn write_alert<W: FieldWriter>(alert: &Alert, writer: &mut W) {
    writer.text(&alert.alert_id);
    write_scope(&alert.scope, writer);
    writer.text(alert.kind.name());
    writer.int(alert.level);
    writer.int(alert.previous_level);
    sum(writer, alert.used);
    writer.opt(alert.allowance, sum);
    writer.time(alert.period_start);
    writer.time(alert.at);
}

/// Writes a `PurchaseRequested`.
pub(crate) fn write_purchase<W: FieldWriter>(purchase: &PurchaseRequested, writer: &mut W) {
    writer.text(&purchase.purchase_id);
    writer.text(&purchase.org_id);
    writer.time(purchase.period_start);
    writer.int(purchase.ordinal);
    writer.credits(purchase.credits);
    writer.time(purchase.requested_at);
}
