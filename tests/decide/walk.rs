//! The walk against the slow model, over random histories: late events, corrections, policies that change base, anchor
//! and limit, grants that start, end, change and are voided, and time.

use std::convert::Infallible;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::overage;
use tallyman::domain::limits::walk::{Terms, Walk, last_instant, segments};
use tallyman::domain::terms::book::OrgTerms;
use tallyman::domain::terms::records::{CreditGrant, DefaultTerms, OrgPolicy};
use tallyman::domain::time::{Hour, Timestamp};

use crate::model::{Story, Told};
use crate::support::{at, policy};

/// Questions of the first property, and lives of the second.
const QUESTIONS: u64 = 8_000;
const LIVES: u64 = 3_000;
const HOURS: i32 = 70 * 24;

fn first_hour() -> Hour {
    at("2026-10-01T00:00:00Z").hour()
}

/// An instant of the story: often near the start of an hour where something else happens.
fn instant(random: &mut SmallRng, pool: &[Hour]) -> Timestamp {
    let hour = if random.random_bool(0.7) {
        *pool.choose(random).unwrap()
    } else {
        Hour(first_hour().0 + random.random_range(0..HOURS))
    };
    hour.start().plus_micros(*[0, 0, 1, 1_800_000_000, -1].choose(random).unwrap())
}

fn some_policy(random: &mut SmallRng, effective_at: Timestamp) -> OrgPolicy {
    OrgPolicy {
        base_allocation: Credits::from_micros(random.random_range(0..25)).unwrap(),
        unlimited: random.random_bool(0.15),
        anchor_day: *[1, 2, 15, 28].choose(random).unwrap(),
        time_zone: (*["UTC", "Europe/Berlin", "Asia/Kolkata"].choose(random).unwrap()).to_owned(),
        effective_at,
        ..policy()
    }
}

fn some_grant(random: &mut SmallRng, id: usize, effective_at: Timestamp, pool: &[Hour]) -> CreditGrant {
    let maybe = |random: &mut SmallRng| random.random_bool(0.4).then(|| instant(random, pool));
    CreditGrant {
        org_id: "acme".to_owned(),
        grant_id: format!("g{id}"),
        credits: Credits::from_micros(random.random_range(0..20)).unwrap(),
        kind: "pack".to_owned(),
        price: None,
        currency: None,
        effective_at,
        expires_at: maybe(random),
        voided_at: maybe(random).filter(|_| random.random_bool(0.5)),
        priority: random.random_range(0..2),
        updated_by: "test".to_owned(),
    }
}

/// The hours around which a story happens.
fn pool(random: &mut SmallRng) -> Vec<Hour> {
    let turns = ["2026-10-01T00:00:00Z", "2026-10-31T23:00:00Z", "2026-11-01T00:00:00Z", "2026-11-14T23:00:00Z"];
    let mut pool: Vec<Hour> = turns.iter().map(|turn| at(turn).hour()).collect();
    for _ in 0..3 {
        let hour = first_hour().0 + random.random_range(0..HOURS);
        pool.extend([Hour(hour), Hour(hour + 1), Hour(hour + 2)]);
    }
    pool
}

fn story(random: &mut SmallRng, pool: &[Hour]) -> Story {
    let before = at("2026-09-01T00:00:00Z");
    let default = match random.random_range(0..3) {
        0 => DefaultTerms::Allow,
        1 => DefaultTerms::Block,
        _ => DefaultTerms::Policy(Box::new(some_policy(random, before))),
    };
    let mut policies = Vec::new();
    for number in 0..random.random_range(0..4) {
        let from = if number == 0 && random.random_bool(0.7) { before } else { instant(random, pool) };
        policies.push(some_policy(random, from));
    }
    let mut grants = Vec::new();
    for id in 0..random.random_range(0..5) {
        for _ in 0..random.random_range(1..3) {
            let from = instant(random, pool);
            grants.push(some_grant(random, id, from, pool));
        }
    }
    let mut story = Story { policies, grants, default, hours: [].into() };
    for _ in 0..random.random_range(0..30) {
        let net = if random.random_bool(0.75) { random.random_range(1..15) } else { random.random_range(-12..0) };
        *story.hours.entry(instant(random, pool).hour()).or_default() += net;
    }
    story
}

fn load(story: &Story, terms: &OrgTerms, now: Timestamp) -> Walk {
    let terms = Terms { org: terms, default: &story.default };
    let walk = Walk::load(terms, now, |from, each| {
        story.hours.range(from..).for_each(|(hour, net)| each(*hour, CreditSum(*net)));
        Ok::<(), Infallible>(())
    });
    walk.unwrap()
}

fn told_by(walk: &Walk) -> Told {
    let balance = walk.balance();
    let held = walk.grants_left().map(|(grant, left)| (grant.grant_id.clone(), left)).collect();
    Told { balance, allowance: balance.allowance(), held, uncovered: [].into() }
}

