//! What terms make of rows: overage and beyond-base in every bucket and grouping, periods, and the summary agree to the
//! micro-credit.

use std::collections::BTreeMap;

use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::limits::walk::Balance;
use tallyman::domain::terms::records::{CreditGrant, OrgPolicy, TermsRecord};
use tallyman::domain::time::Hour;
use tallyman::query::{Query, UsageAnswer};

use super::support::{Fixture, ORG, ask, at, events, params, policy};

/// 10,000 credits a period, and a grant that starts and ends within the running one.
fn terms() -> Vec<(i64, TermsRecord)> {
    let (offset, pro) = policy(4, "pro", "2026-01-01T00:00:00Z");
    let small = OrgPolicy { base_allocation: Credits::from_micros(10_000_000_000).unwrap(), ..pro };
    let grant = CreditGrant {
        org_id: ORG.to_owned(),
        grant_id: "g1".to_owned(),
        credits: Credits::from_micros(3_000_000_001).unwrap(),
        kind: "pack".to_owned(),
        price: None,
        currency: None,
        effective_at: at("2026-11-15T10:20:00Z"),
        expires_at: Some(at("2026-11-25T14:00:00Z")),
        voided_at: None,
        priority: 0,
        updated_by: "test".to_owned(),
    };
    vec![(offset, TermsRecord::OrgPolicy(small)), (5, TermsRecord::CreditGrant(grant))]
}

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.put_terms(&terms());
    fixture.commit(ORG, &events(3000, 11));
    fixture
}

const RANGE: [(&str, &str); 2] = [("from", "2026-10-01"), ("to", "2026-12-01")];

fn usage(query: &Query, more: &[(&str, &str)]) -> UsageAnswer {
    let asked = [("measures", "credits,overage,beyond_base"), ("page_size", "10000")];
    ask(query, &[&RANGE[..], &asked, more].concat()).unwrap()
}

fn both(tally: &Tally) -> (i128, i128) {
    (tally.sum(Field::OVERAGE), tally.sum(Field::BEYOND_BASE))
}

#[test]
fn overage_and_beyond_base_are_equal_over_every_bucket_and_grouping_and_over_the_periods() {
    let fixture = fixture();
    let query = fixture.query(1);
    let periods = query.periods(ORG, 10, None).unwrap().periods;
    let sum = |of: fn(&Balance) -> CreditSum| periods.iter().map(|period| of(&period.balance).0).sum::<i128>();
    let whole = (sum(|balance| balance.uncovered), sum(Balance::beyond_base));
    assert!(whole.0 > 0 && whole.1 - whole.0 == 3_000_000_001, "{whole:?}: the grant is spent");
    for group_by in ["", "user", "product", "model", "tier"] {
        for bucket in ["hour", "day", "week", "month", "period", "none"] {
            let answer = usage(&query, &[("bucket", bucket), ("group_by", group_by)]);
            assert_eq!(both(&answer.total), whole, "{bucket} by {group_by}");
            let rows = answer.rows.iter().map(|row| both(&row.tally));
            let rows = rows.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
            assert_eq!(rows, whole, "{bucket} by {group_by}");
        }
    }
}

#[test]
fn an_hours_part_is_shared_over_the_values_with_positive_net_absent_included() {
    let fixture = fixture();
    let query = fixture.query(1);
    let hours = usage(&query, &[("bucket", "hour")]);
    let by_user = usage(&query, &[("bucket", "hour"), ("group_by", "user")]);
    let org: BTreeMap<Hour, (i128, i128)> = hours.rows.iter().map(|row| (row.start, both(&row.tally))).collect();
    let mut shared: BTreeMap<Hour, (i128, i128)> = BTreeMap::new();
    for row in &by_user.rows {
        let (overage, beyond_base) = both(&row.tally);
        let net = row.tally.sum(Field::CREDITS);
        assert!((0..=net.max(0)).contains(&overage) && (0..=net.max(0)).contains(&beyond_base), "{row:?}");
        let sum = shared.entry(row.start).or_default();
        *sum = (sum.0 + overage, sum.1 + beyond_base);
    }
    assert_eq!(shared, org);
    let absent = by_user.rows.iter().filter(|row| row.group == [None]).map(|row| both(&row.tally).0);
    assert!(absent.sum::<i128>() > 0);
    let u1 = by_user.rows.iter().filter(|row| row.group == [Some("u1".to_owned())]);
    let u1 = u1.map(|row| both(&row.tally)).fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    assert_eq!(both(&usage(&query, &[("bucket", "week"), ("filter", "user:u1")]).total), u1);
}

