//! `/v1/check/*` as nginx and Envoy meet it, on the listener of `tallyman gate`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tallyman::domain::limits::decision::Action;
use tallyman::domain::limits::scope::Scope;
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension::{OperationDetail, User, WorkspaceKind};
use tallyman::gateway::table::{Rules, Table, WhenStale};
use tallyman::http::{Gate, serve_gate};
use tallyman::telemetry::Telemetry;
use tokio::sync::oneshot;

use crate::support::{Bench, RESET, decision, scope};

struct Server {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Server {
    fn start(bench: &Bench, block_status: u16) -> Self {
        Self::over(&bench.table, bench, block_status)
    }

    fn over(table: &Arc<Table>, bench: &Bench, block_status: u16) -> Self {
        let clock = Arc::new(bench.clock.clone());
        let gate = Gate::new(Arc::clone(table), Telemetry::of_gate(), clock, block_status);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = runtime.spawn(async move {
            serve_gate(listener, gate, async move { drop(stopped.await) }).await.unwrap();
        });
        Self { runtime, address, stop, served }
    }

    /// Sends a request as it stands and reads to the connection's end.
    fn raw(&self, head: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(head).unwrap();
        let mut told = Vec::new();
        stream.read_to_end(&mut told).unwrap();
        String::from_utf8(told).unwrap()
    }

