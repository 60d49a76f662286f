//! HTTP on a real listener: statuses, bodies and headers, and what a question must not be.

use serde_json::Value;
use tallyman::telemetry::TaskState;

use super::server::Server;
use super::support::{ORG, events};

#[test]
fn usage_is_json_with_exact_decimals_totals_and_how_fresh_it_is() {
    let server = Server::start(1);
    let reply = server.get(
        "/v1/orgs/acme/usage?from=2026-10-01&to=2026-12-01&bucket=none&group_by=product&order_by=product%20desc",
    );
    assert_eq!(reply.status, 200, "{}", reply.body);
    let body = reply.json();
    let rows = body["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| &row["product"]).collect::<Vec<_>>(), ["chat", "agents"]);
    assert!(rows[0].get("start").is_none(), "no start with bucket=none");
    assert!(rows[0]["credits"].is_string() && rows[0]["events"].is_u64());
    assert_eq!(body["total"]["events"], 300);
    assert_eq!(body["as_of"], "2026-11-20T12:30:00Z");
    assert_eq!(body["position"]["usage"], 306);
    assert_eq!(body["position"]["policies"], 10);
    assert!(body["since"].is_null());
    assert_eq!(body["next_page_token"], "");
    let first = reply.body.find("product").unwrap();
    assert!(first < reply.body.find("credits").unwrap(), "columns stand in their order");
    let day = server.get("/v1/orgs/acme/usage?from=2026-11-20&to=2026-11-21").json();
    assert_eq!(day["rows"].as_array().unwrap().len(), 1);
    assert_eq!(day["rows"][0]["start"], "2026-11-20T00:00:00Z");
}

#[test]
fn usage_is_csv_when_that_is_accepted_and_pages_by_a_header() {
    let server = Server::start(1);
    let csv = [("accept", "text/csv")];
    let path = "/v1/orgs/acme/usage?from=2026-10-01&to=2026-12-01&bucket=month&group_by=user&measures=credits,success_rate";
    let whole = server.ask("GET", path, &csv);
    assert!(whole.header("content-type").starts_with("text/csv"));
    assert_eq!(whole.header("x-tallyman-next-page-token"), "");
    let lines: Vec<&str> = whole.body.lines().collect();
    assert_eq!(lines[0], "start,user,credits,success_rate");
    assert_eq!(lines.len(), 1 + 2 * 4, "two months of three users and the absent one");
    let page = server.ask("GET", &format!("{path}&page_size=3"), &csv);
    assert_eq!(page.body.lines().collect::<Vec<_>>(), lines[..4]);
    let token = page.header("x-tallyman-next-page-token").to_owned();
    let next = server.ask("GET", &format!("{path}&page_size=100&page_token={token}"), &csv);
    assert_eq!(next.body.lines().skip(1).collect::<Vec<_>>(), lines[4..]);
    let json = server.ask("GET", path, &[("accept", "application/json, text/csv;q=0.5")]);
    assert_eq!(json.header("content-type"), "application/json");
}

#[test]
fn what_is_wrong_is_a_problem_that_says_what_and_what_next() {
    let server = Server::start(1);
    for (path, status, says) in [
        ("/v1/orgs/acme/usage?groupby=user", 400, "did you mean `group_by`?"),
        ("/v1/orgs/acme/usage?compare=previous", 400, "later version"),
        ("/v1/orgs/acme/usage?group_by=product,user,model,operation", 400, "up to three different dimensions"),
        ("/v1/orgs/acme/usage?from=2020-01-01&bucket=hour", 400, "more than 10000 buckets"),
        ("/v1/orgs/acme/usage?page_token=zz", 400, "not one that an answer gave"),
        ("/v1/orgs/acme/usage?from=%FF", 400, ""),
        ("/v1/orgs/acme/decisions?x=1", 400, "no parameter `x`; none is known here"),
        ("/v1/orgs/nobody", 404, "/v1/orgs lists the known"),
        ("/v1/orgs/nobody/usage", 404, "check its spelling"),
        ("/v1/orgs/a%20b/policy", 400, "cannot be an org id"),
        ("/v1/nothing", 404, "/ names what there is"),
    ] {
        let reply = server.get(path);
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
        let detail = reply.problem();
        assert!(detail.contains(says), "{path}: {detail}");
    }
    let post = server.ask("POST", "/v1/orgs", &[]);
    assert_eq!(post.status, 405);
    assert!(post.problem().contains("GET"));
}

#[test]
fn an_org_of_another_partition_is_misdirected_and_of_a_restoring_one_is_asked_for_again() {
    let server = Server::start(1 << 20);
    let reply = server.get("/v1/orgs/acme");
    assert_eq!(reply.status, 421);
    let partition = i32::try_from(reply.json()["partition"].as_i64().unwrap()).unwrap();
    assert!(reply.problem().contains(&format!("partition {partition}")));
    server.health.set(partition, TaskState::Restoring);
    let reply = server.get("/v1/orgs/acme");
    assert_eq!((reply.status, reply.header("retry-after")), (503, "2"));
    assert!(reply.problem().contains("is being restored"));
}

#[test]
fn an_etag_spares_the_answer_until_a_record_is_folded_and_differs_by_question_and_format() {
    let mut server = Server::start(1);
    for path in ["/v1/orgs/acme/usage?from=2026-10-01&to=2026-11-01", "/v1/orgs/acme/decisions"] {
        let etag = server.get(path).header("etag").to_owned();
        assert!(etag.starts_with("W/\""), "{etag}");
        for held in [etag.clone(), format!("\"x\", {etag}"), "*".to_owned()] {
            let reply = server.ask("GET", path, &[("if-none-match", &held)]);
            assert_eq!((reply.status, reply.body.as_str(), reply.header("etag")), (304, "", etag.as_str()));
        }
        assert_eq!(server.ask("GET", path, &[("if-none-match", "W/\"x\"")]).status, 200);
    }
    let path = "/v1/orgs/acme/usage?from=2026-10-01&to=2026-11-01";
    let etag = server.get(path).header("etag").to_owned();
    let csv = [("accept", "text/csv"), ("if-none-match", etag.as_str())];
    assert_eq!(server.ask("GET", path, &csv).status, 200);
    let other = "/v1/orgs/acme/usage?from=2026-10-01&to=2026-11-02";
    assert_eq!(server.ask("GET", other, &[("if-none-match", &etag)]).status, 200);
    server.fixture.commit("beta", &events(1, 7));
    assert_eq!(server.ask("GET", path, &[("if-none-match", &etag)]).status, 200);
    let running = "/v1/orgs/acme/usage";
    let etag = server.get(running).header("etag").to_owned();
    server.fixture.clock.set(super::support::at("2026-11-20T13:00:00Z"));
    assert_eq!(
        server.ask("GET", running, &[("if-none-match", &etag)]).status,
        200,
        "the range ends an hour later"
    );
}

#[test]
fn orgs_are_paged_by_id_with_what_was_decided() {
    let server = Server::start(1);
    let all = server.get("/v1/orgs").json();
    assert_eq!(all["orgs"].as_array().unwrap().len(), 3);
    assert_eq!(all["orgs"][0]["org_id"], ORG);
    assert_eq!(all["orgs"][0]["plan"], "pro");
    assert_eq!(all["orgs"][0]["action"], "BLOCK");
    assert!(all["orgs"][1]["action"].is_null());
    let first = server.get("/v1/orgs?page_size=2").json();
    assert_eq!(first["orgs"].as_array().unwrap().len(), 2);
    let token = first["next_page_token"].as_str().unwrap();
    let second = server.get(&format!("/v1/orgs?page_token={token}")).json();
    assert_eq!(second["orgs"][0]["org_id"], "gamma");
    assert_eq!(second["next_page_token"], "");
}

#[test]
fn summary_decisions_and_policy_have_the_fields_of_the_contract() {
    let server = Server::start(1);
    let summary = server.get("/v1/orgs/acme").json();
    assert_eq!((&summary["plan"], &summary["limit_mode"]), (&"pro".into(), &"HARD".into()));
    assert_eq!(summary["base_allocation"], "1000000.000000");
    assert_eq!(summary["period_start"], "2026-11-11T23:00:00Z");
    assert_eq!(summary["days_until_reset"], 22);
    assert_eq!(summary["decision"]["reason"], "ALLOWANCE_SPENT");
    assert_eq!(summary["peak_day"]["date"].as_str().unwrap().len(), 10);
    let periods = server.get("/v1/orgs/acme/periods?page_size=2").json();
    let period = &periods["periods"][0];
    assert_eq!((&period["start"], &period["end"]), (&summary["period_start"], &summary["period_end"]));
    for field in ["base_allocation", "allowance", "used", "beyond_base", "grants_used", "overage", "plan"] {
        assert_eq!(period[field], summary[field], "{field}");
    }
    let token = periods["next_page_token"].as_str().unwrap();
    let last = server.get(&format!("/v1/orgs/acme/periods?page_token={token}")).json();
    assert_eq!(
        (&last["periods"][0]["end"], &last["next_page_token"]),
        (&"2026-10-11T22:00:00Z".into(), &"".into())
    );
    let decisions = server.get("/v1/orgs/acme/decisions").json();
    let decision = &decisions["decisions"][0];
    assert_eq!((&decision["org_id"], &decision["version"]), (&ORG.into(), &7.into()));
    assert_eq!((&decision["allowance"], &decision["extra"]), (&"5.000000".into(), &Value::Null));
    assert_eq!((&decision["cause_offset"], &decision["cause_event_id"]), (&41.into(), &"e41".into()));
    let policy = server.get("/v1/orgs/acme/policy").json();
    assert_eq!((&policy["offset"], &policy["policy"]["plan"]), (&3.into(), &"pro".into()));
    assert_eq!(policy["next_change_at"], "2027-01-01T00:00:00Z");
    assert_eq!(policy["history"][1]["policy"]["plan"], "max");
    assert_eq!(
        (&policy["history"][0]["state"], &policy["history"][1]["state"]),
        (&"in_force".into(), &"scheduled".into())
    );
    assert_eq!(server.get("/v1/orgs/beta").json()["limit_mode"], Value::Null);
}

#[test]
fn terms_in_force_scheduled_and_ended_are_told_apart_and_tagged_with_their_last_offset() {
    let server = Server::start(1);
    let policy = server.get("/v1/orgs/acme/policy");
    // The last offset, and the instant at which the scheduled policy comes into force.
    assert_eq!(policy.header("etag"), "\"9-1798761600000000\"");
    let budgets = server.get("/v1/orgs/acme/budgets").json();
    assert_eq!(
        (&budgets["budgets"][0]["offset"], &budgets["budgets"][0]["limit"]),
        (&7.into(), &"9.000000".into())
    );
    assert_eq!(budgets["budgets"][0]["updated_by"], "ann");
    assert_eq!(budgets["scheduled"], serde_json::json!([]));
    let grants = server.get("/v1/orgs/acme/grants").json();
    assert_eq!(grants["grants"], serde_json::json!([]));
    assert_eq!(
        (&grants["ended"][0]["grant_id"], &grants["ended"][0]["ends_at"]),
        (&"old".into(), &"2026-02-01T11:00:00Z".into())
    );
    let labels = server.get("/v1/orgs/acme/labels").json();
    assert_eq!(labels["labels"][0]["display_name"], "Ann");
    let history = server.get("/v1/orgs/acme/policy/history").json();
    let offsets: Vec<_> =
        history["changes"].as_array().unwrap().iter().map(|change| change["offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, [3, 5, 6, 7, 8, 9]);
    assert_eq!(history["changes"][3]["follows"], 6);
    assert_eq!(
        history["changes"][3]["changed"],
        serde_json::json!([
            {"field": "limit", "from": "5.000000", "to": "9.000000"},
            {"field": "effective_at", "from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"},
        ])
    );
    assert_eq!(server.get("/v1/orgs/beta/budgets").header("etag"), "\"none\"");
    assert_eq!(server.get("/v1/orgs/nobody/grants").status, 404);
    assert_eq!(server.get("/v1/orgs/acme/labels?x=1").status, 400);
}

#[test]
fn ready_follows_the_tasks_and_metrics_count_requests_by_their_pattern() {
    let server = Server::start(1);
    assert_eq!(server.get("/livez").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    server.health.set(0, TaskState::Replaying { position: 5, until: 9, terms: 2, terms_until: 3 });
    let reply = server.get("/readyz");
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.json()["reasons"][0],
        "partition 0 is being restored: usage at offset 5 of 9, terms at offset 2 of 3"
    );
    server.health.set(0, TaskState::CaughtUp);
    assert_eq!(server.get("/readyz").status, 200);
    server.health.set(0, TaskState::Halted { reason: "log_shrunk", message: "run rebuild".into() });
    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(server.get("/livez").status, 200);
    server.get("/v1/orgs/acme/decisions");
    let metrics = server.get("/metrics");
    assert!(metrics.body.contains("route=\"/v1/orgs/{org}/decisions\",status=\"200\""), "{}", metrics.body);
    assert!(!metrics.body.contains("acme"));
    assert!(server.get("/").body.contains("/v1/orgs/{org}/usage"));
}
