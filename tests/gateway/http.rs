//! `/v1/check/*` as nginx and Envoy meet it, on the listener of `tallyman gate`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tallyman::domain::decision::Action;
use tallyman::domain::dimension::Dimension::User;
use tallyman::domain::scope::Scope;
use tallyman::domain::time::Timestamp;
use tallyman::gateway::table::{Rules, Table, WhenStale};
use tallyman::http::{Gate, serve_gate};
use tallyman::telemetry::Telemetry;
use tokio::sync::oneshot;

use crate::support::{Bench, NOON, RESET, decision, scope};

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
        let gate = Gate::new(Arc::clone(table), Telemetry::default(), clock, block_status);
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
    bench.clock.set(Timestamp::from_micros(RESET - 90_500_000));
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
    bench.clock.set(Timestamp::from_micros(RESET + 10));
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
    bench.clock.set(Timestamp::from_micros(NOON + 120_000_000));
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
fn a_head_that_is_too_large_ends_its_own_connection_alone() {
    let server = Server::start(&blocked_acme(Rules::default()), 403);
    let head = format!("GET /v1/check HTTP/1.1\r\nhost: a\r\nx-a: {}\r\n", "x".repeat(200 << 10));
    let mut stream = TcpStream::connect(server.address).unwrap();
    // The server may close while this is still being sent.
    let sent = stream.write_all(head.as_bytes());
    let mut told = String::new();
    let read = stream.read_to_string(&mut told);
    assert!(told.starts_with("HTTP/1.1 431") || sent.is_err() || read.is_err(), "{told}");
    assert_eq!(server.ask("GET /v1/check", &[("x-tallyman-org", "acme")]).status, 200);
    server.stop();
}