    fn ask(&self, line: &str, headers: &[(&str, &str)]) -> Answer {
        let mut head = format!("{line} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let told = self.raw((head + "\r\n").as_bytes());
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let split = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = lines.filter_map(split).collect();
        Answer { status, headers, body: serde_json::from_str(body).unwrap_or(Value::String(body.into())) }
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.runtime.block_on(self.served).unwrap();
    }
}

fn blocked_acme(rules: Rules) -> Bench {
    let mut bench = Bench::new(rules);
    let (org, ada) = (Scope::org("acme"), scope("acme", Some(User), Some("ada"), "b:1"));
    bench.put(&org, &decision(&org, "ALLOW", Some(5), 7));
    bench.put(&ada, &decision(&ada, "BLOCK", Some(0), 8));
    bench
}

#[test]
fn any_method_and_path_is_answered_with_the_verdict_in_status_headers_and_body() {
    let bench = blocked_acme(Rules::default());
    bench.clock.jump(Timestamp::from_micros(RESET - 90_500_000));
    let server = Server::start(&bench, 403);
    for line in
        ["GET /v1/check", "POST /v1/check/", "DELETE /v1/check/v1/chat/completions?x=1", "PUT /v1/check//a"]
    {
        let answer = server.ask(line, &[("x-tallyman-org", "acme"), ("X-Tallyman-User", "bob")]);
        assert_eq!((answer.status, answer.header("x-tallyman-action")), (200, Some("ALLOW")), "{line}");
        let answer = server.ask(line, &[("x-tallyman-org", "acme"), ("x-tallyman-user", "ada")]);
        assert_eq!(answer.status, 403, "{line}");
        for (name, value) in [
            ("x-tallyman-action", "BLOCK"),
            ("x-tallyman-reason", "BUDGET_SPENT"),
            ("x-tallyman-scope", "acme|user|ada|b%3A1"),
            ("x-tallyman-version", "8"),
            ("retry-after", "91"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        assert_eq!(answer.body["budget_id"], "b:1");
        assert_eq!(answer.body["version"], 8);
    }
    // The period is over and its successor on its way: soon, not in the past.
    bench.clock.jump(Timestamp::from_micros(RESET + 10));
    let answer = server.ask("GET /v1/check", &[("x-tallyman-org", "acme"), ("x-tallyman-user", "ada")]);
    assert_eq!(answer.header("retry-after"), Some("1"));
    server.stop();
}

#[test]
fn scopes_come_from_headers_alone_and_bad_ones_are_5xx_and_no_block() {
    let server = Server::start(&blocked_acme(Rules::default()), 403);
    let long = "x".repeat(257);
    let bad: [(&[(&str, &str)], &str); 5] = [
        (&[], "x-tallyman-org is missing"),
        (&[("x-tallyman-org", "")], "x-tallyman-org is missing"),
        (&[("x-tallyman-org", "a b")], "no org id"),
        (&[("x-tallyman-org", "acme"), ("x-tallyman-user", &long)], "longer than 256 bytes"),
        (
            &[("x-tallyman-org", "acme"), ("x-tallyman-user", "ada"), ("x-tallyman-user", "bob")],
            "stands there twice",
        ),
    ];
    for (headers, says) in bad {
        let answer = server.ask("GET /v1/check/?org=acme&user=ada", headers);
        assert_eq!(answer.status, 500, "{says}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.body["detail"].as_str().unwrap().contains(says), "{}", answer.body);
        assert_eq!(answer.header("x-tallyman-action"), None);
    }
    let told = server.raw(
        b"GET /v1/check HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-tallyman-org: acme\r\nx-tallyman-user: \xff\r\n\r\n",
    );
    assert!(told.starts_with("HTTP/1.1 500") && told.contains("no UTF-8"), "{told}");
    let ok = [("x-tallyman-org", "acme"), ("x-tallyman-user", ""), ("x-tallyman-mood", "good"), ("x-user", "ada")];
    assert_eq!(server.ask("GET /v1/check", &ok).status, 200, "an empty header is none; others are not ours");
    let umlaut = [("x-tallyman-org", "acme"), ("x-tallyman-user", "\u{e4}da")];
    assert_eq!(server.ask("GET /v1/check", &umlaut).status, 200, "values are UTF-8");
    server.stop();
}

#[test]
fn before_the_decisions_are_read_nobody_is_blocked_and_readyz_says_so() {
    let bench = Bench::new(Rules::default());
    let table =
        Arc::new(Table::new(Rules { unknown: Action::Block, ..Rules::default() }, Arc::new(bench.clock.clone())));
    let server = Server::over(&table, &bench, 403);
    let answer = server.ask("GET /v1/check", &[("x-tallyman-org", "acme")]);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(server.ask("GET /readyz", &[]).status, 503);
    assert_eq!(server.ask("GET /livez", &[]).status, 200);
    table.set_ready();
    assert_eq!(server.ask("GET /v1/check", &[("x-tallyman-org", "acme")]).status, 403);
    let ready = server.ask("GET /readyz", &[]);
    assert_eq!((ready.status, &ready.body["heartbeat_age_seconds"]), (200, &Value::Null));
    assert_eq!(server.ask("GET /", &[]).status, 404);
    assert_eq!(server.ask("POST /readyz", &[]).status, 405);
    server.stop();
}

#[test]
fn a_block_has_the_status_that_is_set_and_stale_and_unknown_are_told_and_counted() {
    let mut bench = blocked_acme(Rules { stale: WhenStale::Block, ..Rules::default() });
    bench.heard(Duration::from_secs(5));
    let server = Server::start(&bench, 429);
    assert_eq!(server.ask("GET /v1/check", &[("x-tallyman-org", "acme"), ("x-tallyman-user", "ada")]).status, 429);
    let unknown = server.ask("GET /v1/check", &[("x-tallyman-org", "nobody")]);
    assert_eq!((unknown.status, unknown.header("x-tallyman-reason")), (200, Some("UNKNOWN")));
    assert_eq!(unknown.body["action"], "ALLOW");
    bench.clock.pass(Duration::from_secs(120));
    let stale = server.ask("GET /v1/check", &[("x-tallyman-org", "acme")]);
    assert_eq!((stale.status, stale.header("x-tallyman-reason")), (429, Some("STALE")));
    assert_eq!((stale.header("retry-after"), stale.header("x-tallyman-scope")), (Some("10"), None));
    let metrics = server.ask("GET /metrics", &[]);
    let text = metrics.body.as_str().unwrap();
    for line in [
        "tallyman_gate_checks_total{action=\"BLOCK\",reason=\"BUDGET_SPENT\"} 1",
        "tallyman_gate_checks_total{action=\"ALLOW\",reason=\"UNKNOWN\"} 1",
        "tallyman_gate_checks_total{action=\"BLOCK\",reason=\"STALE\"} 1",
        "tallyman_gate_heartbeat_age_seconds 125",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} in\n{text}");
    }
    server.stop();
}

#[test]
fn a_dash_in_a_dimensions_header_means_what_an_underscore_means() {
    let mut bench = Bench::new(Rules::default());
    let detail = scope("acme", Some(OperationDetail), Some("draw"), "b1");
    let kind = scope("acme", Some(WorkspaceKind), Some("lab"), "b2");
    bench.put(&detail, &decision(&detail, "BLOCK", Some(0), 1));
    bench.put(&kind, &decision(&kind, "BLOCK", Some(0), 1));
    let server = Server::start(&bench, 403);
    let check =
        |headers: &[(&str, &str)]| server.ask("GET /v1/check", &[&[("x-tallyman-org", "acme")], headers].concat());
    for (name, value, scope) in [
        ("x-tallyman-operation-detail", "draw", "acme|operation_detail|draw|b1"),
        ("X-Tallyman-Operation_Detail", "draw", "acme|operation_detail|draw|b1"),
        ("X-Tallyman-Workspace-Kind", "lab", "acme|workspace_kind|lab|b2"),
        ("x-tallyman-workspace_kind", "lab", "acme|workspace_kind|lab|b2"),
    ] {
        let answer = check(&[(name, value)]);
        assert_eq!((answer.status, answer.header("x-tallyman-scope")), (403, Some(scope)), "{name}");
    }
    // A gateway may blank the spelling that it does not use.
    let blanked = check(&[("x-tallyman-workspace_kind", ""), ("x-tallyman-workspace-kind", "lab")]);
    assert_eq!(blanked.status, 403);
    let twice = check(&[("x-tallyman-workspace_kind", "office"), ("x-tallyman-workspace-kind", "home")]);
    assert!(twice.status == 500 && twice.body["detail"].as_str().unwrap().contains("are one dimension"));
    // Whichever is the gateway's: no client gets past its own block by adding the other spelling.
    for (dash, underscore) in [("lab", "home"), ("home", "lab")] {
        let both = check(&[("x-tallyman-workspace_kind", underscore), ("x-tallyman-workspace-kind", dash)]);
        assert_eq!((both.status, both.header("x-tallyman-scope")), (403, Some("acme|workspace_kind|lab|b2")));
    }
    server.stop();
}

#[test]
fn a_bad_dimension_beside_a_blocked_scope_is_a_block_and_else_no_verdict() {
    let mut bench = blocked_acme(Rules::default());
    let spent = Scope::org("spent");
    bench.put(&spent, &decision(&spent, "BLOCK", Some(0), 9));
    let server = Server::start(&bench, 403);
    let long = "x".repeat(257);
    let bad: [&[(&str, &str)]; 3] = [
        &[("x-tallyman-model", &long)],
        &[("x-tallyman-model", "a"), ("x-tallyman-model", "b")],
        &[("x-tallyman-workspace-kind", "a"), ("x-tallyman-workspace_kind", "b")],
    ];
    for headers in bad {
        let check = |scopes: &[(&str, &str)]| server.ask("GET /v1/check", &[headers, scopes].concat());
        let answer = check(&[("x-tallyman-org", "spent")]);
        assert_eq!((answer.status, answer.header("x-tallyman-scope")), (403, Some("spent")), "{headers:?}");
        let answer = check(&[("x-tallyman-org", "acme"), ("x-tallyman-user", "ada")]);
        assert_eq!(
            (answer.status, answer.header("x-tallyman-reason")),
            (403, Some("BUDGET_SPENT")),
            "{headers:?}"
        );
        let answer = check(&[("x-tallyman-org", "acme")]);
        assert_eq!((answer.status, answer.header("x-tallyman-action")), (500, None), "{headers:?}");
        // Who is blocked is not known without the org.
        assert_eq!(check(&[("x-tallyman-org", "no org")]).status, 500, "{headers:?}");
    }
    server.stop();
}

#[test]
fn no_head_is_answered_with_a_4xx_for_that_is_a_block() {
    let server = Server::start(&blocked_acme(Rules::default()), 403);
    let headers = |count: usize| (0..count).fold(String::new(), |all, number| all + &format!("x-{number}: y\r\n"));
    let check = "GET /v1/check HTTP/1.1\r\nhost: a\r\nx-tallyman-org: acme\r\n";
    for count in [150, 490] {
        let told = server.raw(format!("{check}{}connection: close\r\n\r\n", headers(count)).as_bytes());
        assert!(told.starts_with("HTTP/1.1 200"), "{count} headers: {told}");
    }
    for (what, head) in [
        ("too many headers", format!("{check}{}\r\n", headers(501))),
        ("a name that is none", format!("{check}x y: z\r\n\r\n")),
        ("a byte that no header has", format!("{check}x-tallyman-user: a\u{1}b\r\n\r\n")),
        ("a method that is none", "G(T /v1/check HTTP/1.1\r\n\r\n".to_owned()),
        ("another version", "GET /v1/check HTTP/7.1\r\n\r\n".to_owned()),
        ("two lengths", format!("{check}content-length: 1\r\ncontent-length: 2\r\n\r\n")),
        ("no request at all", "hello\r\n\r\n".to_owned()),
    ] {
        let told = server.raw(head.as_bytes());
        assert!(told.starts_with("HTTP/1.1 500 "), "{what}: {told}");
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/problem+json") && head.contains("connection: close"), "{what}: {head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], 500, "{what}");
    }
    server.stop();
}

#[test]
fn a_request_that_cannot_be_read_after_good_ones_leaves_their_answers_as_they_are() {
    let server = Server::start(&blocked_acme(Rules::default()), 403);
    let good = "GET /v1/check HTTP/1.1\r\nhost: a\r\nx-tallyman-org: acme\r\nx-tallyman-user: ada\r\n\r\n";
    // One after the other on one connection, and all at once.
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for _ in 0..3 {
        stream.write_all(good.as_bytes()).unwrap();
        let mut told = String::new();
        while !told.ends_with("}\n") {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            told.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        assert!(told.starts_with("HTTP/1.1 403"), "{told}");
    }
    stream.write_all(b"rubbish\r\n\r\n").unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 500"), "{told}");
    let told = server.raw(format!("{good}{good}rubbish\r\n\r\n").as_bytes());
    let statuses: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)).collect();
    assert_eq!(statuses, ["403", "403", "500"], "{told}");
    server.stop();
}

#[test]
fn a_gate_exports_its_own_series_alone() {
    let mut bench = blocked_acme(Rules::default());
    bench.heard(Duration::from_secs(5));
    let server = Server::start(&bench, 403);
    server.ask("GET /v1/check", &[("x-tallyman-org", "acme")]);
    let metrics = server.ask("GET /metrics", &[]);
    let text = metrics.body.as_str().unwrap();
    for line in ["tallyman_gate_scopes 2", "tallyman_http_connections{listener=\"main\"} 1"] {
        assert!(text.lines().any(|told| told == line), "{line} in\n{text}");
    }
    assert!(text.contains("tallyman_http_connections_refused_total{listener=\"main\"} 0"), "{text}");
    for of_run in
        ["tallyman_records_total", "tallyman_lag", "tallyman_store", "tallyman_rebalances", "tallyman_assigned"]
    {
        assert!(!text.contains(of_run), "{of_run} in\n{text}");
    }
    server.stop();
}

#[test]
fn a_head_that_is_too_large_ends_its_own_connection_alone() {
    let server = Server::start(&blocked_acme(Rules::default()), 403);
    let head = format!("GET /v1/check HTTP/1.1\r\nhost: a\r\nx-a: {}\r\n", "x".repeat(200 << 10));
    let mut stream = TcpStream::connect(server.address).unwrap();
    // The server may close while this is still being sent.
    let sent = stream.write_all(head.as_bytes());
    let mut told = String::new();
    let read = stream.read_to_string(&mut told);
    assert!(told.starts_with("HTTP/1.1 500") || sent.is_err() || read.is_err(), "{told}");
    assert_eq!(server.ask("GET /v1/check", &[("x-tallyman-org", "acme")]).status, 200);
    server.stop();
}
