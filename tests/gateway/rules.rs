//! CONTRACT.md, Meaning: Decision ("told") and Gateway, sentence by sentence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tallyman::codec::{Decoder, Encoder, OutputEncoding};
use tallyman::domain::limits::decision::Action;
use tallyman::domain::limits::scope::Scope;
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension::{self, Model, Product, User};
use tallyman::gateway::table::{Applied, Came, Request, Rules, WhenStale};

use crate::support::{Bench, NOON, RESET, decision, scope};

fn acme() -> Request<'static> {
    Request::of("acme").with(User, "ada").with(Model, "sage").with(Product, "chat")
}

/// A table with these decisions of acme: scope, action, remaining.
fn with(scopes: &[(Scope, &str, Option<i64>)]) -> Bench {
    let mut bench = Bench::new(Rules::default());
    for (scope, action, remaining) in scopes {
        assert_eq!(bench.put(scope, &decision(scope, action, *remaining, 1)), Applied::Changed);
    }
    bench
}

fn told(bench: &Bench, request: &Request<'_>) -> (Action, Option<String>) {
    let verdict = bench.table.check(request);
    (verdict.action(), verdict.scope().map(Into::into))
}

#[test]
fn a_request_is_blocked_when_any_matching_scope_is() {
    let user = scope("acme", Some(User), Some("ada"), "b1");
    let model = scope("acme", Some(Model), Some("sage"), "b2");
    let other = scope("acme", Some(User), Some("bob"), "b1");
    let org = Scope::org("acme");
    let of = [(&org, "ALLOW"), (&user, "ALLOW"), (&model, "BLOCK"), (&other, "BLOCK")];
    let bench = with(&of.map(|(scope, action)| (scope.clone(), action, Some(5))));
    let verdict = bench.table.check(&acme());
    assert!(verdict.is_blocked());
    assert_eq!((verdict.scope(), verdict.reason()), (Some("acme|model|sage|b2"), "BUDGET_SPENT"));
    assert_eq!(told(&bench, &Request::of("acme").with(User, "ada")).0, Action::Allow);
    assert_eq!(told(&bench, &Request::of("acme").with(User, "bob")).0, Action::Block);
    assert_eq!(told(&bench, &Request::of("other").with(User, "bob")).0, Action::Allow);
}

#[test]
fn told_is_the_blocked_one_then_the_one_with_the_least_remaining_and_none_is_the_most() {
    let user = scope("acme", Some(User), Some("ada"), "b1");
    let wide = scope("acme", None, None, "b2");
    let org = Scope::org("acme");
    for (of_org, of_user, of_wide, expected) in [
        (("ALLOW", Some(1)), ("ALLOW", Some(2)), ("ALLOW", Some(3)), "acme"),
        (("ALLOW", Some(3)), ("ALLOW", Some(2)), ("ALLOW", Some(1)), "acme|||b2"),
        (("ALLOW", None), ("ALLOW", Some(900)), ("ALLOW", None), "acme|user|ada|b1"),
        (("ALLOW", Some(0)), ("BLOCK", Some(9)), ("ALLOW", Some(1)), "acme|user|ada|b1"),
        (("BLOCK", Some(0)), ("BLOCK", Some(9)), ("ALLOW", Some(1)), "acme"),
    ] {
        let scopes = [(&org, of_org), (&user, of_user), (&wide, of_wide)];
        let bench = with(&scopes.map(|(scope, (action, remaining))| (scope.clone(), action, remaining)));
        assert_eq!(told(&bench, &acme()).1.as_deref(), Some(expected));
    }
}

#[test]
fn ties_are_told_in_the_order_of_the_contract_and_the_org_comes_last() {
    let names: Vec<&str> = Dimension::TOLD_FIRST.iter().map(|dimension| dimension.name()).collect();
    let order = "user, project, workspace, department, operation_detail, operation, model, provider, product, \
                 category, tier, workspace_kind";
    assert_eq!(names.join(", "), order);
    let mut bench = with(&[(Scope::org("acme"), "ALLOW", Some(5))]);
    let mut request = Request::of("acme");
    for dimension in Dimension::TOLD_FIRST.into_iter().rev() {
        let scope = scope("acme", Some(dimension), Some("x"), "b");
        bench.put(&scope, &decision(&scope, "ALLOW", Some(5), 1));
        request = request.with(dimension, "x");
        let expected = format!("acme|{}|x|b", dimension.name());
        assert_eq!(told(&bench, &request).1, Some(expected));
    }
}