#[test]
fn summary_periods_and_usage_of_the_running_period_agree() {
    let fixture = fixture();
    let query = fixture.query(1);
    for now in ["2026-11-15T10:19:00Z", "2026-11-15T10:21:00Z", "2026-11-25T13:59:59Z", "2026-11-25T14:00:00Z"] {
        fixture.clock.set(at(now));
        let summary = query.summary(ORG).unwrap().summary;
        let running = query.periods(ORG, 1, None).unwrap().periods.remove(0);
        assert_eq!(running.period.starts_at(), summary.period_start);
        assert_eq!(Some(summary.overage), Some(running.balance.uncovered), "at {now}");
        assert_eq!((summary.allowance, summary.used), (running.balance.allowance(), running.balance.used));
        let (from, to) = (summary.period_start.to_string(), summary.period_end.to_string());
        let raw =
            [("from", &*from), ("to", &*to), ("bucket", "none"), ("measures", "overage,beyond_base,credits")];
        let total = ask(&query, &raw).unwrap().total;
        assert_eq!(both(&total), (summary.overage.0, summary.beyond_base.0), "at {now}");
        assert_eq!(total.credits(), summary.used);
        let base_used = summary.base_used.unwrap();
        assert_eq!(base_used + summary.grants_used + summary.overage, summary.used, "at {now}");
    }
}

#[test]
fn an_etag_of_overage_ends_where_time_alone_changes_it() {
    let fixture = fixture();
    let tag = |now: &str, measures: &str| {
        fixture.clock.set(at(now));
        let raw = [&RANGE[..], &[("measures", measures)]].concat();
        fixture.query(1).usage(ORG, params(&raw), |_| true).unwrap().0
    };
    let (before, after) = ("2026-11-15T10:19:59Z", "2026-11-15T10:20:00Z");
    assert_eq!(tag(before, "credits"), tag(after, "credits"));
    assert_ne!(tag(before, "overage"), tag(after, "overage"));
    assert_eq!(tag(after, "overage"), tag("2026-11-16T00:00:00Z", "overage"));
}

#[test]
fn what_overage_cannot_be_told_by_is_refused_with_what_can_be() {
    let fixture = fixture();
    let query = fixture.query(1);
    let refused = |more: &[(&str, &str)]| {
        ask(&query, &[&RANGE[..], &[("measures", "credits,overage")], more].concat()).unwrap_err().to_string()
    };
    for more in
        [[("group_by", "user,product"), ("bucket", "none")], [("group_by", "user"), ("filter", "model:m2")]]
    {
        let message = refused(&more);
        assert!(message.contains("the values of one dimension"), "{message}");
    }
    let other = [("order_by", "beyond_base desc"), ("group_by", "user,product"), ("bucket", "none")];
    assert!(ask(&query, &[&RANGE[..], &other].concat()).is_err(), "asked for by its order alone");
}

#[test]
fn periods_come_latest_first_and_page_without_gap() {
    let fixture = fixture();
    fixture.clock.set(at("2027-03-20T00:00:00Z"));
    let query = fixture.query(1);
    let whole = query.periods(ORG, 100, None).unwrap();
    assert_eq!(whole.next_page_token, "");
    let ends: Vec<_> = whole.periods.iter().map(|entry| entry.period.end).collect();
    let starts: Vec<_> = whole.periods.iter().map(|entry| entry.period.start).collect();
    assert_eq!(ends[1..], starts[..starts.len() - 1], "each begins where the one before it in time ends");
    assert_eq!(starts.last(), Some(&at("2026-09-11T22:00:00Z").hour()), "the period of the first usage");
    assert_eq!(whole.periods[0].plan.as_deref(), Some("max"));
    assert_eq!(whole.periods.last().unwrap().plan.as_deref(), Some("pro"));
    let (mut paged, mut token) = (Vec::new(), None);
    loop {
        let page = query.periods(ORG, 3, token.as_deref()).unwrap();
        paged.extend(page.periods.iter().map(|entry| entry.period.start));
        if page.next_page_token.is_empty() {
            break;
        }
        token = Some(page.next_page_token);
    }
    assert_eq!(paged, starts);
    assert!(query.periods(ORG, 3, Some("zz")).is_err());
}
