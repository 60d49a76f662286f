//! The numbers of an org's summary: what its terms and the usage of one period make of each other.
//!
//! Pure and exact: sums are micro-credits, and what must be rounded says how. It never decides (see `decide`) and
//! never formats (see `http/`). Forecast and cost are told elsewhere.

use crate::domain::credits::CreditSum;
use crate::domain::limits::decide::{limit_of, remaining};
use crate::domain::limits::walk::Balance;
use crate::domain::terms::in_force::InForce;
use crate::domain::terms::period::{Period, time_zone_or_utc};
use crate::domain::time::{Day, Timestamp};

/// Decimals of a percent: it is told in hundredths.
pub const PERCENT_SCALE: u32 = 2;

/// What a summary follows from.
#[derive(Clone, Copy, Debug)]
pub struct Usage<'a> {
    /// What binds the org at `now`, or at the last instant of a closed period.
    pub terms: InForce<'a>,
    /// The period told of.
    pub period: Period,
    /// What was used in it, and what that took from base and grants: the walk's, at `now` or the period's end.
    pub balance: Balance,
    /// Credits of each UTC day that the period touches, its own hours only, each day once in any order; days without
    /// usage may be left out. They sum to the balance's `used`.
    pub days: &'a [(Day, CreditSum)],
    /// Products with usage in the period.
    pub active_products: u64,
    /// Now; at or after the period's start.
    pub now: Timestamp,
}

/// The numbers of `/v1/orgs/{org}` (CONTRACT.md, HTTP and Meaning: Allowance).
///
/// Without a limit everything that speaks of one is `None`, and nothing is beyond base or overage. Percents are
/// integers of 10^-[`PERCENT_SCALE`], `None` at an allowance of 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Credits of the period's base allocation.
    pub base_allocation: Option<CreditSum>,
    /// What of it is used: never below 0, never above it.
    pub base_used: Option<CreditSum>,
    /// What of it is left.
    pub base_remaining: Option<CreditSum>,
    /// Share of it that is used, rounded down.
    pub base_percent_used: Option<i128>,
    /// max(0, used - base allocation).
    pub beyond_base: CreditSum,
    /// Credits that usage of the period took from grants.
    pub grants_used: CreditSum,
    /// Credits that grants hold and that can be used now.
    pub grants_remaining: CreditSum,
    /// Credits that may be used in the period.
    pub allowance: Option<CreditSum>,
    /// Credits used in the period; below 0 when corrections outweigh usage.
    pub used: CreditSum,
    /// max(0, allowance - used).
    pub remaining: Option<CreditSum>,
    /// Share of the allowance that is used, rounded down, so that no threshold looks reached that is not.
    pub percent_used: Option<i128>,
    /// Usage that neither base nor grants cover.
    pub overage: CreditSum,
    /// Credits beyond the allowance; `None` without an end.
    pub soft_extra: Option<CreditSum>,
    /// What of it is left.
    pub soft_extra_remaining: Option<CreditSum>,
    /// The period's first instant.
    pub period_start: Timestamp,
    /// The first instant after it.
    pub period_end: Timestamp,
    /// Calendar days in the policy's time zone from today to the day of the period's end; 0 on that day and after.
    pub days_until_reset: i32,
    /// Products with usage in the period.
    pub active_products: u64,
    /// The UTC day with the most credits (the earliest of equals); `None` when no day has any.
    pub peak_day: Option<(Day, CreditSum)>,
    /// `used` over the UTC days that the period has touched so far, today included; rounded to the nearest
    /// micro-credit, halves away from 0.
    pub average_per_elapsed_day: CreditSum,
    /// `used` over the UTC days with credits above 0, rounded likewise; `None` when there is none.
    pub average_per_active_day: Option<CreditSum>,
}

/// Works the numbers out.
#[must_use]
pub fn summarise(usage: &Usage<'_>) -> Summary {
    let &Usage { terms, period, balance, days, active_products, now } = usage;
    let limit = limit_of(terms);
    let Balance { used, uncovered: overage, .. } = balance;
    let allowance = balance.allowance();
    // More is left than was given where corrections outweigh usage.
    let base_used = limit.map(|limit| (limit.base - balance.base_left).max(CreditSum::ZERO));
    let soft_extra = limit.and_then(|limit| limit.extra);
    let active = days.iter().filter(|(_, credits)| *credits > CreditSum::ZERO);
    Summary {
        base_allocation: limit.map(|limit| limit.base),
        base_used,
        base_remaining: limit.zip(base_used).map(|(limit, base_used)| limit.base - base_used),
        base_percent_used: limit.zip(base_used).and_then(|(limit, base_used)| percent(base_used, limit.base)),
        beyond_base: balance.beyond_base(),
        grants_used: balance.grants_used,
        grants_remaining: balance.grants_left,
        allowance,
        used,
        remaining: allowance.map(|allowance| remaining(allowance, used)),
        percent_used: allowance.and_then(|allowance| percent(used, allowance)),
        overage,
        soft_extra,
        soft_extra_remaining: soft_extra.map(|extra| remaining(extra, overage)),
        period_start: period.starts_at(),
        period_end: period.ends_at(),
        days_until_reset: days_until_reset(terms, period, now),
        active_products,
        peak_day: active.clone().max_by_key(|(day, credits)| (*credits, std::cmp::Reverse(*day))).copied(),
        average_per_elapsed_day: average(used, elapsed_days(period, now)),
        average_per_active_day: Some(active.count())
            .filter(|days| *days > 0)
            .map(|days| average(used, days as i128)),
    }
}

/// 100 x part / whole in hundredths, rounded down; `None` of a whole of 0.
fn percent(part: CreditSum, whole: CreditSum) -> Option<i128> {
    let scaled = 100 * 10_i128.pow(PERCENT_SCALE) * part.0;
    (whole.0 != 0).then(|| scaled.div_euclid(whole.0))
}

/// `sum` / `parts` (above 0) to the nearest micro-credit, halves away from 0.
fn average(sum: CreditSum, parts: i128) -> CreditSum {
    CreditSum((2 * sum.0 + sum.0.signum() * parts) / (2 * parts))
}

/// UTC days that the period has touched up to `now`, at least 1.
fn elapsed_days(period: Period, now: Timestamp) -> i128 {
    let last_hour = now.min(period.ends_at().plus_micros(-1)).hour();
    let days = i128::from(last_hour.day().0) - i128::from(period.start.day().0) + 1;
    days.max(1)
}

fn days_until_reset(terms: InForce<'_>, period: Period, now: Timestamp) -> i32 {
    let zone = match terms {
        InForce::Policy(_, policy) => time_zone_or_utc(&policy.time_zone),
        InForce::Nothing | InForce::Block => jiff::tz::TimeZone::UTC,
    };
    let local_date = |at: Timestamp| {
        let end_of_time = if at.micros() < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        zone.to_datetime(jiff::Timestamp::from_microsecond(at.micros()).unwrap_or(end_of_time)).date()
    };
    local_date(now).until(local_date(period.ends_at())).map_or(0, |span| span.get_days().max(0))
}
