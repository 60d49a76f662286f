//! What an answer is made of: its ETag, its format, and the instants that a question may name.

use super::server::Server;
use super::support::{Fixture, ORG, events};

#[test]
fn every_read_has_an_etag_that_spares_the_answer_until_its_content_changes() {
    let mut server = Server::start(1);
    let reads = [
        "/v1/orgs",
        "/v1/orgs/acme",
        "/v1/orgs/acme/periods",
        "/v1/orgs/acme/explain",
        "/v1/orgs/acme/explain?dimension=user&value=u1&at=2026-11-20T10:00:00Z",
        "/v1/orgs/acme/usage",
        "/v1/orgs/acme/decisions",
        "/v1/orgs/acme/policy",
        "/v1/orgs/acme/policy/history",
        "/v1/orgs/acme/budgets",
        "/v1/orgs/acme/grants",
        "/v1/orgs/acme/labels",
    ];
    let etags = reads.map(|path| server.get(path).header("etag").to_owned());
    // Time that changes nothing leaves it: `at` and `as_of` only tell when it was asked.
    server.fixture.clock.set(super::support::at("2026-11-20T12:31:00Z"));
    for (path, etag) in reads.iter().zip(&etags) {
        assert!(etag.contains('"'), "{path}: {etag}");
        let reply = server.ask("GET", path, &[("if-none-match", etag)]);
        assert_eq!((reply.status, reply.body.as_str(), reply.header("etag")), (304, "", etag.as_str()), "{path}");
        assert_eq!(server.ask("GET", path, &[("if-none-match", "\"x\"")]).status, 200, "{path}");
    }
    server.fixture.commit(ORG, &events(1, 8));
    for (path, etag) in reads.iter().zip(&etags).skip(1).take(6) {
        assert_eq!(server.ask("GET", path, &[("if-none-match", etag)]).status, 200, "{path}");
    }
    // A scheduled policy comes into force without another record.
    let (policy, etag) = ("/v1/orgs/acme/policy", &etags[7]);
    assert_eq!(server.ask("GET", policy, &[("if-none-match", etag)]).status, 304);
    server.fixture.clock.set(super::support::at("2027-01-01T00:00:00Z"));
    let reply = server.ask("GET", policy, &[("if-none-match", etag)]);
    assert_eq!((reply.status, reply.header("etag")), (200, "\"9\""), "the last offset, and nothing is to come");
    assert_eq!(server.ask("GET", "/v1/orgs/acme", &[("if-none-match", &etags[1])]).status, 200);
}

#[test]
fn json_ends_with_a_newline_and_is_indented_for_who_asks() {
    let server = Server::start(1);
    let paths =
        ["/v1/orgs", "/v1/orgs/acme", "/v1/orgs/acme/usage?bucket=none", "/v1/orgs/acme/explain", "/readyz"];
    for path in paths.into_iter().chain(["/v1/orgs/nobody", "/v1/orgs/acme/policy?x=1"]) {
        let compact = server.get(path);
        assert!(compact.body.ends_with("}\n") && compact.body.lines().count() == 1, "{path}: {}", compact.body);
        let with = |word: &str| format!("{path}{}{word}", if path.contains('?') { "&" } else { "?" });
        for word in ["pretty", "pretty=true"] {
            let pretty = server.get(&with(word));
            assert_eq!(pretty.status, compact.status, "{path}");
            assert!(
                pretty.body.starts_with("{\n  \"") && pretty.body.ends_with("\n}\n"),
                "{path}: {}",
                pretty.body
            );
            assert_eq!(pretty.json(), compact.json(), "{path}");
        }
        assert_eq!(server.get(&with("pretty=false")).body, compact.body, "{path}");
    }
    let wrong = server.get("/v1/orgs?pretty=please");
    assert!(wrong.status == 400 && wrong.problem().contains("`pretty` is `please`"));
}

#[test]
fn an_instant_that_no_calendar_holds_is_refused_with_its_parameter_and_its_bounds() {
    let server = Server::start(1);
    let instants = [
        "-009999-01-03T00:00:00Z",
        "-009999-01-02T01:59:59Z",
        "-000001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01",
        "1899-12-31T23:00:00Z",
        "1899-12-31",
        "3000-01-01",
        "3000-01-01T00:00:00Z",
        "9999-12-31",
        "9999-12-30T22:00:00Z",
        "9999-12-30T23:00:00-01:00",
        "-009999-01-01",
    ];
    for at in instants {
        for (name, path) in [
            ("at", "/v1/orgs/acme/explain?at="),
            ("from", "/v1/orgs/acme/usage?from="),
            ("to", "/v1/orgs/acme/usage?to="),
            ("from", "/v1/orgs/acme/usage?bucket=none&time_zone=Pacific/Kiritimati&from="),
        ] {
            let reply = server.get(&format!("{path}{at}"));
            assert_eq!(reply.status, 400, "{path}{at}: {}", reply.body);
            let detail = reply.problem();
            assert!(
                detail.contains(&format!("`{name}`")) && detail.contains("1900 to 2999"),
                "{path}{at}: {detail}"
            );
        }
        for name in ["from", "to"] {
            let reply = server.simulate(&format!("{name}={at}"), "{\"terms\":[{\"type\":\"Budget\"}]}");
            assert_eq!(reply.status, 400, "{name}={at}: {}", reply.body);
        }
    }
    for edge in ["1900-01-01T00:00:00Z", "1900-01-01", "1969-12-31T23:59:59.999999Z", "2026-11-20T12:30:00Z"] {
        for value in ["", "&dimension=user&value=u1"] {
            let reply = server.get(&format!("/v1/orgs/acme/explain?at={edge}{value}"));
            assert_eq!(reply.status, 200, "{edge}: {}", reply.body);
        }
    }
    for bucket in ["month", "period", "none"] {
        for zone in ["UTC", "Pacific/Apia", "America/Havana"] {
            let range = format!("from=1900-01-01&to=2999-12-31&bucket={bucket}&time_zone={zone}");
            let reply = server.get(&format!("/v1/orgs/acme/usage?{range}"));
            assert!(matches!(reply.status, 200 | 400), "{range}: {}", reply.body);
        }
    }
}

