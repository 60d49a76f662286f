//! What of a record of terms is legal and yet perhaps not meant, as sentences for `policy apply`. It refuses nothing:
//! `terms_change` does. Decisions never come here.

use crate::domain::terms::change::{TermsLog, effective_at};
use crate::domain::terms::period::cycle_at;
use crate::domain::terms::purchase_id::is_id_of;
use crate::domain::terms::records::{BudgetPeriod, DefaultTerms, LimitMode, OrgPolicy, TermsRecord};
use crate::domain::time::Timestamp;

/// 2000-01-01T00:00:00Z: nobody had AI credits before.
const YEAR_2000: Timestamp = Timestamp::from_micros(946_684_800_000_000);
/// 2100-01-01T00:00:00Z.
const YEAR_2100: Timestamp = Timestamp::from_micros(4_102_444_800_000_000);

/// What of `record` is legal and perhaps not meant, beside the records of its org that stand in `log`. An org without
/// policies has the periods of `default`.
#[must_use]
pub fn notes(log: &TermsLog, record: &TermsRecord, default: &DefaultTerms, now: Timestamp) -> Vec<String> {
    let mut notes = Vec::new();
    match record {
        TermsRecord::OrgPolicy(policy) => of_policy(policy, &mut notes),
        TermsRecord::CreditGrant(grant) if grant.price.is_some() && grant.currency.is_none() => {
            notes.push("a `price` without a `currency` is a plain number".into());
        }
        _ => {}
    }
    notes.extend(instants(record).into_iter().filter_map(|(field, at)| too_early(field, at?)));
    notes.extend(never_matches(record));
    let policies = log.policies();
    if !matches!(record, TermsRecord::OrgPolicy(_)) && policies.is_empty() {
        notes.push(format!("`{}` has no policy: is its id spelt as it should be?", record.org_id()));
    }
    if let Some((offset, later)) = log.follows(record)
        && let Some(at) = effective_at(later)
    {
        notes.push(format!("it holds until {at}, when the record at offset {offset} takes its place"));
    }
    // A record dated back changes periods that are over.
    let kind = if let TermsRecord::Budget(budget) = record { budget.period } else { BudgetPeriod::Month };
    let running = cycle_at(kind, Some(&policies), default, now).starts_at();
    if let Some(at) = effective_at(record).filter(|at| *at < running) {
        let what = match (record, kind) {
            (TermsRecord::Budget(_), BudgetPeriod::Day) => "days that are over change in `explain` and `simulate`",
            (TermsRecord::Budget(_), BudgetPeriod::Week) => {
                "weeks that are over change in `explain` and `simulate`"
            }
            (TermsRecord::Budget(_), _) => "periods that are over change in `explain` and `simulate`",
            _ => {
                "closed periods change too: their allowance and overage, in `query periods` and wherever they are told"
            }
        };
        notes.push(format!(
            "it holds from {at} on, and the running period began at {running}: {what}. Decisions and alerts that were \
             published then stay as they are"
        ));
    }
    notes
}

fn of_policy(policy: &OrgPolicy, notes: &mut Vec<String>) {
    if policy.limit_mode == LimitMode::Hard && (policy.soft_extra.micros() > 0 || policy.unlimited_overage) {
        notes.push("`soft_extra` and `unlimited_overage` mean nothing while `limit_mode` is HARD".into());
    }
    if policy.unlimited && policy.auto_purchase.is_some() {
        notes.push("`auto_purchase` means nothing while `unlimited` is true".into());
    }
    let priced = policy.credit_price.is_some() || policy.overage_price.is_some();
    if priced && policy.currency.is_none() {
        notes.push("prices without a `currency` are plain numbers".into());
    }
}

/// The fields of a record that are instants.
fn instants(record: &TermsRecord) -> [(&'static str, Option<Timestamp>); 3] {
    let (expires_at, voided_at) = match record {
        TermsRecord::Budget(budget) => (budget.expires_at, None),
        TermsRecord::CreditGrant(grant) => (grant.expires_at, grant.voided_at),
        _ => (None, None),
    };
    [("effective_at", effective_at(record)), ("expires_at", expires_at), ("voided_at", voided_at)]
}

/// A number of seconds or milliseconds is read as microseconds, and lies shortly after 1970.
fn too_early(field: &str, at: Timestamp) -> Option<String> {
    if at >= YEAR_2000 {
        return None;
    }
    let meant = [("seconds", 1_000_000), ("milliseconds", 1_000)].into_iter().find_map(|(unit, micros)| {
        let meant = Timestamp::from_micros(at.micros().checked_mul(micros)?);
        (YEAR_2000..YEAR_2100).contains(&meant).then(|| format!("; as {unit} the number would be {meant}"))
    });
    Some(format!(
        "`{field}` is {at}, before the year 2000: a whole number is microseconds since 1970{}",
        meant.unwrap_or_default()
    ))
}

/// Why nothing can ever meet what the record names.
fn never_matches(record: &TermsRecord) -> Option<String> {
    let has_blank = |text: &str| text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace);
    match record {
        TermsRecord::Budget(budget) => {
            let value = budget.value.as_deref()?;
            if has_blank(value) {
                return Some(format!(
                    "`value` is {value:?}, with a blank at its start or end: a check over HTTP never matches it, for HTTP \
                     cuts such blanks"
                ));
            }
            value.contains(char::is_control).then(|| {
                format!(
                    "`value` is {value:?}, with a control character: a check over HTTP never matches it, for no header \
                     holds one"
                )
            })
        }
        TermsRecord::Label(label) if has_blank(&label.value) => Some(format!(
            "`value` is {:?}, with a blank at its start or end: it names only usage whose value has that blank too",
            label.value
        )),
        TermsRecord::PurchaseDeclined(declined) => {
            answers_nothing("purchase_id", &declined.org_id, &declined.purchase_id)
        }
        TermsRecord::CreditGrant(grant) if grant.kind == "purchase" => {
            answers_nothing("grant_id", &grant.org_id, &grant.grant_id)
        }
        _ => None,
    }
}

