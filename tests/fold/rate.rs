//! The recent rate against an obvious model: every event kept, those of the last six minutes of log time summed.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::rate::{MINUTES, RateRing, Rates};
use tallyman::domain::time::Timestamp;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
/// Within five minutes the rate spends what the ring holds.
const WINDOW: i64 = 300 * SECOND;

fn credits(micros: i64) -> Credits {
    Credits::from_micros(micros).unwrap()
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_795_168_800_000_000 + micros)
}

#[test]
fn the_rate_is_that_of_the_running_minute_and_the_five_before() {
    let mut ring = RateRing::default();
    for minute in 0..10 {
        ring.add(at(minute * MINUTE + 30 * SECOND), credits(60));
    }
    // 60 micro-credits a minute are one a second; in five minutes of minutes a fifth more is seen.
    assert_eq!(ring.spent_within(WINDOW, at(9 * MINUTE + 59 * SECOND)), CreditSum(360));
    assert_eq!(ring.spent_within(WINDOW, at(10 * MINUTE)), CreditSum(300));
    assert_eq!(ring.spent_within(WINDOW, at(14 * MINUTE)), CreditSum(60));
    assert_eq!(ring.spent_within(WINDOW, at(15 * MINUTE)), CreditSum(0));
    assert_eq!(ring.spent_within(2 * SECOND, at(9 * MINUTE)), CreditSum(3), "2.4 rounded up");
    // An instant behind the log's is as good as the log's.
    assert_eq!(ring.spent_within(WINDOW, at(0)), CreditSum(360));
    assert_eq!(RateRing::default().spent_within(i64::MAX, at(0)), CreditSum(0));
}

proptest! {
    #[test]
    fn a_ring_holds_what_the_last_six_minutes_of_log_time_hold(
        steps in proptest::collection::vec((0..4 * MINUTE, 0..1_000_000_000_000_000_i64), 1..60),
        ahead in 0..8 * MINUTE,
    ) {
        let (mut ring, mut by_minute, mut now) = (RateRing::default(), BTreeMap::<i64, i128>::new(), 0);
        let mut falls = None;
        for (step, micros) in steps {
            now += step;
            ring.add(at(now), credits(micros));
            *by_minute.entry(at(now).micros().div_euclid(MINUTE)).or_default() += i128::from(micros);
            let minute = at(now).micros().div_euclid(MINUTE);
            let sum = |from: i64| by_minute.range(from - MINUTES as i64 + 1..).map(|(_, micros)| micros).sum();
            prop_assert_eq!(ring.spent_within(WINDOW, at(now)), CreditSum(sum(minute)));
            let later = at(now + ahead);
            let then = ring.spent_within(WINDOW, later);
            prop_assert_eq!(then, CreditSum(sum(later.micros().div_euclid(MINUTE))));
            falls = Some((ring.spent_within(WINDOW, at(now)), then));
        }
        // Without usage it never grows: time alone makes no guard block.
        prop_assert!(falls.is_some_and(|(now, then)| then <= now));
    }

    #[test]
    fn rings_that_are_flushed_and_forgotten_at_any_time_are_the_same(
        events in proptest::collection::vec((0..3_usize, 0..3 * MINUTE, 1..1000_i64, 0..5_u8), 1..60),
    ) {
        let orgs = ["a", "b", "c"];
        let (mut rates, mut expected) = (Rates::default(), [RateRing::default(); 3]);
        let (mut stored, mut now) = (BTreeMap::<String, RateRing>::new(), 0);
        for (org, step, micros, then) in events {
            now += step;
            // One in five is no usage event.
            let used = (then != 4).then(|| credits(micros));
            let read = |org: &str| Ok::<_, Infallible>(stored.get(org).copied());
            let Ok(ring) = rates.record(orgs[org], at(now), used, read);
            used.inspect(|used| expected[org].add(at(now), *used));
            prop_assert_eq!(*ring, expected[org]);
            if then < 2 {
                rates.flush(|org, ring| _ = stored.insert(org.to_owned(), *ring));
            }
            if then == 0 {
                rates.forget();
                prop_assert!(rates.get(orgs[org]).is_none());
            }
        }
        rates.flush(|org, ring| _ = stored.insert(org.to_owned(), *ring));
        for (org, ring) in orgs.iter().zip(expected) {
            prop_assert_eq!(stored.get(*org).copied().unwrap_or_default(), ring);
        }
    }
}
