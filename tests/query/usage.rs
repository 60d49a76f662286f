//! Usage answers against naive sums over the events.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{ToSpan as _, tz::TimeZone};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::terms::book::PolicyHistory;
use tallyman::domain::terms::period::period_at;
use tallyman::domain::terms::records::DefaultTerms;
use tallyman::domain::time::Hour;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::query::QueryError;

use super::support::{Event, Fixture, ORG, ask, at, events, policy};

const DIMENSIONS: [Dimension; 4] = [Dimension::User, Dimension::Product, Dimension::Model, Dimension::Operation];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"];
const BUCKETS: [&str; 6] = ["hour", "day", "week", "month", "period", "none"];

/// A question, drawn at random.
#[derive(Clone, Debug)]
struct Question {
    from: i32,
    hours: i32,
    bucket: usize,
    zone: usize,
    group_by: Vec<Dimension>,
    filters: Vec<(Dimension, Option<&'static str>)>,
    page_size: usize,
}

fn questions() -> impl Strategy<Value = Question> {
    let value =
        prop_oneof![Just(None), Just(Some("u1")), Just(Some("chat")), Just(Some("m:1")), Just(Some("ask"))];
    let filter = (proptest::sample::select(&DIMENSIONS[..]), value);
    let aligned = prop_oneof![Just(24_i32), Just(1)];
    (
        (0..61 * 24_i32, 1..20 * 24_i32, aligned),
        0..BUCKETS.len(),
        0..ZONES.len(),
        proptest::sample::subsequence(&DIMENSIONS[..], 0..=3),
        proptest::collection::vec(filter, 0..3),
        prop_oneof![Just(7_usize), Just(10_000)],
    )
        .prop_map(|((from, hours, step), bucket, zone, group_by, filters, page_size)| Question {
            from: from / step * step,
            hours: (hours / step).max(1) * step,
            bucket,
            zone,
            group_by,
            filters,
            page_size,
        })
}

impl Question {
    fn range(&self) -> std::ops::Range<Hour> {
        let from = at("2026-10-01T00:00:00Z").hour().0 + self.from;
        Hour(from)..Hour(from + self.hours)
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let range = self.range();
        let names: Vec<&str> = self.group_by.iter().map(|dimension| dimension.name()).collect();
        let mut raw = vec![
            ("from", range.start.start().to_string()),
            ("to", range.end.start().to_string()),
            ("bucket", BUCKETS[self.bucket].to_owned()),
            ("time_zone", ZONES[self.zone].to_owned()),
            ("group_by", names.join(",")),
            ("page_size", self.page_size.to_string()),
            ("measures", "credits,events,error,latency_p95_ms".to_owned()),
        ];
        raw.extend(self.filters.iter().map(|(dim, value)| ("filter", format!("{dim}:{}", value.unwrap_or("")))));
        raw
    }

    fn counts(&self, event: &Event) -> bool {
        let any_of = |dimension: Dimension| {
            let mut same = self.filters.iter().filter(|(of, _)| *of == dimension).peekable();
            same.peek().is_none() || same.any(|(_, value)| event.value(dimension) == *value)
        };
        self.range().contains(&event.hour) && DIMENSIONS.into_iter().all(any_of)
    }

