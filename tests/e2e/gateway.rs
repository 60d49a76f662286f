//! Gateways on a real Kafka: `tallyman gate` beside `tallyman run`, a real nginx that asks it before each request, the library's
//! own follower, and a reader in Python of every encoding. Budgets stand in for what the processor decides of narrower
//! scopes: their decisions are written to the topic by the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tallyman::codec::{Encoder, OutputEncoding, SchemaRegistry};
use tallyman::domain::limits::decision::{Action, LimitDecision};
use tallyman::domain::usage::dimension::Dimension;
use tallyman::gateway::table::{Request, Rules};
use tallyman::gateway::{Gateway, Source};
use tallyman::kafka::{KafkaSettings, Producer, Sent};
use tallyman::registry::Client;

use crate::servers::process::{Process, free_port, server_dir};
use crate::servers::registry::Registry;
use crate::support::{Instance, PATIENCE, Site, kafka, wait_until};

/// What stands before the service: nginx with `auth_request`, as the README shows it. Who calls is known by the key.
fn nginx(dir: &Path, port: u16, service: u16, gate: &str) -> String {
    let dir = dir.display();
    let others: String = Dimension::ALL
        .iter()
        .filter(|dimension| **dimension != Dimension::User)
        .map(|dimension| format!("proxy_set_header x-tallyman-{} \"\";\n", dimension.name()))
        .collect();
    format!(
        "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    map $http_x_api_key $org {{ default \"\"; key-of-acme acme; key-of-bob acme; key-of-free free; }}
    map $http_x_api_key $user {{ default \"\"; key-of-bob bob; }}
    upstream tallyman_gate {{ server {gate}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            auth_request /check;
            auth_request_set $reason $upstream_http_x_tallyman_reason;
            auth_request_set $retry_after $upstream_http_retry_after;
            error_page 403 = @blocked;
            proxy_pass http://127.0.0.1:{service};
        }}
        location = /check {{
            internal;
            proxy_pass http://tallyman_gate/v1/check/;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_pass_request_body off;
            proxy_set_header Content-Length \"\";
            proxy_set_header x-tallyman-org $org;
            proxy_set_header x-tallyman-user $user;
            {others}
        }}
        location @blocked {{
            add_header x-reason $reason always;
            add_header retry-after $retry_after always;
            return 429 \"credits are spent\\n\";
        }}
    }}
    server {{ listen 127.0.0.1:{service}; location / {{ return 200 \"served\\n\"; }} }}
}}
"
    )
}

struct Nginx {
    _process: Process,
    port: u16,
}

impl Nginx {
    fn start(gate: &str) -> Self {
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
        let program = program.iter().find(|program| Path::new(program).exists());
        let program = program.expect("nginx is missing (Debian package nginx); `make setup` installs it");
        let (dir, port, service) = (server_dir("nginx"), free_port(), free_port());
        let config = dir.join("nginx.conf");
        fs::write(&config, nginx(&dir, port, service, gate)).unwrap();
        let (prefix, config) = (dir.display().to_string(), config.display().to_string());
        let mut command = [program, "-p", &prefix, "-c", &config, "-e", "stderr"].map(str::to_owned);
        let mut process = Process::start(&dir, &mut command);
        process.wait_until("nginx", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { _process: process, port }
    }

    /// Status, `x-reason` and `retry-after` for who holds this key; a client that lies about its scopes.
    fn ask(&self, key: &str) -> (u16, String, Option<i64>) {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = config.timeout_global(Some(Duration::from_secs(20))).build().into();
        let request = agent.get(format!("http://127.0.0.1:{}/v1/chat", self.port));
        let request = request.header("x-api-key", key).header("x-tallyman-org", "free");
        let response = request.header("x-tallyman-model", "spoofed").call().unwrap();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header("retry-after").and_then(|seconds| seconds.parse().ok());
        (response.status().as_u16(), header("x-reason").unwrap_or_default().to_owned(), retry_after)
    }
}

fn usage(site: &Site, org: &'static str, id: &str, credits: &str) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let event = json!({
        "type": "UsageEvent", "event_id": id, "source": "e2e", "occurred_at": i64::try_from(now).unwrap(),
        "org_id": org, "product": "chat", "operation": "ask", "credits": credits,
    });
    site.send(&[(org, event.to_string().into_bytes())]);
}

fn policy(org: &str, base: &str) -> String {
    format!("type: OrgPolicy\norg_id: {org}\nplan: team\nbase_allocation: {base}\n")
}

/// Writes a narrower scope's decision, made of the org's own.
fn publish(kafka: &KafkaSettings, of: &LimitDecision, scope: &[&str; 3], action: Action, encoder: &mut Encoder) {
    let [dimension, value, budget] = scope;
    let mut decision = of.clone();
    decision.scope.budget = Some(tallyman::domain::limits::scope::BudgetScope {
        dimension: Dimension::from_name(dimension),
        value: Some((*value).to_owned()).filter(|value| !value.is_empty()),
        budget_id: (*budget).to_owned(),
    });
    decision.level.budget = Some(("a budget".into(), tallyman::domain::terms::records::BudgetPeriod::Month));
    decision.level.action = action;
    decision.version += 1;
    let value = encoder.decision(&decision).unwrap();
    let producer = Producer::new(kafka, "e2e").unwrap();
    let partition = tallyman::domain::usage::murmur2::partition_of(of.scope.org_id.as_bytes(), kafka.partitions);
    let key = decision.scope.key();
    let sent =
        Sent { key: Some(key.as_bytes()), value: Some(&value), partition: Some(partition), ..Sent::default() };
    producer.send(&kafka.topics.decisions, &sent).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
}

fn check(instance: &Instance, headers: &[(&str, &str)]) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent.post(format!("{}/v1/check/v1/chat", instance.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send_empty().unwrap();
    let body = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&body).unwrap())
}