fn answers_nothing(field: &str, org: &str, id: &str) -> Option<String> {
    (!is_id_of(org, id)).then(|| {
        format!(
            "`{field}` is {id}, which no purchase of {org} can have: it answers none. Take `purchase_id` of the request \
             in the purchases topic"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::credits::Credits;
    use crate::domain::terms::purchase_id::purchase_id;
    use crate::domain::terms::records::{Budget, BudgetAction, CreditGrant};

    fn at(hours: i64) -> Timestamp {
        // 2026-11-01T00:00:00Z and so many hours.
        Timestamp::from_micros((1_793_491_200 + hours * 3600) * 1_000_000)
    }

    fn budget(value: &str, period: BudgetPeriod, effective_at: Timestamp) -> TermsRecord {
        TermsRecord::Budget(Budget {
            org_id: "acme".into(),
            budget_id: "b".into(),
            name: "b".into(),
            dimension: Some(crate::domain::usage::dimension::Dimension::User),
            value: Some(value.into()),
            limit: Credits::ZERO,
            period,
            action: BudgetAction::Block,
            thresholds: vec![100],
            effective_at,
            expires_at: None,
            updated_by: "ann".into(),
        })
    }

    fn grant(id: &str, kind: &str, effective_at: Timestamp) -> TermsRecord {
        TermsRecord::CreditGrant(CreditGrant {
            org_id: "acme".into(),
            grant_id: id.into(),
            credits: Credits::ZERO,
            kind: kind.into(),
            price: None,
            currency: None,
            effective_at,
            expires_at: None,
            voided_at: None,
            priority: 0,
            updated_by: "ann".into(),
        })
    }

    fn told(record: &TermsRecord) -> Vec<String> {
        let mut told = notes(&TermsLog::default(), record, &DefaultTerms::Allow, at(30));
        told.retain(|note| !note.contains("has no policy"));
        told
    }

    #[test]
    fn a_record_from_before_the_running_period_says_that_closed_ones_change() {
        for (record, says) in [
            (budget("ann", BudgetPeriod::Day, at(23)), Some("days that are over change")),
            (budget("ann", BudgetPeriod::Day, at(24)), None),
            (budget("ann", BudgetPeriod::Month, at(23)), None),
            (budget("ann", BudgetPeriod::Month, at(-1)), Some("periods that are over change")),
            (grant("g", "pack", at(-1)), Some("closed periods change too")),
            (grant("g", "pack", at(0)), None),
        ] {
            let told = told(&record);
            match says {
                Some(says) => assert!(told.len() == 1 && told[0].contains(says), "{told:?}"),
                None => assert!(told.is_empty(), "{told:?}"),
            }
        }
    }

    #[test]
    fn an_instant_before_2000_is_noted_with_the_unit_that_was_perhaps_meant() {
        let seconds = at(30).micros() / 1_000_000;
        for (number, says) in [
            (seconds, "as seconds the number would be 2026-11-02T06:00:00Z"),
            (seconds * 1000, "as milliseconds the number would be 2026-11-02T06:00:00Z"),
            (-62_135_596_800_000_000, "before the year 2000: a whole number is microseconds since 1970"),
        ] {
            let told = told(&grant("g", "pack", Timestamp::from_micros(number)));
            assert!(told[0].contains("`effective_at` is ") && told[0].ends_with(says), "{told:?}");
        }
        assert_eq!(too_early("effective_at", YEAR_2000), None);
    }

    #[test]
    fn what_can_never_match_is_noted() {
        for (value, says) in [
            ("ann ", Some("cuts such blanks")),
            ("\tann", Some("cuts such blanks")),
            ("an\u{0}n", Some("no header holds one")),
            ("ann b", None),
            ("*", None),
        ] {
            let told = told(&budget(value, BudgetPeriod::Month, at(24)));
            assert_eq!(
                told.first().map(|note| note.contains(says.unwrap_or("?"))),
                says.map(|_| true),
                "{told:?}"
            );
        }
        let asked = purchase_id("acme", at(0), 2);
        for (id, kind, is_noted) in [
            ("p1", "purchase", true),
            (&*asked, "purchase", false),
            ("p1", "pack", false),
            ("acme:x:1", "purchase", true),
        ] {
            assert_eq!(!told(&grant(id, kind, at(24))).is_empty(), is_noted, "{id}");
        }
    }
}
