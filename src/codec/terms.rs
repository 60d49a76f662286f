//! The records of the policies topic, field by field in the order of their schemas: each once read, once written.

use super::events::value_text;
use super::reader::{FieldReader, Read};
use super::schemas::RecordType;
use super::slots::{Raw, Slots};
use super::writer::FieldWriter;
use crate::domain::credits::Credits;
use crate::domain::id::VALUE_BYTES_MAX;
use crate::domain::terms::records::{
    AutoPurchase, Budget, BudgetAction, BudgetPeriod, CreditGrant, Label, LimitMode, OrgPolicy, OrgStatus,
    PurchaseDeclined, TermsRecord,
};
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::reject::Reason;

/// The fields of `OrgPolicy.auto_purchase`.
pub(crate) const AUTO_PURCHASE: &[&str] =
    &["auto_purchase.at_percent", "auto_purchase.pack_credits", "auto_purchase.max_packs_per_period"];

const THRESHOLDS_DEFAULT: [i32; 3] = [75, 90, 100];
const THRESHOLDS_MAX: usize = 32;
const PRODUCTS_MAX: usize = 1000;
const REASON_BYTES_MAX: usize = 1024;

/// Reads a record of the policies topic; `None` when the type is none of them.
pub(crate) fn read(record: RecordType, slots: &mut Slots<'_>) -> Option<Read<TermsRecord>> {
    Some(match record {
        RecordType::OrgPolicy => read_policy(slots).map(TermsRecord::OrgPolicy),
        RecordType::Budget => read_budget(slots).map(TermsRecord::Budget),
        RecordType::CreditGrant => read_grant(slots).map(TermsRecord::CreditGrant),
        RecordType::PurchaseDeclined => read_declined(slots).map(TermsRecord::PurchaseDeclined),
        RecordType::Label => read_label(slots).map(TermsRecord::Label),
        _ => return None,
    })
}

/// The type of a record of the policies topic.
pub(crate) const fn type_of(record: &TermsRecord) -> RecordType {
    match record {
        TermsRecord::OrgPolicy(_) => RecordType::OrgPolicy,
        TermsRecord::Budget(_) => RecordType::Budget,
        TermsRecord::CreditGrant(_) => RecordType::CreditGrant,
        TermsRecord::PurchaseDeclined(_) => RecordType::PurchaseDeclined,
        TermsRecord::Label(_) => RecordType::Label,
    }
}

/// Writes a record of the policies topic.
pub(crate) fn write<W: FieldWriter>(record: &TermsRecord, writer: &mut W) {
    match record {
        TermsRecord::OrgPolicy(policy) => write_policy(policy, writer),
        TermsRecord::Budget(budget) => write_budget(budget, writer),
        TermsRecord::CreditGrant(grant) => write_grant(grant, writer),
        TermsRecord::PurchaseDeclined(declined) => {
            writer.text(&declined.org_id);
            writer.text(&declined.purchase_id);
            writer.text(&declined.reason);
        }
        TermsRecord::Label(label) => {
            writer.text(&label.org_id);
            writer.text(label.dimension.name());
            writer.text(&label.value);
            writer.text(&label.display_name);
        }
    }
}

fn read_policy(slots: &mut Slots<'_>) -> Read<OrgPolicy> {
    let org_id = slots.id()?.into_owned();
    let plan = slots.text(VALUE_BYTES_MAX)?.into_owned();
    let status = slots.known_or_default(status_from_name)?;
    let unlimited = slots.flag()?;
    Ok(OrgPolicy {
        org_id,
        plan,
        status,
        unlimited,
        base_allocation: match slots.opt_credits(0)? {
            Some(credits) => credits,
            None if unlimited => Credits::ZERO,
            None => return Err(slots.fault(Reason::BadField, "is missing (it may be only if `unlimited`)")),
        },
        limit_mode: slots.known_or_default(mode_from_name)?,
        soft_extra: slots.opt_credits(0)?.unwrap_or_default(),
        unlimited_overage: slots.flag()?,
        thresholds: thresholds(slots)?,
        anchor_day: slots.opt_int(1, 28)?.unwrap_or(1),
        time_zone: time_zone(slots)?,
        auto_purchase: auto_purchase(slots)?,
        products: slots.opt_list(PRODUCTS_MAX, value_text)?.unwrap_or_default(),
        credit_price: slots.opt_credits(0)?,
        overage_price: slots.opt_credits(0)?,
        currency: currency(slots)?,
        effective_at: slots.civil_time()?,
        updated_by: slots.text(VALUE_BYTES_MAX)?.into_owned(),
    })
}

