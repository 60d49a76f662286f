//! Every key, its default and its bounds: the only place where a setting is taken out of the raw entries.
//! `config/tallyman.toml` tells the same to people; a test holds the two together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::units::{Parsed, duration, number, one_of, size, switch, text};
use super::{ConfigError, Gate, Http, Log, Registry, Settings, Store, TimeBounds, is_secret, limits, zones};
use crate::codec::OutputEncoding;
use crate::domain::limits::decision::Action;
use crate::domain::zones as domain_zones;
use crate::gateway::table::{Rules, WhenStale};
use crate::kafka::{KafkaSettings, Topics};
use crate::telemetry::log::{self, LogFormat};

const ENCODINGS: [(&str, OutputEncoding); 3] = [
    ("json", OutputEncoding::Json),
    ("registry", OutputEncoding::Registry),
    ("single_object", OutputEncoding::SingleObject),
];
const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// Reads all settings.
pub(super) fn settings(mut reader: Reader) -> Result<Settings, ConfigError> {
    let r = &mut reader;
    // First of all: `limits.default` names a zone.
    time_zones(r);
    let settings = Settings {
        kafka: kafka(r),
        accept_topic_settings: r.get("kafka.accept_topic_settings", "false", switch),
        output_encoding: r.get("kafka.output_encoding", "json", one_of(&ENCODINGS)),
        registry: Registry {
            url: r.optional("registry.url", url),
            username: r.optional("registry.username", text),
            password: r.secret("registry.password"),
        },
        store: store(r),
        memory_limit_bytes: r.get("memory.limit", "1GiB", memory),
        http: Http {
            listen: r.get("http.listen", "127.0.0.1:8080", loopback),
            advertise: r.optional("http.advertise", host_and_port),
            probe_listen: r.optional("http.probe_listen", address),
        },
        gate: gate(r),
        limits_default: limits::read(r),
        limits_guard: r.optional("limits.guard", guard),
        dedupe_window: r.get("dedupe.window", "24h", duration),
        time: TimeBounds {
            max_future: r.get("time.max_future", "5m", duration),
            max_age: r.get("time.max_age", "90d", duration),
        },
        top_orgs: usize::try_from(r.get("metrics.top_orgs", "20", number(0..=1000)))
            .expect("0..=1000 is within a usize"),
        probe_orgs: r.get("metrics.probe_orgs", "false", switch),
        log: log_settings(r),
        effective: Vec::new(),
    };
    reader.finish();
    if !reader.problems.is_empty() {
        return Err(ConfigError::Invalid(reader.problems));
    }
    Ok(Settings { effective: reader.effective, ..settings })
}

/// The time-zone database of this process.
fn time_zones(r: &mut Reader) {
    let from_system = r.get("time.zones", "bundled", one_of(&[("bundled", false), ("system", true)]));
    if !from_system {
        return;
    }
    let preferred = zones::read().and_then(|zones| {
        domain_zones::prefer(zones).map_err(|error| format!("cannot be used: {error}; start the process anew"))
    });
    if let Err(what) = preferred {
        r.problem_with("time.zones", &what);
    }
}

/// A latency: what takes longer than a few seconds is no matter of overshoot.
fn guard(raw: &str) -> Parsed<Duration> {
    let problem = || "must be a duration of at most 5m, such as 200ms or 2s".to_owned();
    duration(raw).ok().filter(|latency| *latency <= Duration::from_secs(300)).ok_or_else(problem)
}

fn kafka(r: &mut Reader) -> KafkaSettings {
    let small = |number: i64| i32::try_from(number).expect("the ranges below lie within an i32");
    let kafka = KafkaSettings {
        bootstrap_servers: r.get("kafka.bootstrap_servers", "127.0.0.1:9092", text),
        group_id: r.get("kafka.group_id", "tallyman", text),
        client: client(r),
        topics: topics(r),
        partitions: small(r.get("kafka.partitions", "12", number(1..=10_000))),
        replication_factor: small(r.get("kafka.replication_factor", "3", number(1..=15))),
    };
    if let Err(error) = kafka.check() {
        r.problems.push(error.to_string());
    }
    kafka
}

