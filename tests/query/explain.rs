//! `explain` over HTTP and as the command line tells it: which scope, since when, by what, and what unblocks it.

use std::process::Command;

use tallyman::codec::terms_document::{DocumentDefaults, parse};
use tallyman::domain::limits::decision::{Action, Cause, DecisionReason, LimitDecision};
use tallyman::domain::limits::scope::BudgetScope;
use tallyman::domain::terms::records::{BudgetPeriod, TermsRecord};
use tallyman::domain::usage::dimension::Dimension;

use super::server::Server;
use super::support::{Event, Fixture, at, decision};

const POLICY: &str = "\
type: OrgPolicy
org_id: acme
plan: team
base_allocation: 10
effective_at: 2026-01-01T00:00:00Z
updated_by: ann
---
type: OrgPolicy
org_id: acme
plan: bigger
base_allocation: 20
effective_at: 2026-11-25T00:00:00Z
updated_by: bob
";

fn terms(text: &str) -> Vec<(i64, TermsRecord)> {
    let defaults = DocumentDefaults { effective_at: at("2026-01-01T00:00:00Z"), updated_by: "ann".to_owned() };
    (3..).zip(parse(text, &defaults).unwrap().into_iter().map(|document| document.record)).collect()
}

fn event(hour: &str, product: &'static str, micros: i64) -> Event {
    let mut values = [None; Dimension::COUNT];
    values[Dimension::Product.index()] = Some(product);
    Event { hour: at(hour).hour(), values, micros, ok: true, latency_ms: 5 }
}

/// Twelve credits of ten, the limit crossed at ten o'clock of the day that is asked about.
pub fn blocked() -> Server {
    blocked_with("")
}

/// The same with further terms, which nothing was decided by.
fn blocked_with(more: &str) -> Server {
    let mut published: LimitDecision = decision();
    published.level.period_start = at("2026-11-01T00:00:00Z");
    published.level.period_end = at("2026-12-01T00:00:00Z");
    published.level.valid_until = at("2026-11-25T00:00:00Z");
    published.level.allowance = Some(tallyman::domain::credits::CreditSum::whole(10));
    published.level.extra = Some(tallyman::domain::credits::CreditSum::ZERO);
    published.decided_at = at("2026-11-20T10:12:33Z");
    published.cause = Cause { trace_id: Some("4bf9".to_owned()), ..published.cause };
    let events = [
        event("2026-11-02T08:00:00Z", "chat", 3_000_000),
        event("2026-11-20T09:00:00Z", "agents", 4_500_000),
        event("2026-11-20T10:00:00Z", "chat", 4_500_000),
    ];
    let mut fixture = Fixture::new();
    fixture.commit_with("acme", &events, &terms(&format!("{POLICY}{more}")), Some(&published));
    Server::over(fixture, 1)
}

const DAILY: &str = "\
---
type: Budget
org_id: acme
budget_id: daily
name: Everyone
dimension: user
value: '*'
limit: 4
period: day
action: BLOCK
effective_at: 2026-02-01T00:00:00Z
updated_by: bea
";

/// Five credits of ann's four a day, crossed at ten o'clock; the organisation has room.
pub fn budgeted() -> Server {
    let mut published: LimitDecision = decision();
    let scope =
        BudgetScope { dimension: Some(Dimension::User), value: Some("ann".into()), budget_id: "daily".into() };
    published.scope.budget = Some(scope);
    published.level.reason = DecisionReason::BudgetSpent;
    published.level.period_start = at("2026-11-20T00:00:00Z");
    published.level.period_end = at("2026-11-21T00:00:00Z");
    published.level.valid_until = published.level.period_end;
    published.level.allowance = Some(tallyman::domain::credits::CreditSum::whole(4));
    published.level.extra = Some(tallyman::domain::credits::CreditSum::ZERO);
    published.level.budget = Some(("Everyone".to_owned(), BudgetPeriod::Day));
    published.decided_at = at("2026-11-20T10:12:33Z");
    let spent = |hour: &str, user, product, micros| {
        let mut event = event(hour, product, micros);
        event.values[Dimension::User.index()] = Some(user);
        event
    };
    let events = [
        spent("2026-11-19T09:00:00Z", "ann", "chat", 3_000_000),
        spent("2026-11-20T09:00:00Z", "ann", "chat", 3_000_000),
        spent("2026-11-20T09:00:00Z", "bob", "chat", 1_000_000),
        spent("2026-11-20T10:00:00Z", "ann", "agents", 2_000_000),
    ];
    let mut fixture = Fixture::new();
    fixture.commit_with("acme", &events, &terms(&format!("{POLICY}{DAILY}")), Some(&published));
    Server::over(fixture, 1)
}