fn write_policy<W: FieldWriter>(policy: &OrgPolicy, writer: &mut W) {
    writer.text(&policy.org_id);
    writer.text(&policy.plan);
    writer.text(match policy.status {
        OrgStatus::Active => "active",
        OrgStatus::Suspended => "suspended",
    });
    writer.flag(policy.unlimited);
    writer.credits(policy.base_allocation);
    writer.text(match policy.limit_mode {
        LimitMode::Hard => "HARD",
        LimitMode::Soft => "SOFT",
    });
    writer.credits(policy.soft_extra);
    writer.flag(policy.unlimited_overage);
    writer.ints(&policy.thresholds);
    writer.int(policy.anchor_day);
    writer.text(&policy.time_zone);
    writer.opt(policy.auto_purchase.as_ref(), |writer, auto| {
        writer.object(AUTO_PURCHASE, |writer| {
            writer.int(auto.at_percent);
            writer.credits(auto.pack_credits);
            writer.int(auto.max_packs_per_period);
        });
    });
    writer.texts(&policy.products);
    writer.opt_credits(policy.credit_price);
    writer.opt_credits(policy.overage_price);
    writer.opt_text(policy.currency.as_deref());
    writer.time(policy.effective_at);
    writer.text(&policy.updated_by);
}

fn status_from_name(name: &str) -> Option<OrgStatus> {
    match name {
        "active" => Some(OrgStatus::Active),
        "suspended" => Some(OrgStatus::Suspended),
        _ => None,
    }
}

fn mode_from_name(name: &str) -> Option<LimitMode> {
    match name {
        "HARD" => Some(LimitMode::Hard),
        "SOFT" => Some(LimitMode::Soft),
        _ => None,
    }
}

fn thresholds(slots: &mut Slots<'_>) -> Read<Vec<i32>> {
    let percent = |raw: Raw<'_>| match raw {
        Raw::Int(percent) => i32::try_from(percent).ok(),
        _ => None,
    };
    let Some(list) = slots.opt_list(THRESHOLDS_MAX, percent)? else { return Ok(THRESHOLDS_DEFAULT.to_vec()) };
    if !list.iter().all(|percent| (1..=1000).contains(percent)) {
        return Err(slots.fault(Reason::OutOfRange, "must each lie within 1..1000 percent"));
    }
    if !list.is_sorted_by(|one, next| one < next) {
        return Err(slots.fault(Reason::BadField, "must ascend"));
    }
    Ok(list)
}

fn time_zone(slots: &mut Slots<'_>) -> Read<String> {
    let Some(name) = slots.opt_text(VALUE_BYTES_MAX)? else { return Ok("UTC".to_owned()) };
    // The same database as periods are made with, whatever the machine has.
    if crate::domain::terms::period::time_zone(&name).is_none() {
        return Err(slots.fault(Reason::BadField, format!("is {name:?}, no IANA time zone")));
    }
    Ok(name.into_owned())
}

fn auto_purchase(slots: &mut Slots<'_>) -> Read<Option<AutoPurchase>> {
    let Some(mut inner) = slots.opt_object(AUTO_PURCHASE)? else { return Ok(None) };
    Ok(Some(AutoPurchase {
        at_percent: inner.int(1, 100)?,
        pack_credits: match inner.credits(0)? {
            Credits::ZERO => return Err(inner.fault(Reason::OutOfRange, "must be above 0")),
            credits => credits,
        },
        max_packs_per_period: inner.int(1, 1000)?,
    }))
}

fn currency(slots: &mut Slots<'_>) -> Read<Option<String>> {
    match slots.opt_text(VALUE_BYTES_MAX)? {
        Some(code) if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            Ok(Some(code.into_owned()))
        }
        Some(_) => Err(slots.fault(Reason::BadField, "must be three upper-case letters, as EUR")),
        None => Ok(None),
    }
}

