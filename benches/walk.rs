//! What it costs to follow an org's walk: a batch's usage added and the balance told, with few and many grants; and what
//! a load costs, beside reading the same hours into a plain sum; and a replay of hours before it, as `explain` asks for.

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::walk::{Terms, Walk};
use tallyman::domain::terms::book::OrgTerms;
use tallyman::domain::terms::records::{CreditGrant, DefaultTerms};
use tallyman::domain::time::{Hour, Timestamp};
use tallyman::domain::what_if::replay::{Replay, Step};

/// Hours of three years before now, each with usage.
const HOURS: i32 = 3 * 365 * 24;

fn terms(grants: i32, now: Hour) -> OrgTerms {
    let mut terms = OrgTerms::default();
    for number in 0..grants {
        let grant = CreditGrant {
            org_id: "acme".into(),
            grant_id: format!("grant-{number}"),
            credits: Credits::from_micros(1_000_000_000).expect("in range"),
            kind: "pack".into(),
            price: None,
            currency: None,
            effective_at: Hour(now.0 - HOURS + number * (HOURS / (grants + 1))).start(),
            expires_at: None,
            voided_at: None,
            priority: 0,
            updated_by: "bench".into(),
        };
        terms.grants.entry(grant.grant_id.clone()).or_default().insert(number.into(), grant);
    }
    terms
}

fn walk(c: &mut Criterion) {
    let now = Timestamp::from_millis(1_795_000_000_000);
    let hours: Vec<(Hour, CreditSum)> =
        (0..HOURS).map(|back| (Hour(now.hour().0 - HOURS + back), CreditSum(1_000_000))).collect();
    let mut group = c.benchmark_group("walk");
    group.bench_function("three years of hours into a plain sum", |b| {
        b.iter(|| black_box(&hours).iter().fold(CreditSum::ZERO, |sum, (_, credits)| sum + *credits));
    });
    let org = terms(1, now.hour());
    group.bench_function("replay three years of hours before now, 1 grant", |b| {
        b.iter(|| {
            let terms = Terms { org: &org, default: &DefaultTerms::Block };
            let mut replay = Replay::new("acme", terms, now);
            hours.iter().for_each(|(hour, sum)| replay.add(Step::whole_hour(*hour, *sum), &mut |_| {}));
            replay.pass(now, &mut |_| {});
            replay.balance()
        });
    });
    for grants in [1, 10, 100] {
        let org = terms(grants, now.hour());
        let terms = Terms { org: &org, default: &DefaultTerms::Block };
        let load = || {
            let walk = Walk::load(terms, now, |from, each| {
                let first = hours.partition_point(|(hour, _)| *hour < from);
                hours[first..].iter().for_each(|(hour, credits)| each(*hour, *credits));
                Ok::<(), Infallible>(())
            });
            walk.expect("infallible")
        };
        group.bench_function(format!("load three years of hours, {grants} grants"), |b| b.iter(load));
        let mut walk = load();
        group.bench_function(format!("add and balance, {grants} grants"), |b| {
            b.iter(|| {
                assert!(walk.add(now.hour(), CreditSum(1)));
                black_box(walk.balance())
            });
        });
    }
}

criterion_group!(benches, walk);
criterion_main!(benches);
