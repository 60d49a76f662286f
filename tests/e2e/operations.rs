//! What an operator meets: refusals with a reason and a way out, readiness, draining, a broker that dies, policies and questions from
//! the command line.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use tallyman::codec::Decoder;

use crate::audit::{self, Audit};
use crate::exact::{check_answers, crossing, drawn, limits, policies, wait_for_stores};
use crate::support::{PATIENCE, Site, kafka, start_kafka, wait_for, wait_until};

/// Makes a topic as nobody should.
pub fn make_topic(servers: &str, topic: &str, partitions: i32, config: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let new =
        config.iter().fold(NewTopic::new(topic, partitions, TopicReplication::Fixed(1)), |new, (key, value)| {
            new.set(key, value)
        });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let made = runtime.block_on(admin.create_topics(&[new], &options)).unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

#[test]
fn run_refuses_topics_that_are_missing_or_differ_and_says_what_to_do() {
    let kafka = kafka().settings("refused", 1);
    let site = Site::new(&kafka, &[]);
    let (code, _, told) = site.ask(&["run"]);
    assert_eq!(code, 1, "{told}");
    for topic in kafka.topics.all() {
        assert!(told.contains(&format!("`{topic}` does not exist")), "{told}");
    }
    assert!(told.contains("tallyman topics create"), "{told}");

    make_topic(&kafka.bootstrap_servers, &kafka.topics.usage, 1, &[("retention.ms", "86400000")]);
    let (_, made, _) = site.ask(&["topics", "create"]);
    assert!(made.contains("retention.ms"), "what exists and differs is said: {made}");
    let (code, _, told) = site.ask(&["run"]);
    assert_eq!(code, 1, "{told}");
    for part in [kafka.topics.usage.as_str(), "retention.ms = 86400000", "must be -1", "accept_topic_settings"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains(&kafka.topics.alerts), "only what differs is told: {told}");
    let lenient = Site::new(&kafka, &[("kafka.accept_topic_settings", "true")]);
    let instance = lenient.run();
    instance.wait_until_ready(PATIENCE);
    assert!(instance.running.said().contains("retention.ms"), "what is accepted is told all the same");
    instance.stop();
}

#[test]
fn wrong_settings_end_with_2_and_name_the_key() {
    let kafka = kafka().settings("wrong", 1);
    for (key, value, says) in [
        ("limits.default", "", "limits.default"),
        ("limits.defualt", "\"allow\"", "limits.default"),
        ("http.listen", "\"0.0.0.0:0\"", "http.listen"),
        ("memory.limit", "\"1KiB\"", "memory.limit"),
    ] {
        let (code, _, told) = Site::new(&kafka, &[(key, value)]).ask(&["run"]);
        assert_eq!(code, 2, "{key}: {told}");
        assert!(told.contains(says), "{key}: {told}");
    }
    let (code, _, told) = Site::new(&kafka, &[]).ask(&["rnu"]);
    assert_eq!(code, 2, "{told}");
}

#[test]
fn an_instance_is_ready_when_it_has_caught_up_drains_in_time_and_halts_alone() {
    let kafka = kafka().with_topics("ready", 2);
    let site = Site::new(&kafka, &[]);
    site.tell(&["produce", "--seed", "41", "--count", "60000", "--orgs", "50"]);
    let instance = site.run();
    assert_eq!(instance.get("/livez").0, 200);
    let (mut late, mut reasons) = (false, String::new());
    wait_until("an instance to be ready", PATIENCE, || {
        let (status, body) = instance.get("/readyz");
        late |= status == 503;
        if status == 503 {
            reasons = body;
        }
        status == 200
    });
    assert!(late, "it was ready before it had caught up");
    println!("not ready before: {reasons}");
    site.wait_for_the_end(PATIENCE);
    let more = site.start(&["produce", "--seed", "42", "--count", "40000", "--orgs", "50", "--rate", "20000"]);
    wait_until("live traffic", PATIENCE, || instance.metrics().sum("tallyman_records_total") > 65_000.0);
    check_metrics(&instance.get("/metrics").1);
    let took = instance.stop();
    println!("drained under load in {took:?}");
    assert_eq!(more.wait(PATIENCE), 0);

    // The same store under other settings of the fold: halted with the way out, and never ready.
    let other =
        Site::new(&kafka, &[("dedupe.window", "\"12h\""), ("store.dir", &format!("{:?}", site.path("data")))]);
    let halted = other.run();
    wait_until("the partitions to halt", PATIENCE, || halted.metrics().sum("tallyman_partition_halted") > 1.5);
    let (status, reasons) = halted.get("/readyz");
    assert_eq!(status, 503);
    assert!(reasons.contains("halted (store)") && reasons.contains("tallyman rebuild"), "{reasons}");
    let lag = || {
        let metrics = halted.metrics();
        let of = |partition: i32| metrics.known(&format!("tallyman_lag_records{{partition=\"{partition}\"}}"));
        Some(of(0)? + of(1)?)
    };
    let before = wait_for("the lag of halted partitions", PATIENCE, lag);
    other.tell(&["produce", "--seed", "43", "--count", "500", "--orgs", "50"]);
    wait_until("it to grow with the log", PATIENCE, || lag() >= Some(before + 500.0));
    check_metrics(&halted.get("/metrics").1);
    halted.stop();
    other.tell(&["rebuild", "--yes"]);
    let instance = other.run();
    other.wait_for_the_end(PATIENCE);
    instance.wait_until_ready(PATIENCE);
    wait_for_stores(&kafka, &[&instance]);
    check_answers(&[&instance], &Audit::of(&kafka, Decoder::new(None)));
    instance.stop();
}

/// What promtool finds.
fn check_metrics(text: &str) {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing (Debian package prometheus); `make setup` installs it");
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let told = tool.wait_with_output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

#[test]
fn a_broker_that_dies_and_comes_back_costs_nothing_but_time() {
    const COUNT: u64 = 40_000;
    let mut broker = start_kafka();
    let kafka = broker.with_topics("broker", 2);
    let site = Site::new(&kafka, &[]);
    let limits = limits(&drawn(&[(51, COUNT)], 50));
    site.apply(&policies(&limits));
    let instance = site.run();
    let (count, rate) = (COUNT.to_string(), (COUNT / 8).to_string());
    let producer = site.start(&["produce", "--seed", "51", "--count", &count, "--orgs", "50", "--rate", &rate]);
    wait_until("live traffic", PATIENCE, || instance.metrics().sum("tallyman_records_total") > 8_000.0);
    broker.kill();
    wait_until("the instance to notice", PATIENCE, || instance.running.said().contains("WARN"));
    broker.restart();
    assert_eq!(producer.wait(PATIENCE), 0);
    site.wait_for_the_end(PATIENCE);
    instance.wait_until_ready(PATIENCE);
    wait_for_stores(&kafka, &[&instance]);
    let audit = Audit::of(&kafka, Decoder::new(None));
    check_answers(&[&instance], &audit);
    let crossing: BTreeSet<String> = crossing(&audit, &limits);
    audit::check_decisions(&audit::decisions(&kafka), &crossing);
    audit::check_alerts(&audit::alerts(&kafka), &crossing);
    println!("{} of {} orgs blocked", crossing.len(), limits.len());
    instance.stop();
}

#[test]
fn policies_are_applied_and_asked_for_and_usage_comes_as_csv() {
    let kafka = kafka().with_topics("asked", 1);
    let site = Site::new(&kafka, &[]);
    let policy = "type: OrgPolicy\norg_id: org-0000\nplan: scale\nbase_allocation: \"12.345678\"\nlimit_mode: SOFT\n\
                  soft_extra: 5\nthresholds: [50, 80]\nanchor_day: 7\ntime_zone: Europe/Berlin\n";
    site.apply(policy);
    site.tell(&["produce", "--seed", "61", "--count", "2000", "--orgs", "1"]);
    let instance = site.run();
    site.wait_for_the_end(PATIENCE);
    instance.wait_until_ready(PATIENCE);
    wait_for_stores(&kafka, &[&instance]);
    let audit = Audit::of(&kafka, Decoder::new(None));

    let told = site.tell(&["policy", "get", "org-0000", "--url", &instance.url, "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    for (field, value) in [
        ("plan", "scale"),
        ("base_allocation", "12.345678"),
        ("limit_mode", "SOFT"),
        ("soft_extra", "5.000000"),
        ("time_zone", "Europe/Berlin"),
    ] {
        assert_eq!(told[field], value, "{told}");
    }
    assert_eq!(told["thresholds"], serde_json::json!([50, 80]));
    assert_eq!(told["anchor_day"], 7);

    // Applied again it writes nothing; another author's change stands in the history with what it changed.
    let before = told;
    site.apply(policy);
    let raised = policy.replace("12.345678", "20")
        + "updated_by: bob\n---\ntype: Budget\norg_id: org-0000\n\
                 budget_id: b1\nname: all\nlimit: 7\nperiod: week\naction: WARN\n";
    site.apply(&raised);
    let history = ["policy", "history", "org-0000", "--url", &instance.url];
    wait_until("the instance to take the terms", PATIENCE, || site.tell(&history).contains("b1"));
    let told = site.tell(&[&history[..], &["--output", "json"]].concat());
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let changes = told["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 3, "{told}");
    assert_eq!(
        (&changes[0]["follows"], &changes[0]["updated_by"]),
        (&serde_json::Value::Null, &before["updated_by"])
    );
    assert_eq!((&changes[1]["follows"], &changes[1]["updated_by"]), (&changes[0]["offset"], &"bob".into()));
    let raise = serde_json::json!({"field": "base_allocation", "from": "12.345678", "to": "20.000000"});
    assert!(changes[1]["changed"].as_array().unwrap().contains(&raise), "{told}");
    assert_eq!((&changes[2]["type"], &changes[2]["id"]), (&"Budget".into(), &"b1".into()));
    let table = site.tell(&history);
    assert!(table.contains("base_allocation: 12.345678 -> 20.000000"), "{table}");
    assert!(site.tell(&[&history[..], &["--output", "csv"]].concat()).starts_with("offset,type,id,effective_at,"));
    let budgets = site.tell(&["policy", "get", "org-0000", "budgets", "--url", &instance.url]);
    assert!(budgets.lines().any(|line| line.starts_with("in force") && line.contains("b1")), "{budgets}");

    let usage = ["query", "usage", "org-0000", "--url", &instance.url, "--group-by", "model", "--output", "csv"];
    let csv = site.tell(&usage);
    let mut rows = csv.lines();
    let head: Vec<_> = rows.next().unwrap().split(',').collect();
    let column = |name: &str| head.iter().position(|column| *column == name).unwrap();
    let (credits, events) = (column("credits"), column("events"));
    assert!(head.contains(&"start") && head.contains(&"model"), "{head:?}");
    let (mut micros, mut count) = (0, 0);
    for row in rows {
        let fields: Vec<_> = row.split(',').collect();
        micros += tallyman::domain::credits::parse_decimal(fields[credits], 6).unwrap();
        count += fields[events].parse::<i128>().unwrap();
    }
    assert_eq!((micros, count), audit.by_org["org-0000"], "{csv}");
    let summary = site.tell(&["query", "summary", "org-0000", "--url", &instance.url]);
    assert!(summary.contains("scale"), "{summary}");
    let (code, _, told) =
        site.ask(&["query", "usage", "org-0000", "--url", &instance.url, "--bucket", "fortnight"]);
    assert_eq!(code, 2, "{told}");
    instance.stop();
}

#[test]
fn an_explanation_and_a_simulation_agree_with_the_log_and_with_each_other() {
    use serde_json::Value;
    let kafka = kafka().with_topics("explained", 1);
    let site = Site::new(&kafka, &[]);
    let policy = "type: OrgPolicy\norg_id: org-0000\nplan: small\nbase_allocation: 50\neffective_at: \
                  2020-01-01T00:00:00Z\nupdated_by: ann\n";
    site.apply(policy);
    let instance = site.run();
    site.tell(&["produce", "--seed", "71", "--count", "3000", "--orgs", "1"]);
    site.wait_for_the_end(PATIENCE);
    instance.wait_until_ready(PATIENCE);
    wait_for_stores(&kafka, &[&instance]);
    let audit = Audit::of(&kafka, Decoder::new(None));
    let (micros, _) = audit.by_org["org-0000"];
    let parsed = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let sum = |value: &Value| tallyman::domain::credits::parse_decimal(value.as_str().unwrap(), 6).unwrap();

    let explain = ["explain", "org-0000", "--url", &instance.url];
    let explained = parsed(&site.tell(&[&explain[..], &["--output", "json"]].concat()));
    assert_eq!((&explained["action"], &explained["reason"]), (&"BLOCK".into(), &"ALLOWANCE_SPENT".into()));
    let days: i128 = explained["days"].as_array().unwrap().iter().map(|day| sum(&day["credits"])).sum();
    assert_eq!(sum(&explained["used"]), days, "the days sum to what was used in the period");
    let products =
        |day: &Value| day["products"].as_array().unwrap().iter().map(|one| sum(&one["credits"])).sum::<i128>();
    assert_eq!(explained["days"].as_array().unwrap().iter().map(products).sum::<i128>(), days);
    assert_eq!(explained["cause"]["topic"], kafka.topics.usage.as_str());
    let text = site.tell(&explain);
    let event = explained["cause"]["event_id"].as_str().unwrap();
    assert!(text.contains(&format!("followed from event {event}")) && text.contains("by ann"), "{text}");

    // What it names unblocks: exactly as much does not, one micro-credit more does.
    let raise =
        explained["unblocked_by"].as_array().unwrap().iter().find(|way| way["what"] == "base_allocation").unwrap();
    let above = sum(&raise["more_than"]);
    let simulate = |base: i128, more: &[&str]| {
        let base = tallyman::domain::credits::format_decimal(base, 6);
        std::fs::write(
            site.path("other.yaml"),
            policy.replace("base_allocation: 50", &format!("base_allocation: \"{base}\"")),
        )
        .unwrap();
        let file = site.path("other.yaml").display().to_string();
        let args = ["simulate", "org-0000", "--policy", &file, "--url", &instance.url, "--output", "json"];
        parsed(&site.tell(&[&args[..], more].concat()))
    };
    let last = |told: &Value, side: &str| told[side].as_array().unwrap().last().unwrap().clone();
    for exact in [&[][..], &["--exact"]] {
        let same = simulate(50_000_000, exact);
        assert_eq!(same["simulated"], same["actual"], "the same terms give the same outcome");
        let actual = last(&same, "actual");
        assert_eq!(actual["used"], explained["used"], "{exact:?}");
        assert_eq!(actual["blocked"][0]["until"], Value::Null);
        assert_eq!(last(&simulate(above, exact), "simulated")["blocked"].as_array().unwrap().len(), 1);
        assert_eq!(last(&simulate(above + 1, exact), "simulated")["blocked"], serde_json::json!([]));
    }
    // What budgets would have made of each model's usage has the same sums from hours and from events.
    let budget = "type: Budget\norg_id: org-0000\nbudget_id: each\nname: Each model\ndimension: model\nvalue: '*'\nlimit: \
                  1\nperiod: month\naction: BLOCK\n";
    std::fs::write(site.path("budget.yaml"), budget).unwrap();
    let file = site.path("budget.yaml").display().to_string();
    let args = ["simulate", "org-0000", "--budget", &file, "--url", &instance.url, "--output", "json"];
    let [by_hour, by_event] = [&[][..], &["--exact"]].map(|more| parsed(&site.tell(&[&args[..], more].concat())));
    let used = |told: &Value| -> std::collections::BTreeMap<String, String> {
        let of = |scope: &Value| (scope["value"].to_string(), scope["simulated"]["used"].to_string());
        told["budgets"].as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(used(&by_hour), used(&by_event));
    assert!(used(&by_event).len() > 1, "{by_event}");
    assert!(by_event["budgets"].as_array().unwrap().iter().all(|scope| scope["actual"].is_null()), "{by_event}");
    // To the event the block is not later than the decision, and in the hour that rows tell.
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let exact = time(&last(&simulate(50_000_000, &["--exact"]), "actual")["blocked"][0]["from"]);
    let hour = time(&last(&simulate(50_000_000, &[]), "actual")["blocked"][0]["from"]);
    let decided = time(&explained["decision"]["decided_at"]);
    println!(
        "blocked in the hour of {hour}, at {exact} by the log, decided at {decided}; {micros} micro-credits in all"
    );
    assert!(exact <= decided, "{exact} {decided}");
    instance.stop();
}