    /// What tells buckets apart, found from the hour alone: no edge is computed here.
    fn bucket_of(&self, hour: Hour, policies: &PolicyHistory) -> String {
        let instant = jiff::Timestamp::from_microsecond(hour.start().micros()).unwrap();
        let date: Date = instant.to_zoned(TimeZone::get(ZONES[self.zone]).unwrap()).date();
        let monday = date - i64::from(date.weekday().to_monday_zero_offset()).days();
        match BUCKETS[self.bucket] {
            "hour" => hour.start().to_string(),
            "day" => date.to_string(),
            "week" => monday.to_string(),
            "month" => date.first_of_month().to_string(),
            "period" => period_at(Some(policies), &DefaultTerms::Allow, hour.start()).starts_at().to_string(),
            _ => String::new(),
        }
    }
}

type Sums = BTreeMap<(String, Vec<Option<String>>), (i128, i128, i128)>;

fn add(sums: &mut Sums, key: (String, Vec<Option<String>>), tally: &Tally) {
    let sum = sums.entry(key).or_default();
    sum.0 += tally.sum(Field::CREDITS);
    sum.1 += tally.sum(Field::EVENTS);
    sum.2 += tally.sum(Field::ERROR);
}

#[test]
fn every_answer_is_the_naive_sum_of_its_events_over_every_bucket_grouping_filter_and_page_size() {
    let events = events(3000, 1);
    let mut fixture = Fixture::new();
    fixture.commit(ORG, &events);
    let query = fixture.query(1);
    let mut policies = PolicyHistory::default();
    for (offset, policy) in [policy(3, "pro", "2026-01-01T00:00:00Z"), policy(5, "max", "2027-01-01T00:00:00Z")] {
        policies.insert(offset, policy);
    }
    let mut runner = TestRunner::new(Config { cases: 1_000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&questions(), |question| {
        let mut expected = Sums::new();
        let mut total = (0, 0);
        for event in events.iter().filter(|event| question.counts(event)) {
            let group =
                question.group_by.iter().map(|dimension| event.value(*dimension).map(str::to_owned)).collect();
            let sum = expected.entry((question.bucket_of(event.hour, &policies), group)).or_default();
            *sum = (sum.0 + i128::from(event.micros), sum.1 + 1, sum.2 + i128::from(!event.ok));
            total = (total.0 + i128::from(event.micros), total.1 + 1);
        }
        let raw = question.parameters();
        let mut raw: Vec<(&str, &str)> = raw.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut found = Sums::new();
        let (mut rows, mut last) = (0, None);
        loop {
            let answer = ask(&query, &raw).unwrap();
            prop_assert_eq!((answer.total.sum(Field::CREDITS), answer.total.sum(Field::EVENTS)), total);
            for row in &answer.rows {
                let place = (row.start, row.group.clone());
                prop_assert!(last.as_ref() < Some(&place), "each row once, in order");
                last = Some(place);
                if !row.tally.is_empty() {
                    add(&mut found, (question.bucket_of(row.start, &policies), row.group.clone()), &row.tally);
                }
            }
            rows += answer.rows.len();
            let token = answer.next_page_token;
            if token.is_empty() {
                break;
            }
            raw.retain(|(name, _)| *name != "page_token");
            raw.push(("page_token", Box::leak(token.into_boxed_str())));
        }
        let hours = (question.range().start.0..question.range().end.0).map(Hour);
        let mut buckets: Vec<String> = hours.map(|hour| question.bucket_of(hour, &policies)).collect();
        buckets.dedup();
        let mut groups: Vec<_> = expected.keys().map(|(_, group)| group.clone()).collect();
        groups.sort();
        groups.dedup();
        let lines = if question.group_by.is_empty() { 1 } else { groups.len() };
        prop_assert_eq!(rows, buckets.len() * lines, "empty buckets are present");
        prop_assert_eq!(found, expected);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn the_largest_come_first_when_asked_for_and_nothing_is_lost_between_pages() {
    let mut fixture = Fixture::new();
    fixture.commit(ORG, &events(500, 2));
    let query = fixture.query(1);
    let base = [
        ("from", "2026-10-01"),
        ("to", "2026-12-01"),
        ("bucket", "week"),
        ("group_by", "user,model"),
        ("order_by", "credits desc"),
    ];
    let whole = ask(&query, &base).unwrap().rows;
    assert!(whole.is_sorted_by(|a, b| a.tally.credits() >= b.tally.credits()));
    let mut paged = Vec::new();
    let mut token = String::new();
    loop {
        let mut raw = base.to_vec();
        raw.extend([("page_size", "5"), ("page_token", &token)]);
        let page = ask(&query, &raw).unwrap();
        assert!(page.rows.len() <= 5);
        paged.extend(page.rows);
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    assert_eq!(paged, whole);
}

#[test]
fn without_a_range_the_running_period_up_to_this_hour_is_meant() {
    let mut fixture = Fixture::new();
    fixture.commit(ORG, &events(500, 3));
    let answer = ask(&fixture.query(1), &[]).unwrap();
    assert_eq!(answer.from.start().to_string(), "2026-11-11T23:00:00Z");
    assert_eq!(answer.to.start().to_string(), "2026-11-20T13:00:00Z");
    let summary = fixture.query(1).summary(ORG).unwrap();
    let to_the_end = ask(&fixture.query(1), &[("to", "2026-12-11T23:00:00Z"), ("bucket", "none")]).unwrap();
    assert_eq!(summary.summary.used, to_the_end.total.credits());
    assert_eq!(summary.summary.active_products, 2);
}

#[test]
fn an_org_elsewhere_unknown_or_impossible_is_told_as_such() {
    let mut fixture = Fixture::new();
    fixture.commit(ORG, &events(5, 4));
    let query = fixture.query(1);
    assert!(matches!(query.summary("nobody"), Err(QueryError::UnknownOrg { .. })));
    assert!(matches!(query.decisions("nobody"), Err(QueryError::UnknownOrg { .. })));
    assert!(matches!(query.summary("a b"), Err(QueryError::BadOrg(_))));
    let elsewhere = fixture.query(1 << 20).summary(ORG).unwrap_err();
    assert!(matches!(elsewhere, QueryError::NotHere { .. }), "{elsewhere}");
}

#[test]
fn an_answer_of_too_many_rows_is_refused_while_it_grows() {
    let mut events = events(40, 8);
    for (number, event) in events.iter_mut().enumerate() {
        event.values[Dimension::User.index()] = Some(Box::leak(format!("user-{number}").into_boxed_str()));
    }
    let mut fixture = Fixture::new();
    fixture.commit(ORG, &events);
    let year = [("from", "2026-01-01"), ("to", "2026-12-31"), ("bucket", "hour"), ("group_by", "user")];
    let error = ask(&fixture.query(1), &year).unwrap_err().to_string();
    assert!(error.contains("more than 200000 rows") && error.contains("coarser `bucket`"), "{error}");
}

#[test]
fn a_range_without_an_end_ends_with_the_running_hour() {
    let mut fixture = Fixture::new();
    fixture.commit(ORG, &events(200, 1));
    let query = fixture.query(1);
    let by_two = [("from", "2026-11-01"), ("group_by", "user,product"), ("bucket", "none")];
    let whole = [&by_two[..], &[("to", "2026-11-21")]].concat();
    let credits = |raw: &[(&str, &str)]| ask(&query, raw).unwrap().total.credits();
    assert_eq!(credits(&by_two), credits(&whole));
    let starts = |raw: &[(&str, &str)]| ask(&query, raw).unwrap().rows.last().unwrap().start;
    let last = |bucket| starts(&[("from", "2026-11-19"), ("bucket", bucket)]);
    assert_eq!(last("hour"), at("2026-11-20T12:00:00Z").hour());
    assert_eq!(last("day"), at("2026-11-20T00:00:00Z").hour());
}