fn told(server: &Server, more: &[&str]) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_tallyman"))
        .args(["explain", "acme", "--url", &server.url])
        .args(more)
        .env_remove("TALLYMAN_CONFIG")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_block_is_told_with_its_instant_event_terms_sums_and_ways_out() {
    let server = blocked();
    let (code, text, error) = told(&server, &[]);
    assert_eq!(code, 0, "{error}");
    let expected = "\
acme is blocked: the allowance of this period is spent (ALLOWANCE_SPENT).
Blocked since 2026-11-20T10:12:33Z or earlier.
The last decision, of 2026-11-20T10:12:33Z, followed from event e41 (credit.usage, partition 0, offset 41, trace 4bf9).

Period  2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z
Used    12.000000 of 10.000000; 0.000000 remain
Terms   plan team, base_allocation 10.000000, HARD; since 2026-01-01T00:00:00Z, by ann (credit.policies, offset 3)

The sum that led there, by UTC day and product:
day          credits      chat    agents
2026-11-02  3.000000  3.000000         -
2026-11-20  9.000000  4.500000  4.500000

Each of these unblocks it:
  - Wait until 2026-11-25T00:00:00Z.
  - Raise base_allocation to more than 12.000000.
  - Set limit_mode SOFT with a soft_extra of more than 2.000000.
  - Buy (or grant) more than 2.000000 credits.
";
    assert_eq!(text, expected);
    let (_, json, _) = told(&server, &["--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["unblocked_by"][0]["until"], "2026-11-25T00:00:00Z",
        "the scheduled policy comes before the period's end"
    );
    assert_eq!((&json["policy"]["updated_by"], &json["policy_offset"]), (&"ann".into(), &3.into()));
    assert_eq!(json["decision"]["version"], 7);
}

#[test]
fn a_past_instant_is_told_from_the_terms_and_hours_of_then() {
    let server = blocked();
    let at = |at: &str| server.get(&format!("/v1/orgs/acme/explain?at={at}")).json();
    let before = at("2026-11-20T10:05:00Z");
    assert_eq!((&before["action"], &before["used"]), (&"ALLOW".into(), &"7.500000".into()));
    assert_eq!(
        (&before["used_in_that_hour"], &before["at_end_of_that_hour"]),
        (&"4.500000".into(), &"BLOCK".into())
    );
    assert_eq!((&before["decision"], &before["cause"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    let sum = |json: &serde_json::Value| json["days"].as_array().unwrap().last().unwrap()["credits"].clone();
    assert_eq!((sum(&before), &before["usage_counted_to"]), ("4.500000".into(), &"2026-11-20T10:00:00Z".into()));
    let decided = at("2026-11-20T10:20:00Z");
    let figures = ["action", "used", "remaining", "usage_counted_to"].map(|name| decided[name].as_str().unwrap());
    assert_eq!(figures, ["BLOCK", "12.000000", "0.000000", "2026-11-20T11:00:00Z"]);
    assert_eq!((sum(&decided), &decided["used_in_that_hour"]), ("9.000000".into(), &serde_json::Value::Null));
    let after = at("2026-11-20T11:30:00Z");
    assert_eq!(
        (&after["action"], &after["reason"]),
        (&"BLOCK".into(), &DecisionReason::AllowanceSpent.name().into())
    );
    assert_eq!(
        (&after["holds_since"], &after["cause"]["event_id"]),
        (&"2026-11-20T10:12:33Z".into(), &"e41".into())
    );
    let year = at("2025-06-01T00:00:00Z");
    assert_eq!((&year["action"], &year["reason"]), (&"ALLOW".into(), &"NO_POLICY".into()));
    let text = told(&server, &["--at", "2026-11-20T10:05:00Z"]).1;
    assert!(text.contains("acme is allowed: its usage is within the allowance"), "{text}");
    let grain = "Usage is known by the hour: this counts what came before 2026-11-20T10:00:00Z.\n\
                 Within that hour 4.500000 more were used, and by its end it was blocked. `tallyman simulate --exact` \
                 tells instants.\n";
    assert!(text.contains(grain), "{text}");
    let text = told(&server, &["--at", "2026-11-20T09:30:00Z"]).1;
    assert!(
        text.contains("Within that hour 4.500000 more were used, and at its end it was as at its start."),
        "{text}"
    );
}

#[test]
fn level_and_figures_are_of_one_moment_also_before_a_grant_is_decided() {
    let pack = "---\ntype: CreditGrant\norg_id: acme\ngrant_id: g\ncredits: 5\nkind: pack\neffective_at: 2026-11-20T12:29:59Z\n";
    let server = blocked_with(pack);
    let json = server.get("/v1/orgs/acme/explain").json();
    let figures = ["action", "used", "allowance", "remaining"].map(|name| json[name].as_str().unwrap().to_owned());
    assert_eq!(figures, ["ALLOW", "12.000000", "15.000000", "3.000000"]);
    let text = told(&server, &[]).1;
    assert!(text.contains("The last decision differs: BLOCK, of 2026-11-20T10:12:33Z."), "{text}");
}

#[test]
fn a_change_that_no_hour_tells_is_told_by_the_last_decision_and_an_hour_as_an_hour() {
    let policy = POLICY.replace("effective_at: 2026-01-01T00:00:00Z", "effective_at: 2026-11-20T10:20:55Z");
    let events = [event("2026-11-20T10:00:00Z", "chat", 4_500_000)];
    let since = |decided_at: &str, more: &[Event]| {
        let mut published: LimitDecision = decision();
        published.level.action = Action::Allow;
        published.level.reason = DecisionReason::WithinAllowance;
        published.decided_at = at(decided_at);
        let mut fixture = Fixture::new();
        fixture.commit_with("acme", &[&events[..], more].concat(), &terms(&policy), Some(&published));
        told(&Server::over(fixture, 1), &[]).1
    };
    // It was blocked in between, and allowed again within the hour in which the policy came.
    let text = since("2026-11-20T10:21:01Z", &[]);
    assert!(text.contains("Allowed since 2026-11-20T10:21:01Z or earlier.\nThe last decision, of"), "{text}");
    let text = since("2026-11-20T11:21:01Z", &[]);
    assert!(
        text.contains("Allowed since 2026-11-20T10:20:55Z, as far as the hours of usage show.\nThe last dec"),
        "{text}"
    );
    let soon_taken_back =
        [event("2026-11-20T11:00:00Z", "chat", 9_000_000), event("2026-11-20T12:00:00Z", "chat", -9_000_000)];
    let text = since("2026-11-20T10:30:00Z", &soon_taken_back);
    assert!(
        text.contains("Allowed since some instant of the hour from 2026-11-20T12:00:00Z on, as far as the hours of usage show."),
        "{text}"
    );
}

#[test]
fn a_budget_that_blocks_is_told_with_its_own_period_record_and_sums() {
    let (code, text, error) = told(&budgeted(), &["--dimension", "user", "--value", "ann"]);
    assert_eq!(code, 0, "{error}");
    let expected = "\
user ann of acme is blocked: the budget is spent (BUDGET_SPENT).
Blocked since 2026-11-20T10:12:33Z or earlier.
The last decision, of 2026-11-20T10:12:33Z, followed from event e41 (credit.usage, partition 0, offset 41).

Period  2026-11-20T00:00:00Z to 2026-11-21T00:00:00Z
Used    5.000000 of 4.000000; 0.000000 remain
Terms   plan team, base_allocation 10.000000, HARD; since 2026-01-01T00:00:00Z, by ann (credit.policies, offset 3)
Budget  daily (Everyone), 4.000000 a day, BLOCK; since 2026-02-01T00:00:00Z, by bea (credit.policies, offset 5)

The sum that led there, by UTC day and product:
day          credits    agents      chat
2026-11-20  5.000000  2.000000  3.000000

Each of these unblocks it:
  - Wait until 2026-11-21T00:00:00Z.
  - Raise the budget's limit to more than 5.000000, or end it.
";
    assert_eq!(text, expected);
}

#[test]
fn a_budget_of_a_past_instant_is_told_from_the_terms_and_hours_of_then() {
    let server = budgeted();
    let ann = |at: &str| server.get(&format!("/v1/orgs/acme/explain?dimension=user&value=ann&at={at}")).json();
    let before = ann("2026-11-20T10:05:00Z");
    assert_eq!(
        (&before["budget_id"], &before["value"]),
        (&"daily".into(), &"ann".into()),
        "it has least remaining"
    );
    assert_eq!((&before["action"], &before["used"]), (&"ALLOW".into(), &"3.000000".into()));
    assert_eq!(
        (&before["used_in_that_hour"], &before["at_end_of_that_hour"]),
        (&"2.000000".into(), &"BLOCK".into())
    );
    assert_eq!((&before["decision"], &before["budget_offset"]), (&serde_json::Value::Null, &5.into()));
    let after = ann("2026-11-20T11:30:00Z");
    assert_eq!((&after["action"], &after["cause"]["event_id"]), (&"BLOCK".into(), &"e41".into()));
    assert_eq!(after["unblocked_by"][0]["until"], "2026-11-21T00:00:00Z");
    let yesterday = ann("2026-11-19T23:00:00Z");
    assert_eq!((&yesterday["used"], &yesterday["remaining"]), (&"3.000000".into(), &"1.000000".into()));
    assert_eq!(yesterday["days"].as_array().unwrap().len(), 1, "its period is its day");
    let bob = server.get("/v1/orgs/acme/explain?dimension=user&value=bob&at=2026-11-20T11:30:00Z").json();
    assert_eq!(
        (&bob["budget_id"], &bob["remaining"]),
        (&serde_json::Value::Null, &"1.000000".into()),
        "the org has less"
    );
    let without = server.get("/v1/orgs/acme/explain?dimension=user&value=ann&at=2026-01-20T00:00:00Z").json();
    assert_eq!(without["budget_id"], serde_json::Value::Null, "before the budget there was none");
}

#[test]
fn usage_dated_minutes_ahead_counts_now_as_it_does_for_the_decider() {
    let mut early = event("2026-11-21T00:00:00Z", "chat", 9_000_000);
    early.values[Dimension::User.index()] = Some("ann");
    let events = [event("2026-11-20T09:00:00Z", "chat", 3_000_000), early];
    let weekly = DAILY.replace("period: day", "period: week");
    let mut published: LimitDecision = decision();
    let scope =
        BudgetScope { dimension: Some(Dimension::User), value: Some("ann".into()), budget_id: "daily".into() };
    published.scope.budget = Some(scope);
    published.level.reason = DecisionReason::BudgetSpent;
    published.decided_at = at("2026-11-20T23:59:10Z");
    let mut fixture = Fixture::new();
    fixture.clock.set(at("2026-11-20T23:59:30Z"));
    fixture.commit_with("acme", &events, &terms(&format!("{POLICY}{weekly}")), Some(&published));
    let server = Server::over(fixture, 1);
    let org = server.get("/v1/orgs/acme/explain").json();
    assert_eq!((&org["action"], &org["used"]), (&"BLOCK".into(), &"12.000000".into()));
    assert_eq!(org["days"][1]["credits"], "9.000000", "{org}");
    let ann = server.get("/v1/orgs/acme/explain?dimension=user&value=ann").json();
    assert_eq!((&ann["budget_id"], &ann["used"]), (&"daily".into(), &"9.000000".into()));
    assert_eq!(ann["holds_since"], "2026-11-20T23:59:10Z");
    let past = server.get("/v1/orgs/acme/explain?at=2026-11-20T23:59:00Z").json();
    assert_eq!((&past["action"], &past["used"]), (&"ALLOW".into(), &"3.000000".into()), "only whole hours before");
}

#[test]
fn what_cannot_be_explained_is_refused_with_what_to_give() {
    let server = blocked();
    for (question, says) in [
        ("at=2030-01-01T00:00:00Z", "lies ahead"),
        ("at=yesterday", "neither a date"),
        ("dimension=user", "together"),
        ("dimension=users&value=u", "did you mean `user`"),
        ("when=now", "no parameter `when`"),
        ("dimension=user&value=", "1 to 256 bytes"),
        (&format!("dimension=user&value={}", "u".repeat(257)), "1 to 256 bytes"),
        ("dimension=user&value=%FF", "no UTF-8"),
    ] {
        let reply = server.get(&format!("/v1/orgs/acme/explain?{question}"));
        assert_eq!(reply.status, 400, "{question}");
        assert!(reply.problem().contains(says), "{question}: {}", reply.body);
    }
    assert_eq!(told(&server, &["--value", "x"]).0, 2);
    let mark = server.get("/v1/orgs/acme/explain?dimension=user&value=%ef%bf%bd");
    assert_eq!(mark.status, 200, "the replacement character is one: {}", mark.body);
}

#[test]
fn an_organisation_that_is_soft_already_is_not_advised_to_become_soft() {
    let mut fixture = Fixture::new();
    let soft = "type: OrgPolicy\norg_id: acme\nplan: team\nbase_allocation: 10\nlimit_mode: SOFT\nsoft_extra: 1\n\
                effective_at: 2026-01-01T00:00:00Z\n";
    fixture.commit_with("acme", &[event("2026-11-20T09:00:00Z", "chat", 12_000_000)], &terms(soft), None);
    let server = Server::over(fixture, 1);
    for output in ["table", "csv"] {
        let text = told(&server, &["--output", output]).1;
        assert!(text.contains("Raise soft_extra to more than 2.000000."), "{text}");
        assert!(!text.contains("limit_mode SOFT with"), "{text}");
    }
}

#[test]
fn an_explanation_is_one_row_of_csv() {
    let server = blocked();
    let (code, csv, error) = told(&server, &["--output", "csv"]);
    assert_eq!(code, 0, "{error}");
    let [header, row] = csv.lines().collect::<Vec<_>>()[..] else { panic!("{csv}") };
    assert!(
        header.starts_with("org_id,at,dimension,value,budget_id,budget_name,action,reason,holds_since,"),
        "{csv}"
    );
    assert!(row.contains(",,,,,BLOCK,ALLOWANCE_SPENT,"), "{csv}");
    assert!(header.ends_with(",cause_event_id,cause_trace_id,unblocked_by"), "{csv}");
    assert!(row.contains("Wait until 2026-11-25T00:00:00Z."), "{csv}");
    let cells = |line: &str| csv::Reader::from_reader(line.as_bytes()).headers().unwrap().len();
    assert_eq!(cells(header), cells(row));
}
