//! The store's values that come from terms: policies records and the decisions published last.
//!
//! As in `store_values`, each opens with a version byte and the same value gives the same bytes. The type number of
//! a terms record stands in its key.

use crate::domain::credits::{CreditSum, Credits};
use crate::domain::cube::bytes::{Reader, StoredError, put_i64, put_i128, put_option, put_text, put_u64};
use crate::domain::limits::decision::{Action, Cause, DecisionReason, Figures, Level, LimitDecision};
use crate::domain::limits::scope::{BudgetScope, Scope};
use crate::domain::terms::records::{
    AutoPurchase, Budget, BudgetAction, BudgetPeriod, CreditGrant, Label, LimitMode, OrgPolicy, OrgStatus,
    PurchaseDeclined, TermsRecord,
};
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;

const VERSION: u8 = 1;

/// The stored number of a terms record's type; never reuse one.
#[must_use]
pub const fn kind(record: &TermsRecord) -> u8 {
    match record {
        TermsRecord::OrgPolicy(_) => POLICY,
        TermsRecord::Budget(_) => 2,
        TermsRecord::CreditGrant(_) => 3,
        TermsRecord::PurchaseDeclined(_) => 4,
        TermsRecord::Label(_) => 5,
    }
}

/// The type number of an `OrgPolicy`.
pub const POLICY: u8 = 1;

type Read<T> = Result<T, StoredError>;

fn put_credits(out: &mut Vec<u8>, credits: Credits) {
    put_i64(out, credits.micros());
}

fn read_credits(reader: &mut Reader<'_>) -> Read<Credits> {
    Credits::from_micros(reader.i64()?).ok_or(reader.wrong("credits beyond their bounds"))
}

fn put_sum(out: &mut Vec<u8>, sum: CreditSum) {
    put_i128(out, sum.0);
}

fn read_sum(reader: &mut Reader<'_>) -> Read<CreditSum> {
    reader.i128().map(CreditSum)
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    put_i64(out, time.micros());
}

fn read_time(reader: &mut Reader<'_>) -> Read<Timestamp> {
    reader.i64().map(Timestamp::from_micros)
}

fn put_int(out: &mut Vec<u8>, number: i32) {
    put_i64(out, number.into());
}

fn read_string(reader: &mut Reader<'_>) -> Read<String> {
    reader.text().map(str::to_owned)
}

fn put_list<T>(out: &mut Vec<u8>, list: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    put_u64(out, list.len() as u64);
    for item in list {
        put(out, item);
    }
}

fn put_dimension(out: &mut Vec<u8>, dimension: Dimension) {
    out.push(dimension as u8);
}

fn read_dimension(reader: &mut Reader<'_>) -> Read<Dimension> {
    let number = usize::from(reader.u8()?);
    Dimension::ALL.get(number).copied().ok_or(reader.wrong("an unknown dimension"))
}

fn put_period(out: &mut Vec<u8>, period: BudgetPeriod) {
    out.push(period as u8);
}

fn read_period(reader: &mut Reader<'_>) -> Read<BudgetPeriod> {
    let number = usize::from(reader.u8()?);
    BudgetPeriod::ALL.get(number).copied().ok_or(reader.wrong("an unknown period"))
}

/// Appends a terms record.
pub fn put_terms(out: &mut Vec<u8>, record: &TermsRecord) {
    out.push(VERSION);
    match record {
        TermsRecord::OrgPolicy(record) => put_policy(out, record),
        TermsRecord::Budget(record) => put_budget(out, record),
        TermsRecord::CreditGrant(record) => put_grant(out, record),
        TermsRecord::PurchaseDeclined(record) => {
            for text in [&record.org_id, &record.purchase_id, &record.reason] {
                put_text(out, text);
            }
        }
        TermsRecord::Label(record) => {
            put_text(out, &record.org_id);
            put_dimension(out, record.dimension);
            for text in [&record.value, &record.display_name] {
                put_text(out, text);
            }
        }
    }
}

