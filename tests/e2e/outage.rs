//! What an operator sees of an outage: `/readyz` names it within seconds and as long as it lasts, the log has a line of each
//! cause in ten seconds and each at its time, and nothing else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan as _};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use serde_json::Value;

use crate::support::{Instance, PATIENCE, Site, kafka, start_kafka, wait_until};

/// A line of an instance's log.
struct Line {
    at: Timestamp,
    level: String,
    message: String,
    all: String,
}

/// All lines of a log, each of which must be JSON.
fn lines(said: &str) -> Vec<Line> {
    said.lines()
        .map(|text| {
            let line: Value =
                serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON, {error}: {text}"));
            let part = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let at = part("timestamp").parse().unwrap_or_else(|error| panic!("no time, {error}: {text}"));
            Line { at, level: part("level"), message: part("message"), all: text.to_owned() }
        })
        .collect()
}

/// Warnings and errors.
fn complaints(said: &str) -> Vec<Line> {
    lines(said).into_iter().filter(|line| line.level != "INFO").collect()
}

/// No line of what can repeat, which has a count, comes more often than every ten seconds.
fn check_rate(lines: &[Line]) {
    let mut last: BTreeMap<&str, &Line> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.all.contains("\"count\":")) {
        if let Some(before) = last.insert(&line.message, line) {
            let apart = line.at.duration_since(before.at);
            assert!(apart.as_secs_f64() > 9.5, "{apart:#}\n{}\n{}", before.all, line.all);
        }
    }
}

fn print(lines: &[Line]) {
    for line in lines {
        println!("{}", line.all);
    }
}

/// What the instance shows of its connection to Kafka.
fn connected(instance: &Instance) -> Option<i64> {
    let (_, text) = instance.get("/metrics");
    text.lines().find_map(|line| line.strip_prefix("tallyman_kafka_connected ")?.parse().ok())
}

/// How long until `/readyz` gives 503 for a reason that holds `part`.
fn until_not_ready(instance: &Instance, part: &str) -> Duration {
    let started = Instant::now();
    let what = format!("/readyz to tell of {part}");
    wait_until(&what, PATIENCE, || {
        let (status, body) = instance.get("/readyz");
        status == 503 && body.contains(part)
    });
    started.elapsed()
}

#[test]
fn a_broker_that_is_away_is_in_readyz_within_ten_seconds_and_in_few_lines_of_the_log() {
    let mut broker = start_kafka();
    let kafka = broker.with_topics("away", 3);
    let site = Site::new(&kafka, &[("log.format", "\"json\"")]);
    site.tell(&["produce", "--seed", "81", "--count", "2000", "--orgs", "20"]);
    let instance = site.run();
    site.wait_for_the_end(PATIENCE);
    instance.wait_until_ready(PATIENCE);
    assert_eq!(connected(&instance), Some(1));
    let before = lines(&instance.running.said()).len();

    broker.kill();
    let killed = Timestamp::now();
    let took = until_not_ready(&instance, &kafka.bootstrap_servers);
    println!("/readyz told after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(connected(&instance), Some(0));
    // Its session ends meanwhile and the group takes all it owned: nobody is named as owner who is not there.
    let mut kinds = std::collections::BTreeSet::new();
    while Timestamp::now() < killed + 40.seconds() {
        let (status, body) = instance.get("/readyz");
        assert_eq!(status, 503, "{body}");
        let (status, body) = instance.get("/v1/orgs/org-0001");
        kinds.insert(status);
        assert!(status == 200 || status == 503, "{status}: {body}");
        // The state must hold for all of that time, so there is no event to await.
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("reads gave {kinds:?}");
    broker.restart();
    instance.wait_until_ready(PATIENCE);
    let recovered = Timestamp::now();
    assert_eq!(connected(&instance), Some(1));
    // Longer than lines are gathered for.
    wait_until("the time to pass", PATIENCE, || Timestamp::now() > recovered + 25.seconds());
    instance.stop();
    let said = log_of(&site);
    let all = lines(&said);
    print(&all[before..]);
    let of_outage = complaints(&said);
    check_rate(&of_outage);
    let is_of_outage =
        |line: &Line| ["refused", "Disconnected", "Kafka at"].iter().any(|part| line.all.contains(part));
    let late = of_outage.iter().find(|line| line.at > recovered + 11.seconds() && is_of_outage(line));
    assert!(late.is_none(), "long after it was over: {}", late.map_or("", |line| &line.all));
    assert!(!said.contains("lost to another member"), "nobody else is in this group");
    assert!(of_outage.len() < 40, "{} lines", of_outage.len());
    let drained = all.iter().filter(|line| line.message.starts_with("drained: ")).count();
    assert!(drained > 0, "what was drained is in the log");
}

#[test]
fn where_lines_are_json_so_is_the_last_one_of_a_process_that_cannot_go_on() {
    let kafka = kafka().settings("fatal", 1);
    let (code, _, said) = Site::new(&kafka, &[("log.format", "\"json\"")]).ask(&["run"]);
    assert_eq!(code, 1, "{said}");
    let all = lines(&said);
    let last = all.last().expect("a line");
    assert_eq!(last.level, "ERROR");
    assert!(last.message.contains(&kafka.topics.usage) && last.message.contains("topics create"), "{}", last.all);
}

/// What an instance said that has ended.
fn log_of(site: &Site) -> String {
    std::fs::read_to_string(site.path("run.log")).unwrap()
}

#[test]
fn a_topic_that_is_deleted_is_the_cause_in_readyz_and_in_few_lines_of_the_log() {
    let kafka = kafka().with_topics("deleted", 3);
    let site = Site::new(&kafka, &[("log.format", "\"json\"")]);
    site.tell(&["produce", "--seed", "82", "--count", "2000", "--orgs", "20"]);
    let instance = site.run();
    site.wait_for_the_end(PATIENCE);
    instance.wait_until_ready(PATIENCE);
    let before = lines(&instance.running.said()).len();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap_servers).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(admin.delete_topics(&[&kafka.topics.usage], &AdminOptions::new())).unwrap();
    let deleted = Timestamp::now();
    let took = until_not_ready(&instance, &format!("no topic `{}`", kafka.topics.usage));
    println!("/readyz told after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    while Timestamp::now() < deleted + 60.seconds() {
        let (status, body) = instance.get("/readyz");
        assert!(status == 503 && body.contains(&kafka.topics.usage), "{status}: {body}");
        // As above: nothing may change.
        std::thread::sleep(Duration::from_secs(5));
    }
    instance.kill();
    let said = log_of(&site);
    print(&lines(&said)[before..]);
    check_rate(&complaints(&said));
    assert!(complaints(&said).len() < 30, "{} lines", complaints(&said).len());
}