#[test]
fn a_star_budgets_empty_value_holds_for_values_without_their_own() {
    let each = scope("acme", Some(User), None, "each");
    let ada = scope("acme", Some(User), Some("ada"), "each");
    let bench = with(&[
        (Scope::org("acme"), "ALLOW", None),
        (each.clone(), "ALLOW", Some(10)),
        (ada.clone(), "BLOCK", Some(0)),
    ]);
    assert_eq!(told(&bench, &Request::of("acme").with(User, "bob")).1.as_deref(), Some("acme|user||each"));
    assert_eq!(told(&bench, &acme()), (Action::Block, Some("acme|user|ada|each".into())));
    assert_eq!(told(&bench, &Request::of("acme")).1.as_deref(), Some("acme"), "no user, no user's limit");

    // The other way round: nobody may, but ada.
    let bench = with(&[(Scope::org("acme"), "ALLOW", None), (each, "BLOCK", Some(0)), (ada, "ALLOW", Some(7))]);
    assert_eq!(told(&bench, &Request::of("acme").with(User, "bob")).0, Action::Block);
    assert_eq!(told(&bench, &acme()).0, Action::Allow);
}

#[test]
fn a_budget_for_exactly_this_value_overrides_those_for_each() {
    let each = scope("acme", Some(User), None, "each");
    let exact = scope("acme", Some(User), Some("ada"), "only-ada");
    let org = (Scope::org("acme"), "ALLOW", None);
    let mut bench = with(&[org, (each, "BLOCK", Some(0)), (exact.clone(), "ALLOW", Some(7))]);
    assert_eq!(told(&bench, &acme()), (Action::Allow, Some("acme|user|ada|only-ada".into())));
    // It is over: nothing limits ada by it, and its tombstone comes a day later.
    bench.put(&exact, &decision(&exact, "ALLOW", None, 2));
    assert_eq!(told(&bench, &acme()), (Action::Block, Some("acme|user||each".into())));
    bench.remove(&exact);
    assert_eq!(told(&bench, &acme()), (Action::Block, Some("acme|user||each".into())));
}

#[test]
fn an_org_without_a_decision_is_unknown_and_no_decision_for_a_narrower_scope_is_no_limit() {
    for unknown in [Action::Allow, Action::Block] {
        let mut bench = Bench::new(Rules { unknown, ..Rules::default() });
        let verdict = bench.table.check(&acme());
        assert_eq!((verdict.action(), verdict.reason(), verdict.scope()), (unknown, "UNKNOWN", None));
        // A budget's block holds for an unknown org too.
        let user = scope("acme", Some(User), Some("ada"), "b1");
        bench.put(&user, &decision(&user, "BLOCK", Some(0), 1));
        assert_eq!(told(&bench, &acme()), (Action::Block, Some("acme|user|ada|b1".into())));
        assert_eq!(told(&bench, &Request::of("acme")).0, unknown);
        bench.put(&Scope::org("acme"), &decision(&Scope::org("acme"), "ALLOW", Some(1), 1));
        assert_eq!(told(&bench, &Request::of("acme").with(User, "bob")), (Action::Allow, Some("acme".into())));
    }
}

#[test]
fn an_unrecognised_action_counts_as_unknown_and_an_unrecognised_reason_changes_nothing() {
    let org = Scope::org("acme");
    for unknown in [Action::Allow, Action::Block] {
        let mut bench = Bench::new(Rules { unknown, ..Rules::default() });
        let mut value = decision(&org, "ALLOW", Some(5), 1);
        value["action"] = "THROTTLE".into();
        assert_eq!(bench.put(&org, &value), Applied::Changed);
        let verdict = bench.table.check(&acme());
        assert_eq!((verdict.action(), verdict.reason(), verdict.scope()), (unknown, "UNKNOWN", Some("acme")));
        let text = verdict.decision_json().unwrap().into_owned();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&text).unwrap()["action"], "THROTTLE");

        let mut value = decision(&org, "BLOCK", Some(5), 2);
        value["reason"] = "FULL_MOON".into();
        value["a_later_field"] = json!({"of": "any kind"});
        assert_eq!(bench.put(&org, &value), Applied::Changed);
        let verdict = bench.table.check(&acme());
        assert_eq!((verdict.action(), verdict.reason(), verdict.version()), (Action::Block, "FULL_MOON", Some(2)));
    }
    let mut bench = with(&[(org.clone(), "BLOCK", Some(5))]);
    assert_eq!(bench.try_put("acme|moon_phase|full|b1", &json!({})).unwrap(), Applied::Unheard);
    assert!(bench.try_put("acme", &json!({"type": "LimitDecision"})).is_err());
    assert_eq!(told(&bench, &acme()).0, Action::Block, "what cannot be read leaves the last decision");
}