#[test]
fn nginx_lets_requests_through_blocks_them_and_lets_them_through_again() {
    let kafka = kafka().with_topics("nginx", 2);
    let anywhere = "\"0.0.0.0:0\"";
    let site = Site::new(&kafka, &[("http.probe_listen", anywhere), ("gate.probe_listen", anywhere)]);
    site.apply(&policy("acme", "10"));
    let gate = site.gate();
    assert_eq!(gate.get("/livez").0, 200);
    // It reads to the end of what is there, also before anybody decides.
    gate.wait_until_ready(PATIENCE);
    let nginx = Nginx::start(gate.url.trim_start_matches("http://"));
    assert_eq!(nginx.ask("key-of-acme").0, 200, "an org without a decision is allowed");
    assert_eq!(nginx.ask("a key of nobody").0, 500, "bad input is no block");

    let instance = site.run();
    instance.wait_until_ready(PATIENCE);
    usage(&site, "acme", "one", "4.5");
    let told = |reason: &str| gate.metrics().sum_of("tallyman_gate_checks_total", reason) > 0.5;
    wait_until("acme's first decision", PATIENCE, || {
        nginx.ask("key-of-acme").0 == 200 && told("WITHIN_ALLOWANCE")
    });
    usage(&site, "acme", "two", "6");
    wait_until("acme to be blocked", PATIENCE, || nginx.ask("key-of-acme").0 == 429);
    let (status, reason, retry_after) = nginx.ask("key-of-acme");
    assert_eq!((status, reason.as_str()), (429, "ALLOWANCE_SPENT"));
    assert!((1..=31 * 86_400).contains(&retry_after.unwrap()), "{retry_after:?}");
    assert_eq!(nginx.ask("key-of-free").0, 200, "the others go on");

    // Probes and metrics alone are served anywhere, without an organisation's name.
    for name in ["gate", "run"] {
        let (status, metrics) = probe(&site, name, "/metrics");
        assert!(status == 200 && metrics.contains("tallyman_gate_scopes 1"), "{name}: {metrics}");
        assert!(
            !metrics.contains("acme") && metrics.contains("tallyman_lag_records") == (name == "run"),
            "{metrics}"
        );
        assert_eq!((probe(&site, name, "/readyz").0, probe(&site, name, "/v1/check").0), (200, 404), "{name}");
    }

    // The same on `run`'s own listener, and the same table.
    for instance in [&gate, &instance] {
        let (status, decision) = check(instance, &[("x-tallyman-org", "acme")]);
        assert_eq!((status, &decision["reason"]), (403, &json!("ALLOWANCE_SPENT")), "{decision}");
        assert_eq!(check(instance, &[("x-tallyman-org", "free")]).0, 200);
    }
    site.apply(&policy("acme", "100"));
    wait_until("acme to be let through again", PATIENCE, || nginx.ask("key-of-acme").0 == 200);

    // A user's budget binds the user alone, and a second gate that starts now says the same.
    let decision = decision_of(&kafka, "acme");
    let mut encoder = Encoder::new(OutputEncoding::SingleObject, None);
    publish(&kafka, &decision, &["user", "bob", "b1"], Action::Block, &mut encoder);
    wait_until("bob to be blocked", PATIENCE, || nginx.ask("key-of-bob").0 == 429);
    assert_eq!(nginx.ask("key-of-acme").0, 200);
    let second = site.gate();
    second.wait_until_ready(PATIENCE);
    assert_eq!(check(&second, &[("x-tallyman-org", "acme"), ("x-tallyman-user", "bob")]).0, 403);
    let ages = [&gate, &instance].map(|one| one.metrics().sum("tallyman_gate_heartbeat_age_seconds"));
    assert!(ages.iter().all(|age| (0.0..30.0).contains(age)), "{ages:?}");
    second.stop();
    gate.stop();
    instance.stop();
}