/// Reads the terms record of type number `kind`.
///
/// # Errors
/// When the bytes are none.
pub fn read_terms(kind: u8, bytes: &[u8]) -> Read<TermsRecord> {
    let mut reader = Reader::versioned("terms record", bytes, VERSION)?;
    let from = &mut reader;
    let record = match kind {
        POLICY => TermsRecord::OrgPolicy(read_policy(from)?),
        2 => TermsRecord::Budget(read_budget(from)?),
        3 => TermsRecord::CreditGrant(read_grant(from)?),
        4 => TermsRecord::PurchaseDeclined(PurchaseDeclined {
            org_id: read_string(from)?,
            purchase_id: read_string(from)?,
            reason: read_string(from)?,
        }),
        5 => TermsRecord::Label(Label {
            org_id: read_string(from)?,
            dimension: read_dimension(from)?,
            value: read_string(from)?,
            display_name: read_string(from)?,
        }),
        _ => return Err(reader.wrong("an unknown type")),
    };
    reader.end(record)
}

fn put_policy(out: &mut Vec<u8>, policy: &OrgPolicy) {
    put_text(out, &policy.org_id);
    put_text(out, &policy.plan);
    out.push(u8::from(policy.status == OrgStatus::Suspended));
    out.push(policy.unlimited.into());
    put_credits(out, policy.base_allocation);
    out.push(u8::from(policy.limit_mode == LimitMode::Soft));
    put_credits(out, policy.soft_extra);
    out.push(policy.unlimited_overage.into());
    put_list(out, &policy.thresholds, |out, threshold| put_int(out, *threshold));
    put_int(out, policy.anchor_day);
    put_text(out, &policy.time_zone);
    put_option(out, policy.auto_purchase.as_ref(), |out, auto| {
        put_int(out, auto.at_percent);
        put_credits(out, auto.pack_credits);
        put_int(out, auto.max_packs_per_period);
    });
    put_list(out, &policy.products, |out, product| put_text(out, product));
    put_option(out, policy.credit_price, put_credits);
    put_option(out, policy.overage_price, put_credits);
    put_option(out, policy.currency.as_deref(), put_text);
    put_time(out, policy.effective_at);
    put_text(out, &policy.updated_by);
}

fn read_policy(from: &mut Reader<'_>) -> Read<OrgPolicy> {
    Ok(OrgPolicy {
        org_id: read_string(from)?,
        plan: read_string(from)?,
        status: if from.bool()? { OrgStatus::Suspended } else { OrgStatus::Active },
        unlimited: from.bool()?,
        base_allocation: read_credits(from)?,
        limit_mode: if from.bool()? { LimitMode::Soft } else { LimitMode::Hard },
        soft_extra: read_credits(from)?,
        unlimited_overage: from.bool()?,
        thresholds: from.list(Reader::i32)?,
        anchor_day: from.i32()?,
        time_zone: read_string(from)?,
        auto_purchase: from.option(|from| {
            Ok(AutoPurchase {
                at_percent: from.i32()?,
                pack_credits: read_credits(from)?,
                max_packs_per_period: from.i32()?,
            })
        })?,
        products: from.list(read_string)?,
        credit_price: from.option(read_credits)?,
        overage_price: from.option(read_credits)?,
        currency: from.option(read_string)?,
        effective_at: read_time(from)?,
        updated_by: read_string(from)?,
    })
}

fn put_budget(out: &mut Vec<u8>, budget: &Budget) {
    put_text(out, &budget.org_id);
    put_text(out, &budget.budget_id);
    put_text(out, &budget.name);
    put_option(out, budget.dimension, put_dimension);
    put_option(out, budget.value.as_deref(), put_text);
    put_credits(out, budget.limit);
    put_period(out, budget.period);
    out.push(u8::from(budget.action == BudgetAction::Warn));
    put_list(out, &budget.thresholds, |out, threshold| put_int(out, *threshold));
    put_time(out, budget.effective_at);
    put_option(out, budget.expires_at, put_time);
    put_text(out, &budget.updated_by);
}

fn read_budget(from: &mut Reader<'_>) -> Read<Budget> {
    Ok(Budget {
        org_id: read_string(from)?,
        budget_id: read_string(from)?,
        name: read_string(from)?,
        dimension: from.option(read_dimension)?,
        value: from.option(read_string)?,
        limit: read_credits(from)?,
        period: read_period(from)?,
        action: if from.bool()? { BudgetAction::Warn } else { BudgetAction::Block },
        thresholds: from.list(Reader::i32)?,
        effective_at: read_time(from)?,
        expires_at: from.option(read_time)?,
        updated_by: read_string(from)?,
    })
}