#[test]
fn stale_applies_when_the_partitions_heartbeat_is_older_than_stale_after() {
    for (stale, when_stale) in
        [(WhenStale::Keep, Action::Block), (WhenStale::Allow, Action::Allow), (WhenStale::Block, Action::Block)]
    {
        let mut bench = Bench::new(Rules { stale, ..Rules::default() });
        bench.put(&Scope::org("acme"), &decision(&Scope::org("acme"), "BLOCK", Some(0), 1));
        bench.put(&Scope::org("free"), &decision(&Scope::org("free"), "ALLOW", Some(9), 1));
        let check = |bench: &mut Bench, ago: Option<u64>, expected: (Action, Action)| {
            ago.into_iter().for_each(|seconds| bench.heard(Duration::from_secs(seconds)));
            let told = ["acme", "free"].map(|org| bench.table.check(&Request::of(org)).action());
            assert_eq!((told[0], told[1]), expected, "{stale:?} after {ago:?} s");
        };
        let kept = if stale == WhenStale::Keep { Action::Allow } else { when_stale };
        check(&mut bench, None, (when_stale, kept));
        check(&mut bench, Some(61), (when_stale, kept));
        check(&mut bench, Some(60), (Action::Block, Action::Allow));
        check(&mut bench, Some(0), (Action::Block, Action::Allow));
        // A heartbeat of the past that is read again makes nothing older.
        check(&mut bench, Some(3_600), (Action::Block, Action::Allow));
        bench.clock.pass(Duration::from_micros(60_000_001));
        check(&mut bench, None, (when_stale, kept));
        let reason = bench.table.check(&Request::of("acme")).reason().to_owned();
        assert_eq!(reason, if stale == WhenStale::Keep { "ALLOWANCE_SPENT" } else { "STALE" });
    }
}

#[test]
fn one_silent_partition_makes_only_its_own_orgs_stale() {
    let mut bench = Bench::new(Rules { stale: WhenStale::Block, ..Rules::default() });
    bench.heard(Duration::from_secs(0));
    bench.clock.pass(Duration::from_secs(85));
    bench.try_put("!heartbeat|2", &beat(2, NOON + 85_000_000)).unwrap();
    bench.clock.pass(Duration::from_secs(5));
    let mut fresh = 0;
    for number in 0..100 {
        let org = format!("org-{number}");
        let is_there = tallyman::domain::usage::murmur2::partition_of(org.as_bytes(), 4) == 2;
        assert_eq!(bench.table.check(&Request::of(&org)).is_blocked(), !is_there, "{org}");
        fresh += usize::from(is_there);
    }
    assert!((1..100).contains(&fresh));
    assert!((bench.table.heartbeat_age_seconds() - 90.0).abs() < 1e-9, "the oldest partition's");
}

fn beat(partition: i32, at: i64) -> serde_json::Value {
    json!({"type": "Heartbeat", "partition": partition, "at": at, "log_time": 0})
}

#[test]
fn a_heartbeat_that_comes_is_as_old_as_the_time_since_then_whatever_two_clocks_show() {
    const DAY: i64 = 86_400_000_000;
    for of_the_decider in [NOON - DAY, NOON, NOON + DAY] {
        for of_the_gateway in [NOON - DAY, NOON, NOON + DAY] {
            let mut bench = Bench::new(Rules { stale: WhenStale::Block, ..Rules::default() });
            for partition in 0..4 {
                bench.try_put(&format!("!heartbeat|{partition}"), &beat(partition, of_the_decider)).unwrap();
            }
            bench.clock.jump(Timestamp::from_micros(of_the_gateway));
            bench.clock.pass(Duration::from_secs(60));
            assert!(!bench.table.is_stale("acme"), "{of_the_decider} {of_the_gateway}");
            assert!((bench.table.heartbeat_age_seconds() - 60.0).abs() < 1e-9);
            bench.clock.pass(Duration::from_micros(1));
            assert!(bench.table.is_stale("acme"), "{of_the_decider} {of_the_gateway}");
        }
    }
}

#[test]
fn a_heartbeat_that_stood_in_the_topic_at_the_start_is_not_fresh() {
    let mut bench = Bench::new(Rules { stale: WhenStale::Block, ..Rules::default() });
    let stood = |bench: &mut Bench, written: i64, said: i64| {
        for partition in 0..4 {
            let came = Came::Before(Timestamp::from_micros(written));
            bench.take(&format!("!heartbeat|{partition}"), &beat(partition, said), came).unwrap();
        }
        bench.table.heartbeat_age_seconds()
    };
    // The record's time rules over what the decider wrote into it.
    assert!((stood(&mut bench, NOON - 61_000_000, NOON) - 61.0).abs() < 1e-9);
    assert!(bench.table.is_stale("acme"));
    // A topic without times leaves the decider's word.
    assert!((stood(&mut bench, -1_000, NOON - 9_000_000) - 9.0).abs() < 1e-9);
    assert!(!bench.table.is_stale("acme"));
    // Read anew, later: an old one makes nothing fresh, and one from ahead of this clock is new, not younger than that.
    bench.clock.pass(Duration::from_secs(100));
    assert!((stood(&mut bench, NOON + 9_000_000, NOON) - 91.0).abs() < 1e-9);
    assert!((stood(&mut bench, NOON + 900_000_000, NOON)).abs() < 1e-9);
}