/// Asks the probes' listener of a command, whose address stands in the command's log.
fn probe(site: &Site, name: &str, path: &str) -> (u16, String) {
    let log = fs::read_to_string(site.path(&format!("{name}.log"))).unwrap();
    let (_, address) = log.split_once("also at http://0.0.0.0:").expect(&log);
    let url = format!("http://127.0.0.1:{}{path}", address.split_once(')').unwrap().0);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent.get(&url).header("host", "10.1.2.3").call().unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

/// The org's own decision, as the library's gateway holds it.
fn decision_of(kafka: &KafkaSettings, org: &str) -> LimitDecision {
    let gateway = Gateway::start(Source::new(kafka.clone()), Rules::default()).unwrap();
    gateway.wait_until_ready(PATIENCE).unwrap();
    gateway.check(&Request::of(org)).decision().expect("the org has a decision")
}

#[test]
fn a_gate_outlives_a_broker_that_dies_and_sees_what_was_decided_meanwhile() {
    let mut broker = crate::support::start_kafka();
    let kafka = broker.with_topics("gate-broker", 2);
    let site = Site::new(&kafka, &[]);
    site.apply(&policy("acme", "10"));
    let gate = site.gate();
    let instance = site.run();
    usage(&site, "acme", "one", "11");
    let status = || check(&gate, &[("x-tallyman-org", "acme")]).0;
    gate.wait_until_ready(PATIENCE);
    wait_until("acme to be blocked", PATIENCE, || status() == 403);
    broker.kill();
    assert_eq!(status(), 403, "the last decision holds");
    broker.restart();
    site.apply(&policy("acme", "100"));
    wait_until("acme to be let through", PATIENCE, || status() == 200);
    gate.stop();
    instance.stop();
}

/// The Python that has what a gateway needs.
fn python() -> String {
    let found = Command::new("sh").args(["tests/support/fetch-python.sh", "--check"]).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_gateway_in_python_reads_every_encoding_and_says_the_same() {
    let registry = Registry::shared();
    let client: Arc<dyn SchemaRegistry> = Arc::new(Client::new(&registry.url(), None).unwrap());
    let url = format!("\"{}\"", registry.url());
    for (name, encoding) in [
        ("json", OutputEncoding::Json),
        ("single_object", OutputEncoding::SingleObject),
        ("registry", OutputEncoding::Registry),
    ] {
        let kafka = kafka().with_topics(&format!("python-{name}"), 2);
        let quoted = format!("{name:?}");
        let site = Site::new(&kafka, &[("kafka.output_encoding", &quoted), ("registry.url", &url)]);
        site.apply(&policy("acme", "10"));
        site.apply(&policy("free", "1000"));
        let instance = site.run();
        usage(&site, "acme", "one", "11");
        usage(&site, "free", "one", "1.5");
        site.wait_for_the_end(PATIENCE);
        instance.wait_until_ready(PATIENCE);
        let mut source = Source::new(kafka.clone());
        source.registry = Some(Arc::clone(&client));
        let gateway = Gateway::start(source, Rules::default()).unwrap();
        gateway.wait_until_ready(PATIENCE).unwrap();
        let free = gateway.check(&Request::of("free")).decision().expect("free has a decision");
        let mut encoder = Encoder::new(encoding, Some(Arc::clone(&client)));
        for (scope, action) in [
            (["user", "ada|\u{e9}", "each"], Action::Allow),
            (["user", "", "each"], Action::Block),
            (["model", "sage", "exact"], Action::Allow),
            (["model", "", "each"], Action::Block),
        ] {
            publish(&kafka, &free, &scope, action, &mut encoder);
        }
        wait_until("the gateway to have them all", PATIENCE, || gateway.table().len() == 6);

        let requests = [
            json!({"org": "acme"}),
            json!({"org": "free"}),
            json!({"org": "nobody"}),
            json!({"org": "free", "user": "ada|\u{e9}"}),
            json!({"org": "free", "user": "bob"}),
            json!({"org": "free", "user": "ada|\u{e9}", "model": "sage"}),
            json!({"org": "free", "user": "ada|\u{e9}", "model": "other"}),
        ];
        let mut command = Command::new(python());
        command.args(["examples/gateway.py", "--brokers", &kafka.bootstrap_servers]);
        command.args(["--topic", &kafka.topics.decisions, "--registry", &registry.url()]);
        for request in &requests {
            command.args(["--check", &request.to_string()]);
        }
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let told = String::from_utf8(done.stdout).unwrap();
        let mut lines = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        for request in &requests {
            let line = lines.next().unwrap();
            let verdict = gateway.check(&asked(request));
            let expected = (verdict.action().name(), verdict.version(), budget(verdict.decision()));
            let told = (line["action"].as_str().unwrap(), line["version"].as_i64(), line["budget_id"].as_str());
            assert_eq!(told, (expected.0, expected.1, expected.2.as_deref()), "{name}: {request}");
        }
        assert_eq!(lines.next().unwrap(), json!({"scopes": 6, "heartbeats": 2}), "{name}");
        instance.stop();
    }
}

fn budget(decision: Option<LimitDecision>) -> Option<String> {
    decision.and_then(|decision| decision.scope.budget).map(|budget| budget.budget_id)
}

fn asked(request: &Value) -> Request<'_> {
    let fields: BTreeMap<&str, &str> = request
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let values = fields.iter().filter_map(|(name, value)| Some((Dimension::from_name(name)?, *value)));
    values.fold(Request::of(fields["org"]), |request, (dimension, value)| request.with(dimension, value))
}
