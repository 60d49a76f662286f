//! `limits.default`: what an org without a policy gets. `"allow"`, `"block"`, or a table with an OrgPolicy's fields,
//! held to the bounds of CONTRACT.md's record.

use super::entries::Origin;
use super::reader::Reader;
use super::units::{Parsed, number, one_of, switch, text};
use crate::domain::credits::{Credits, parse_decimal};
use crate::domain::terms::{AutoPurchase, DefaultTerms, LimitMode, OrgPolicy, OrgStatus};
use crate::domain::time::Timestamp;

const KEY: &str = "limits.default";

/// Reads it; `None` when nobody set it, which only `run` minds.
pub(super) fn read(reader: &mut Reader) -> Option<DefaultTerms> {
    let word = reader.optional(KEY, |raw| match raw {
        "allow" => Ok(DefaultTerms::Allow),
        "block" => Ok(DefaultTerms::Block),
        _ => Err("must be allow, block, or a table [limits.default] with an OrgPolicy's fields".into()),
    });
    if reader.below("limits.default.").is_empty() {
        return word;
    }
    if word.is_some() {
        reader.problem_with(KEY, "is both a word and a table: keep one");
    }
    Some(DefaultTerms::Policy(Box::new(policy(reader))))
}

fn policy(reader: &mut Reader) -> OrgPolicy {
    let key = |field: &str| format!("{KEY}.{field}");
    let unlimited = reader.get(&key("unlimited"), "false", switch);
    let given = reader.below("limits.default.").iter().any(|field| field == "base_allocation");
    let base = reader.optional(&key("base_allocation"), credits);
    if !given && !unlimited {
        reader.problem(&Origin::Default, &key("base_allocation"), "must be set, unless unlimited = true");
    }
    let modes = [("HARD", LimitMode::Hard), ("SOFT", LimitMode::Soft)];
    let statuses = [("active", OrgStatus::Active), ("suspended", OrgStatus::Suspended)];
    OrgPolicy {
        org_id: "default".to_owned(),
        plan: reader.get(&key("plan"), "default", text),
        status: reader.get(&key("status"), "active", one_of(&statuses)),
        unlimited,
        base_allocation: base.unwrap_or(Credits::ZERO),
        limit_mode: reader.get(&key("limit_mode"), "HARD", one_of(&modes)),
        soft_extra: reader.get(&key("soft_extra"), "0", credits),
        unlimited_overage: reader.get(&key("unlimited_overage"), "false", switch),
        thresholds: thresholds(reader, &key("thresholds")),
        anchor_day: small(reader.get(&key("anchor_day"), "1", number(1..=28))),
        time_zone: reader.get(&key("time_zone"), "UTC", zone),
        auto_purchase: auto_purchase(reader, &key("auto_purchase")),
        products: reader.list(&key("products")).unwrap_or_default(),
        credit_price: reader.optional(&key("credit_price"), credits),
        overage_price: reader.optional(&key("overage_price"), credits),
        currency: reader.optional(&key("currency"), text),
        effective_at: Timestamp::MIN,
        updated_by: "config".to_owned(),
    }
}

fn auto_purchase(reader: &mut Reader, key: &str) -> Option<AutoPurchase> {
    if reader.below(&format!("{key}.")).is_empty() {
        return None;
    }
    let at = reader.optional(&format!("{key}.at_percent"), number(1..=100));
    let pack = reader.optional(&format!("{key}.pack_credits"), credits);
    let most = reader.optional(&format!("{key}.max_packs_per_period"), number(1..=1000));
    let (Some(at), Some(pack_credits), Some(most)) = (at, pack, most) else {
        let what = "needs all of at_percent, pack_credits and max_packs_per_period";
        reader.problem(&Origin::Default, key, what);
        return None;
    };
    if pack_credits == Credits::ZERO {
        reader.problem_with(&format!("{key}.pack_credits"), "must be above 0");
    }
    Some(AutoPurchase { at_percent: small(at), pack_credits, max_packs_per_period: small(most) })
}

fn thresholds(reader: &mut Reader, key: &str) -> Vec<i32> {
    let Some(list) = reader.list(key) else { return vec![75, 90, 100] };
    let percents: Option<Vec<i32>> = list.iter().map(|text| number(1..=1000)(text).ok().map(small)).collect();
    if let Some(percents) = percents.filter(|percents| percents.is_sorted_by(|a, b| a < b)) {
        return percents;
    }
    reader.problem_with(key, "must be ascending whole percents from 1 to 1000, such as [75, 90, 100]");
    Vec::new()
}

/// A number that its parser already held within an i32.
fn small(number: i64) -> i32 {
    i32::try_from(number).expect("the range of every caller lies within an i32")
}

fn credits(raw: &str) -> Parsed<Credits> {
    let micros = parse_decimal(raw.trim(), 6).map_err(|error| format!("must be credits: it is {error}"))?;
    let credits = i64::try_from(micros).ok().and_then(Credits::from_micros);
    credits
        .filter(|credits| *credits >= Credits::ZERO)
        .ok_or_else(|| "must be from 0 to 1000000000 credits".into())
}

fn zone(raw: &str) -> Parsed<String> {
    let known = jiff::tz::TimeZone::get(raw).is_ok();
    if known { Ok(raw.to_owned()) } else { Err("must be an IANA time zone such as Europe/Berlin".into()) }
}