#[test]
fn a_lapsed_decision_holds_until_its_successor_comes() {
    let bench = with(&[(Scope::org("acme"), "BLOCK", Some(0))]);
    bench.clock.jump(Timestamp::from_micros(RESET + 5_000_000));
    let verdict = bench.table.check(&acme());
    assert!(verdict.is_blocked());
    assert_eq!(verdict.reset_at(), Some(Timestamp::from_micros(RESET)));
}

#[test]
fn a_version_never_goes_backwards_and_a_tombstone_removes() {
    let org = Scope::org("acme");
    let user = scope("acme", Some(User), Some("ada"), "b1");
    let each = scope("acme", Some(User), None, "b2");
    let wide = scope("acme", None, None, "b3");
    for scope in [&org, &user, &each, &wide] {
        let mut bench = with(&[(scope.clone(), "BLOCK", Some(0))]);
        assert_eq!(bench.put(scope, &decision(scope, "ALLOW", Some(1), 5)), Applied::Changed);
        assert_eq!(bench.put(scope, &decision(scope, "BLOCK", Some(0), 4)), Applied::Outdated);
        assert_eq!(told(&bench, &acme()), (Action::Allow, Some(scope.key())));
        assert_eq!(bench.put(scope, &decision(scope, "BLOCK", Some(0), 5)), Applied::Changed, "the same again");
        assert_eq!(bench.table.len(), 1);
        assert_eq!(bench.remove(scope), Applied::Changed);
        assert_eq!(bench.remove(scope), Applied::Outdated);
        assert!(bench.table.is_empty());
        assert_eq!(told(&bench, &acme()), (Action::Allow, None));
    }
}

#[test]
fn a_decision_comes_back_whole_from_every_encoding() {
    let org = scope("acme", Some(User), Some("a|b"), "b1");
    let published =
        Decoder::new(None).decision(decision(&org, "BLOCK", Some(3), 9).to_string().as_bytes()).unwrap();
    for encoding in [OutputEncoding::Json, OutputEncoding::SingleObject] {
        let mut bench = Bench::new(Rules::default());
        let value = Encoder::new(encoding, None).decision(&published).unwrap();
        bench.table.apply(&mut bench.decoder, (org.key().as_bytes(), Some(&value)), Came::Now).unwrap();
        let verdict = bench.table.check(&Request::of("acme").with(User, "a|b"));
        assert_eq!(verdict.decision(), Some(published.clone()));
        let json: serde_json::Value = serde_json::from_slice(&verdict.decision_json().unwrap()).unwrap();
        assert_eq!(json["value"], "a|b");
        assert_eq!(json["type"], "LimitDecision");
    }
}

#[test]
fn readers_beside_a_writer_see_each_decision_whole_and_none_older_than_before() {
    const VERSIONS: i64 = 20_000;
    let user = scope("acme", Some(User), Some("ada"), "b1");
    let (mut bench, done) = (with(&[(Scope::org("acme"), "ALLOW", None)]), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (table, done) = (Arc::clone(&bench.table), Arc::clone(&done));
            std::thread::spawn(move || {
                let (mut last, mut seen) = (0, 0_u32);
                while !done.load(Ordering::Relaxed) {
                    let verdict = table.check(&acme());
                    let Some(decision) = verdict.decision() else { panic!("the org has a decision") };
                    if decision.scope.budget.is_none() {
                        continue;
                    }
                    // What a verdict says at once, and what it shows later, are of one decision.
                    assert_eq!(verdict.version(), Some(decision.version));
                    assert_eq!(verdict.is_blocked(), decision.version % 2 == 0);
                    assert_eq!(decision.level.action == Action::Block, decision.version % 2 == 0);
                    assert!(decision.version >= last, "{} after {last}", decision.version);
                    (last, seen) = (decision.version, seen + 1);
                }
                seen
            })
        })
        .collect();
    for version in 1..=VERSIONS {
        let action = if version % 2 == 0 { "BLOCK" } else { "ALLOW" };
        bench.put(&user, &decision(&user, action, Some(1), version));
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    assert_eq!(bench.table.check(&acme()).version(), Some(VERSIONS));
    assert_eq!(Dimension::COUNT, Dimension::TOLD_FIRST.len());
}
