//! `simulate` over HTTP and as the command line tells it.

use std::process::Command;

use super::explain::{blocked, budgeted};
use super::server::Server;

fn told(server: &Server, documents: &str, more: &[&str]) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("terms.yaml");
    std::fs::write(&file, documents).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_tallyman"))
        .args(["simulate", "acme", "--url", &server.url, "--policy"])
        .arg(&file)
        .args(more)
        .env_remove("TALLYMAN_CONFIG")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

const SOFT: &str =
    "type: OrgPolicy\norg_id: acme\nplan: soft\nbase_allocation: 8\nlimit_mode: SOFT\nsoft_extra: 10\n";

#[test]
fn other_terms_stand_beside_what_was() {
    let server = blocked();
    let (code, text, error) = told(&server, SOFT, &["--from", "2026-11-01", "--to", "2026-11-21"]);
    assert_eq!(code, 0, "{error}");
    let expected = "\
acme from 2026-11-01T00:00:00Z to 2026-11-21T00:00:00Z, hour by hour

period from 2026-11-01T00:00:00Z  with these terms      as it was
ends                              2026-12-01T00:00:00Z  2026-12-01T00:00:00Z
used                              12.000000             12.000000
allowance                         8.000000              10.000000
overage                           4.000000              2.000000
blocked                           never                 once
first blocked from                -                     2026-11-20T10:00:00Z
until                             -                     still blocked at the end
used while blocked                0.000000              0.000000
packs asked for                   0                     0
75 % reached                      2026-11-20T09:00:00Z  2026-11-20T09:00:00Z
90 % reached                      2026-11-20T09:00:00Z  2026-11-20T10:00:00Z
100 % reached                     2026-11-20T10:00:00Z  2026-11-20T10:00:00Z

Where usage brought an instant about, the hour of that usage stands here. What began and ended within one hour
is not seen. --exact shows both to the event.
";
    assert_eq!(text, expected);
    let (_, json, _) = told(&server, SOFT, &["--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["from"], &json["to"]), (&"2026-11-01T00:00:00Z".into(), &"2026-11-20T13:00:00Z".into()));
    assert_eq!(json["actual"][0]["blocked"][0]["from"], "2026-11-20T10:00:00Z");
    assert_eq!(json["simulated"][0]["blocked"], serde_json::json!([]));
}

#[test]
fn other_budgets_are_told_scope_by_scope_beside_what_was() {
    let server = budgeted();
    let budget = "type: Budget\norg_id: acme\nbudget_id: daily\nname: Tight\ndimension: user\nvalue: '*'\nlimit: 2\nperiod: day\naction: BLOCK\n";
    let range = ["--from", "2026-11-19", "--to", "2026-11-21"];
    let (code, json, error) = told(&server, budget, &[&range[..], &["--output", "json"]].concat());
    assert_eq!(code, 0, "{error}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let [ann] = json["budgets"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!((&ann["value"], &ann["budget_id"]), (&"ann".into(), &"daily".into()));
    let (simulated, actual) = (&ann["simulated"], &ann["actual"]);
    assert_eq!(
        (&simulated["blocks"], &simulated["first_blocked"]["from"]),
        (&2.into(), &"2026-11-19T09:00:00Z".into())
    );
    assert_eq!(simulated["used_while_blocked"], "2.000000");
    assert_eq!((&actual["blocks"], &actual["first_blocked"]["from"]), (&1.into(), &"2026-11-20T10:00:00Z".into()));
    assert_eq!((&actual["used"], &actual["limit"]), (&"5.000000".into(), &"4.000000".into()));
    assert_eq!(json["budgets_left_out"], 0);
    let text = told(&server, budget, &range).1;
    let expected = "
Budgets that blocked or reached a threshold, the most severe first:

daily, user ann      with these terms      as it was
blocked              2 times, 28 h 0 min   once, 13 h 0 min
first blocked from   2026-11-19T09:00:00Z  2026-11-20T10:00:00Z
until                2026-11-20T00:00:00Z  still blocked at the end
used while blocked   2.000000              0.000000
most used            5.000000 of 2.000000  5.000000 of 4.000000
in the period from   2026-11-20T00:00:00Z  2026-11-20T00:00:00Z
75 % reached first   2026-11-19T09:00:00Z  2026-11-19T09:00:00Z
90 % reached first   2026-11-19T09:00:00Z  2026-11-20T10:00:00Z
100 % reached first  2026-11-19T09:00:00Z  2026-11-20T10:00:00Z
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn no_line_of_a_simulation_is_wider_than_120_columns_whatever_names_are() {
    let server = budgeted();
    let id = "b".repeat(128);
    let budgets = format!(
        "type: Budget\norg_id: acme\nbudget_id: {id}\nname: Tight\ndimension: user\nvalue: '*'\nlimit: 2\nperiod: day\naction: BLOCK\n"
    );
    let text = told(&server, &budgets, &["--from", "2026-11-19", "--to", "2026-11-21"]).1;
    assert!(text.contains(&"b".repeat(23)), "{text}");
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 120, "{widest}: {text}");
}

#[test]
fn a_simulation_is_a_row_of_csv_for_each_period_and_scope_under_either_terms() {
    let server = blocked();
    let (code, csv, error) =
        told(&server, SOFT, &["--from", "2026-11-01", "--to", "2026-11-21", "--output", "csv"]);
    assert_eq!(code, 0, "{error}");
    let expected = "\
org_id,terms,dimension,value,budget_id,budget_name,period_start,period_end,used,allowance,overage,packs,blocks,\
blocked_seconds,first_blocked_from,first_blocked_until,used_while_blocked,thresholds
acme,simulated,,,,,2026-11-01T00:00:00Z,2026-12-01T00:00:00Z,12.000000,8.000000,4.000000,0,0,,,,0.000000,\
75=2026-11-20T09:00:00Z 90=2026-11-20T09:00:00Z 100=2026-11-20T10:00:00Z
acme,actual,,,,,2026-11-01T00:00:00Z,2026-12-01T00:00:00Z,12.000000,10.000000,2.000000,0,1,,2026-11-20T10:00:00Z,,0.000000,\
75=2026-11-20T09:00:00Z 90=2026-11-20T10:00:00Z 100=2026-11-20T10:00:00Z
";
    assert_eq!(csv, expected);
    let server = budgeted();
    let budget = "type: Budget\norg_id: acme\nbudget_id: daily\nname: Tight, and 'safe'\ndimension: user\nvalue: '*'\nlimit: 2\nperiod: day\naction: BLOCK\n";
    let range = ["--from", "2026-11-19", "--to", "2026-11-21", "--output", "csv"];
    let (code, csv, error) = told(&server, budget, &range);
    assert_eq!(code, 0, "{error}");
    let row = |terms: &str| csv.lines().find(|line| line.starts_with(&format!("acme,{terms},user,ann,"))).unwrap();
    assert!(row("simulated").starts_with("acme,simulated,user,ann,daily,\"Tight, and 'safe'\",2026-11-"), "{csv}");
    assert!(row("simulated").contains(",,,2,100800,2026-11-19T09:00:00Z,"), "{csv}");
    assert!(row("actual").contains(",5.000000,4.000000,,,1,46800,2026-11-20T10:00:00Z,"), "{csv}");
}

#[test]
fn a_simulation_that_cannot_be_is_refused() {
    let server = blocked();
    let (code, _, error) = told(&server, &SOFT.replace("SOFT", "SOFTER"), &[]);
    assert_eq!(code, 2);
    assert!(error.contains("line 5: `limit_mode` is \"SOFTER\""), "{error}");
    let (code, out, error) = told(&server, &format!("{SOFT}---\n{}", SOFT.replace("acme", "halden")), &[]);
    assert_eq!((code, &*out), (2, ""));
    let says = "terms.yaml, document 2, line 9: `org_id` is halden, and acme is simulated: to try these terms give a copy \
                with `org_id: acme`";
    assert!(error.contains(says), "{error}");
    assert_eq!(told(&server, SOFT, &["--from", "2026-11-20", "--to", "2026-11-20"]).0, 2);
    assert_eq!(told(&server, SOFT, &["--from", "2020-01-01"]).0, 2);
    let path = "/v1/orgs/acme/simulate";
    let post = |headers: &[(&str, &str)], body: &str| server.send("POST", path, headers, body);
    let json = ("content-type", "application/json");
    assert_eq!(post(&[json], "{\"terms\": []}").status, 400);
    assert_eq!(post(&[json], "{\"terms\": [{\"type\": \"OrgPolicy\"}]}").status, 400);
    assert_eq!(post(&[json], "{\"term\": []}").status, 422);
    let list = post(&[json], "17");
    assert_eq!(list.status, 422);
    assert!(list.problem().contains("expected an object with `terms`, a list of documents"), "{}", list.body);
    assert_eq!(post(&[], "{\"terms\": []}").status, 415, "a form of another site cannot send JSON");
    assert_eq!(post(&[json, ("origin", "http://evil.example")], "{\"terms\": []}").status, 403);
    assert_eq!(server.get(path).status, 405);
    let others =
        "{\"terms\": [{\"type\": \"OrgPolicy\", \"org_id\": \"halden\", \"plan\": \"p\", \"unlimited\": true}]}";
    let reply = post(&[json], others);
    assert_eq!(reply.status, 400, "{}", reply.body);
    assert!(
        reply.problem().contains("document 1: `org_id` is \"halden\", and acme is simulated"),
        "{}",
        reply.body
    );
    let document = "{\"terms\": [{\"type\": \"OrgPolicy\", \"plan\": \"p\", \"unlimited\": true}]}";
    let reply = post(&[json, ("origin", "http://localhost:3000")], document);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()["simulated"][0]["allowance"], serde_json::Value::Null);
}
