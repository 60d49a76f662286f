//! What the tests of decisions share: a policy to start from, instants written as text.

use tallyman::domain::credits::{Credits, parse_decimal};
use tallyman::domain::terms::book::PolicyHistory;
use tallyman::domain::terms::records::{LimitMode, OrgPolicy, OrgStatus};
use tallyman::domain::time::Timestamp;

/// The instant of an RFC 3339 text.
pub fn at(text: &str) -> Timestamp {
    Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

/// Credits of a decimal text.
pub fn credits(text: &str) -> Credits {
    Credits::from_micros(parse_decimal(text, 6).unwrap().try_into().unwrap()).unwrap()
}

/// A HARD policy of 100 credits, anchored on day 1 UTC, in force since 2020.
pub fn policy() -> OrgPolicy {
    OrgPolicy {
        org_id: "acme".into(),
        plan: "team".into(),
        status: OrgStatus::Active,
        unlimited: false,
        base_allocation: credits("100"),
        limit_mode: LimitMode::Hard,
        soft_extra: Credits::ZERO,
        unlimited_overage: false,
        thresholds: vec![75, 90, 100],
        anchor_day: 1,
        time_zone: "UTC".into(),
        auto_purchase: None,
        products: Vec::new(),
        credit_price: None,
        overage_price: None,
        currency: None,
        effective_at: at("2020-01-01T00:00:00Z"),
        updated_by: "test".into(),
    }
}

/// `policy()` with another anchor.
pub fn anchored(anchor_day: i32, time_zone: &str, effective_at: Timestamp) -> OrgPolicy {
    OrgPolicy { anchor_day, time_zone: time_zone.into(), effective_at, ..policy() }
}

/// The policies at offsets 10, 11, ...
pub fn history(policies: impl IntoIterator<Item = OrgPolicy>) -> PolicyHistory {
    let mut history = PolicyHistory::default();
    for (offset, policy) in (10..).zip(policies) {
        history.insert(offset, policy);
    }
    history
}