#[test]
fn terms_dated_at_the_ends_of_time_are_simulated_or_refused_and_never_a_fault_of_ours() {
    let server = Server::start(1);
    let instants = [
        "-009999-01-02T02:00:00Z".to_owned(),
        "0001-01-01T00:00:00Z".to_owned(),
        "1969-12-31T23:59:59Z".to_owned(),
        "9999-12-30T22:00:00Z".to_owned(),
        "9999-12-31T23:59:59.999999Z".to_owned(),
        i64::MIN.to_string(),
        i64::MAX.to_string(),
        "0".to_owned(),
        (i64::MAX / 2).to_string(),
        (i64::MIN / 2).to_string(),
    ];
    for at in &instants {
        let at = at.parse::<i64>().map_or_else(|_| serde_json::json!(at), |micros| serde_json::json!(micros));
        for until in [serde_json::Value::Null, at.clone()] {
            let documents = [
                serde_json::json!({"type": "OrgPolicy", "plan": "p", "base_allocation": 5, "effective_at": at,
                    "time_zone": "America/Havana", "anchor_day": 28}),
                serde_json::json!({"type": "Budget", "budget_id": "b", "name": "b", "dimension": "user", "value": "*",
                    "limit": 1, "period": "week", "action": "BLOCK", "effective_at": at, "expires_at": until}),
                serde_json::json!({"type": "CreditGrant", "grant_id": "g", "kind": "promo", "credits": 3,
                    "effective_at": at, "expires_at": until, "voided_at": until}),
            ];
            for document in documents {
                let body = serde_json::json!({"terms": [document]}).to_string();
                let reply = server.simulate("from=2026-10-01&to=2026-12-01", &body);
                assert!(matches!(reply.status, 200 | 400), "{body}: {}", reply.body);
            }
        }
    }
}

#[test]
fn a_page_token_that_no_answer_gave_is_refused_whatever_it_holds() {
    let server = Server::start(1);
    let hex = |text: String| text.bytes().fold(String::new(), |all, byte| all + &format!("{byte:02x}"));
    for hour in [i32::MIN, -613_609, 9_029_000, i32::MAX] {
        let reply = server.get(&format!("/v1/orgs/acme/periods?page_token={}", hex(hour.to_string())));
        assert_eq!(reply.status, 400, "{hour}: {}", reply.body);
        let token = format!(r#"{{"query":1,"from":{hour},"to":{hour},"rank":null,"start":0,"group":[]}}"#);
        let reply = server.get(&format!("/v1/orgs/acme/usage?page_token={}", hex(token)));
        assert!(reply.status == 400 && reply.problem().contains("page_token"), "{hour}: {}", reply.body);
    }
}

#[test]
fn a_value_that_a_spreadsheet_would_run_is_neutralised_and_numbers_are_not() {
    let mut fixture = Fixture::new();
    let mut risky = events(6, 5);
    let names = ["=HYPERLINK(\"http://x\")", "@SUM(1)", "+1+1", "-2+3", "\t=1", "\r=1"];
    for (event, name) in risky.iter_mut().zip(names) {
        event.values[tallyman::domain::usage::dimension::Dimension::User.index()] = Some(name);
        event.micros = -1_500_000;
    }
    fixture.commit(ORG, &risky);
    let server = Server::over(fixture, 1);
    let path = "/v1/orgs/acme/usage?from=2026-10-01&to=2026-12-01&bucket=none&group_by=user&measures=credits";
    let reply = server.ask("GET", path, &[("accept", "TEXT/CSV")]);
    let mut rows = csv::Reader::from_reader(reply.body.as_bytes());
    let rows: Vec<_> = rows.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), names.len());
    for row in &rows {
        assert!(row[0].starts_with('\'') && names.contains(&&row[0][1..]), "{row:?}");
        assert_eq!(&row[1], "-1.500000", "a negative sum stays a number");
    }
    assert!(server.get(path).body.contains("\"user\":\"@SUM(1)\""), "JSON says it as it is");
}