#[test]
fn every_number_is_that_of_the_slow_model_whatever_the_history() {
    let (mut uncovered, mut from_grants, mut several) = (0, 0, 0);
    for seed in 0..QUESTIONS {
        let mut random = SmallRng::seed_from_u64(seed);
        let pool = pool(&mut random);
        let story = story(&mut random, &pool);
        let mut now = instant(&mut random, &pool);
        if random.random_bool(0.3) {
            now = last_instant(story.period(now));
        }
        let mut expected = story.told(now);
        let (org, hours) = (story.terms(), story.credits());
        let terms = Terms { org: &org, default: &story.default };
        let (balance, segments) = segments(terms, now, &hours);
        let parts = overage::uncovered(&segments, &hours);
        assert_eq!(balance, expected.balance, "seed {seed}: {story:?} at {now}");
        let by_hour = parts.iter().map(|(hour, part)| (*hour, part.0)).collect();
        assert_eq!(expected.uncovered, by_hour, "seed {seed}: {story:?} at {now}");
        several += u32::from(segments.len() > 2);
        uncovered += u32::from(!expected.uncovered.is_empty());
        from_grants += u32::from(balance.grants_used > CreditSum::ZERO);

        if let Some(base) = balance.base {
            let beyond = overage::beyond_base(story.period(now), base, &hours);
            let sum = beyond.iter().fold(CreditSum::ZERO, |sum, (_, part)| sum + *part);
            assert_eq!(sum, balance.beyond_base(), "seed {seed}");
            let net = |hour: &Hour| CreditSum(story.hours[hour]);
            assert!(beyond.iter().chain(&parts).all(|(hour, part)| *part <= net(hour)), "seed {seed}");
            let spent = base - balance.base_left + balance.grants_used + balance.uncovered;
            assert_eq!(balance.used, spent, "seed {seed}: every credit was spent once");
        }
        expected.uncovered.clear();
        assert_eq!(told_by(&load(&story, &org, now)), expected, "seed {seed}: {story:?} at {now}");
    }
    assert!(uncovered > 1000 && from_grants > 1000 && several > 1000, "{uncovered} {from_grants} {several}");
}

#[test]
fn a_walk_that_is_followed_tells_what_one_loaded_anew_tells() {
    let (mut followed, mut loads) = (0, 0);
    for seed in 0..LIVES {
        let mut random = SmallRng::seed_from_u64(seed);
        let pool = pool(&mut random);
        let mut story = story(&mut random, &pool);
        let mut org = story.terms();
        let mut now = instant(&mut random, &pool);
        let mut walk = load(&story, &org, now);
        for step in 0..20 {
            match random.random_range(0..10) {
                // Time goes on, and nothing is done about it before the walk says so.
                0..=2 => {
                    let minutes = *[1, 20, 60, 70, 24 * 60, 20 * 24 * 60].choose(&mut random).unwrap();
                    now = now.plus_micros(minutes * 60_000_000);
                }
                3 => now = now.max(walk.until()),
                // A grant, or a change of one, comes: the walk finds out whether it can go on.
                4 => {
                    let from = *[now, now, instant(&mut random, &pool), walk.until()].choose(&mut random).unwrap();
                    let id = if random.random_bool(0.7) { 7 + step } else { step % 5 };
                    story.grants.push(some_grant(&mut random, id, from, &pool));
                    org = story.terms();
                    if walk.advance(Terms { org: &org, default: &story.default }, now) {
                        followed += 1;
                    } else {
                        loads += 1;
                        walk = load(&story, &org, now);
                    }
                }
                // A policy comes: all is read again.
                5 if random.random_bool(0.3) => {
                    let from = *[now, instant(&mut random, &pool), walk.until()].choose(&mut random).unwrap();
                    story.policies.push(some_policy(&mut random, from));
                    org = story.terms();
                    walk = load(&story, &org, now);
                }
                // Usage of the running hour, some late, some ahead.
                _ => {
                    let behind = *[0, 0, 0, 0, 1, 2, 30, -1, -2].choose(&mut random).unwrap();
                    let hour = Hour(now.hour().0 - behind);
                    let net = random.random_range(-6..15);
                    *story.hours.entry(hour).or_default() += net;
                    if walk.add(hour, CreditSum(net)) {
                        followed += 1;
                    } else {
                        loads += 1;
                        walk = load(&story, &org, now);
                    }
                }
            }
            if now >= walk.until() {
                let terms = Terms { org: &org, default: &story.default };
                if walk.advance(terms, now) {
                    followed += 1;
                } else {
                    loads += 1;
                    walk = load(&story, &org, now);
                }
            }
            let expected = load(&story, &org, now);
            assert_eq!(told_by(&walk), told_by(&expected), "seed {seed} step {step}: {story:?} at {now}");
            assert_eq!(walk.until(), expected.until(), "seed {seed} step {step}");
            assert_eq!(walk.period(), expected.period(), "seed {seed} step {step}");
        }
    }
    assert!(followed > 5 * loads, "{followed} followed, {loads} loads");
}