fn read_budget(slots: &mut Slots<'_>) -> Read<Budget> {
    let org_id = slots.id()?.into_owned();
    let budget_id = slots.id()?.into_owned();
    let name = slots.text(VALUE_BYTES_MAX)?.into_owned();
    let dimension = slots.opt_known(Dimension::from_name)?;
    Ok(Budget {
        org_id,
        budget_id,
        name,
        dimension,
        value: match (dimension, slots.opt_text(VALUE_BYTES_MAX)?) {
            (Some(_), Some(value)) => Some(value.into_owned()),
            (None, None) => None,
            (Some(_), None) => {
                return Err(slots.fault(Reason::BadField, "is missing; `*` means each value separately"));
            }
            (None, Some(_)) => return Err(slots.fault(Reason::BadField, "needs a `dimension`")),
        },
        limit: slots.credits(0)?,
        period: slots.known(BudgetPeriod::from_name)?,
        action: slots.known(|name| match name {
            "BLOCK" => Some(BudgetAction::Block),
            "WARN" => Some(BudgetAction::Warn),
            _ => None,
        })?,
        thresholds: thresholds(slots)?,
        effective_at: slots.civil_time()?,
        expires_at: slots.opt_civil_time()?,
        updated_by: slots.text(VALUE_BYTES_MAX)?.into_owned(),
    })
}

fn write_budget<W: FieldWriter>(budget: &Budget, writer: &mut W) {
    writer.text(&budget.org_id);
    writer.text(&budget.budget_id);
    writer.text(&budget.name);
    writer.opt_text(budget.dimension.map(Dimension::name));
    writer.opt_text(budget.value.as_deref());
    writer.credits(budget.limit);
    writer.text(budget.period.name());
    writer.text(match budget.action {
        BudgetAction::Block => "BLOCK",
        BudgetAction::Warn => "WARN",
    });
    writer.ints(&budget.thresholds);
    writer.time(budget.effective_at);
    writer.opt_time(budget.expires_at);
    writer.text(&budget.updated_by);
}

fn read_grant(slots: &mut Slots<'_>) -> Read<CreditGrant> {
    let kind = |name: &str| ["pack", "promo", "goodwill", "purchase"].into_iter().find(|kind| *kind == name);
    Ok(CreditGrant {
        org_id: slots.id()?.into_owned(),
        grant_id: slots.id()?.into_owned(),
        credits: slots.credits(0)?,
        kind: slots.known(kind)?.to_owned(),
        price: slots.opt_credits(0)?,
        currency: currency(slots)?,
        effective_at: slots.civil_time()?,
        expires_at: slots.opt_civil_time()?,
        voided_at: slots.opt_civil_time()?,
        priority: slots.opt_int(i32::MIN, i32::MAX)?.unwrap_or(0),
        updated_by: slots.text(VALUE_BYTES_MAX)?.into_owned(),
    })
}

fn write_grant<W: FieldWriter>(grant: &CreditGrant, writer: &mut W) {
    writer.text(&grant.org_id);
    writer.text(&grant.grant_id);
    writer.credits(grant.credits);
    writer.text(&grant.kind);
    writer.opt_credits(grant.price);
    writer.opt_text(grant.currency.as_deref());
    writer.time(grant.effective_at);
    writer.opt_time(grant.expires_at);
    writer.opt_time(grant.voided_at);
    writer.int(grant.priority);
    writer.text(&grant.updated_by);
}

fn read_declined(slots: &mut Slots<'_>) -> Read<PurchaseDeclined> {
    Ok(PurchaseDeclined {
        org_id: slots.id()?.into_owned(),
        purchase_id: slots.id()?.into_owned(),
        reason: slots.text(REASON_BYTES_MAX)?.into_owned(),
    })
}

fn read_label(slots: &mut Slots<'_>) -> Read<Label> {
    Ok(Label {
        org_id: slots.id()?.into_owned(),
        dimension: slots.known(Dimension::from_name)?,
        value: slots.text(VALUE_BYTES_MAX)?.into_owned(),
        display_name: slots.text(VALUE_BYTES_MAX)?.into_owned(),
    })
}