fn put_grant(out: &mut Vec<u8>, grant: &CreditGrant) {
    put_text(out, &grant.org_id);
    put_text(out, &grant.grant_id);
    put_credits(out, grant.credits);
    put_text(out, &grant.kind);
    put_option(out, grant.price, put_credits);
    put_option(out, grant.currency.as_deref(), put_text);
    put_time(out, grant.effective_at);
    put_option(out, grant.expires_at, put_time);
    put_option(out, grant.voided_at, put_time);
    put_int(out, grant.priority);
    put_text(out, &grant.updated_by);
}

fn read_grant(from: &mut Reader<'_>) -> Read<CreditGrant> {
    Ok(CreditGrant {
        org_id: read_string(from)?,
        grant_id: read_string(from)?,
        credits: read_credits(from)?,
        kind: read_string(from)?,
        price: from.option(read_credits)?,
        currency: from.option(read_string)?,
        effective_at: read_time(from)?,
        expires_at: from.option(read_time)?,
        voided_at: from.option(read_time)?,
        priority: from.i32()?,
        updated_by: read_string(from)?,
    })
}

/// Appends a decision.
pub fn put_decision(out: &mut Vec<u8>, decision: &LimitDecision) {
    out.push(VERSION);
    put_text(out, &decision.scope.org_id);
    put_option(out, decision.scope.budget.as_ref(), |out, budget| {
        put_option(out, budget.dimension, put_dimension);
        put_option(out, budget.value.as_deref(), put_text);
        put_text(out, &budget.budget_id);
    });
    put_level(out, &decision.level);
    put_sum(out, decision.figures.used);
    put_option(out, decision.figures.remaining, put_sum);
    put_i128(out, decision.figures.micros_per_second);
    put_i64(out, decision.version);
    put_time(out, decision.decided_at);
    put_option(out, decision.cause.record, |out, (partition, offset)| {
        put_int(out, partition);
        put_i64(out, offset);
    });
    put_option(out, decision.cause.event_id.as_deref(), put_text);
    put_option(out, decision.cause.trace_id.as_deref(), put_text);
    put_option(out, decision.cause.policy_offset, put_i64);
}

fn put_level(out: &mut Vec<u8>, level: &Level) {
    // The wire names are fixed by contract, which makes them as stable as any number of our own.
    put_text(out, level.action.name());
    put_text(out, level.reason.name());
    put_int(out, level.level);
    put_option(out, level.allowance, put_sum);
    put_option(out, level.extra, put_sum);
    put_option(out, level.budget.as_ref(), |out, (name, period)| {
        put_text(out, name);
        put_period(out, *period);
    });
    put_time(out, level.period_start);
    put_time(out, level.period_end);
    put_time(out, level.valid_until);
    put_option(out, level.forecast_alerted_on, put_int);
    put_int(out, level.purchases_requested);
}

/// Reads a decision.
///
/// # Errors
/// When the bytes are none.
pub fn read_decision(bytes: &[u8]) -> Read<LimitDecision> {
    let mut reader = Reader::versioned("decision", bytes, VERSION)?;
    let from = &mut reader;
    let org_id = read_string(from)?;
    let budget = from.option(|from| {
        Ok(BudgetScope {
            dimension: from.option(read_dimension)?,
            value: from.option(read_string)?,
            budget_id: read_string(from)?,
        })
    })?;
    let decision = LimitDecision {
        scope: Scope { org_id, budget },
        level: read_level(from)?,
        figures: Figures {
            used: read_sum(from)?,
            remaining: from.option(read_sum)?,
            micros_per_second: from.i128()?,
        },
        version: from.i64()?,
        decided_at: read_time(from)?,
        cause: Cause {
            record: from.option(|from| Ok((from.i32()?, from.i64()?)))?,
            event_id: from.option(read_string)?,
            trace_id: from.option(read_string)?,
            policy_offset: from.option(Reader::i64)?,
        },
    };
    reader.end(decision)
}

fn read_level(from: &mut Reader<'_>) -> Read<Level> {
    Ok(Level {
        action: Action::from_name(from.text()?).ok_or(from.wrong("an unknown action"))?,
        reason: DecisionReason::from_name(from.text()?).ok_or(from.wrong("an unknown reason"))?,
        level: from.i32()?,
        allowance: from.option(read_sum)?,
        extra: from.option(read_sum)?,
        budget: from.option(|from| Ok((read_string(from)?, read_period(from)?)))?,
        period_start: read_time(from)?,
        period_end: read_time(from)?,
        valid_until: read_time(from)?,
        forecast_alerted_on: from.option(Reader::i32)?,
        purchases_requested: from.i32()?,
    })
}