/// librdkafka's own settings; a secret's value may stand in a file.
fn client(r: &mut Reader) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for name in r.below("kafka.client.") {
        let base = name.strip_suffix("_file").filter(|base| is_secret(base)).unwrap_or(&name);
        let key = format!("kafka.client.{base}");
        let value = if is_secret(base) {
            r.secret(&key).map(|secret| secret.0)
        } else {
            r.optional(&key, |raw| Ok(raw.to_owned()))
        };
        properties.extend(value.map(|value| (base.to_owned(), value)));
    }
    properties
}

fn topics(r: &mut Reader) -> Topics {
    let mut seen: Vec<String> = Vec::new();
    let mut topic = |name: &str, default: &str| {
        let key = format!("kafka.topics.{name}");
        let topic = r.get(&key, default, topic_name);
        if seen.contains(&topic) {
            r.problem_with(
                &key,
                &format!("is `{topic}`, which another of kafka.topics is too: use one topic for each"),
            );
        }
        seen.push(topic.clone());
        topic
    };
    Topics {
        usage: topic("usage", "credit.usage"),
        policies: topic("policies", "credit.policies"),
        decisions: topic("decisions", "credit.decisions"),
        alerts: topic("alerts", "credit.alerts"),
        purchases: topic("purchases", "credit.purchases"),
        dead_letters: topic("dead_letters", "credit.dead-letters"),
    }
}

fn store(r: &mut Reader) -> Store {
    Store { dir: PathBuf::from(r.get("store.dir", "./data", text)) }
}

fn gate(r: &mut Reader) -> Gate {
    let actions = [("allow", Action::Allow), ("block", Action::Block)];
    let stale = [("keep", WhenStale::Keep), ("allow", WhenStale::Allow), ("block", WhenStale::Block)];
    let statuses = [("403", 403), ("402", 402), ("429", 429)];
    Gate {
        listen: r.get("gate.listen", "127.0.0.1:8090", loopback),
        probe_listen: r.optional("gate.probe_listen", address),
        rules: Rules {
            unknown: r.get("gate.unknown", "allow", one_of(&actions)),
            stale: r.get("gate.stale", "keep", one_of(&stale)),
            stale_after: r.get("gate.stale_after", "60s", duration),
        },
        block_status: r.get("gate.block_status", "403", one_of(&statuses)),
    }
}

fn log_settings(r: &mut Reader) -> Log {
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let level = |raw: &str| log::check_level(raw).map(|()| raw.to_owned()).map_err(|error| error.wanted);
    Log { level: r.get("log.level", "info", level), format: r.get("log.format", "auto", one_of(&formats)) }
}

fn url(raw: &str) -> Parsed<String> {
    let rest = raw.strip_prefix("http://").or_else(|| raw.strip_prefix("https://"));
    match rest {
        Some(rest) if rest.contains('@') => {
            Err("must not hold a password: use registry.username and registry.password_file".into())
        }
        Some(rest) if !rest.is_empty() => Ok(raw.trim_end_matches('/').to_owned()),
        _ => Err("must be an address such as http://127.0.0.1:8081".into()),
    }
}

fn memory(raw: &str) -> Parsed<u64> {
    let bytes = size(raw)?;
    if bytes >= MEMORY_BYTES_MIN { Ok(bytes) } else { Err("must be at least 64MiB".into()) }
}

fn address(raw: &str) -> Parsed<SocketAddr> {
    raw.trim().parse().map_err(|_| "must be an address and port such as 127.0.0.1:8080".into())
}

fn loopback(raw: &str) -> Parsed<SocketAddr> {
    let address = address(raw)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err("must be a loopback address, for there is no authentication yet: listen on 127.0.0.1 and put a proxy that \
         authenticates before it"
        .into())
}

fn host_and_port(raw: &str) -> Parsed<String> {
    let legal = raw.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains([' ', '/']) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if legal { Ok(raw.to_owned()) } else { Err("must be host:port".into()) }
}

fn topic_name(raw: &str) -> Parsed<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=249).contains(&raw.len()) && raw.bytes().all(legal) && raw != "." && raw != "..";
    if fits { Ok(raw.to_owned()) } else { Err("must be a topic's name: 1 to 249 of A-Z a-z 0-9 . _ -".into()) }
}
