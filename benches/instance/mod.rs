//! One instance on a real Kafka, as the benches of the whole processor start it, and the policies of its orgs. It measures
//! nothing itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tallyman::app::{App, Wiring};
use tallyman::clock::SystemClock;
use tallyman::codec::{ValueEncoding, encode_terms};
use tallyman::config;
use tallyman::domain::credits::Credits;
use tallyman::domain::terms::{LimitMode, OrgPolicy, OrgStatus, TermsRecord};
use tallyman::domain::time::Timestamp;
use tallyman::kafka::{KafkaSettings, OffsetKeeper, Producer, Sent};
use tallyman::processor::settings::AdoptFrom;

/// The same allocator as the binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Partitions of each topic.
pub const PARTITIONS: i32 = 4;

/// An instance with its store in `dir`; `limits` are further lines of `[limits]`.
pub fn start(kafka: &KafkaSettings, dir: &Path, limits: &str, adopt_from: Option<AdoptFrom>) -> App {
    let text = format!(
        "[kafka]\nbootstrap_servers = \"{}\"\n[store]\ndir = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [limits]\ndefault = \"allow\"\n{limits}",
        kafka.bootstrap_servers,
        dir.display()
    );
    let mut settings = config::resolve(Some(("bench.toml", &text)), []).expect("the settings are legal");
    settings.kafka = kafka.clone();
    let wiring =
        Wiring { clock: Arc::new(SystemClock), offsets: OffsetKeeper::Broker, check_topics: true, adopt_from };
    App::start(&settings, wiring).expect("the instance starts")
}

/// Waits until every partition has caught up.
pub fn wait_until_ready(app: &App) {
    while app.health().ready().is_err() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Sends a policy with a hard limit of so many micro-credits a month.
pub fn send_policy(kafka: &KafkaSettings, producer: &Producer, org: &str, allowance: i64, thresholds: Vec<i32>) {
    let policy = TermsRecord::OrgPolicy(OrgPolicy {
        org_id: org.to_owned(),
        plan: "bench".into(),
        status: OrgStatus::default(),
        unlimited: false,
        base_allocation: Credits::from_micros(allowance).expect("within bounds"),
        limit_mode: LimitMode::default(),
        soft_extra: Credits::ZERO,
        unlimited_overage: false,
        thresholds,
        anchor_day: 1,
        time_zone: "UTC".into(),
        auto_purchase: None,
        products: Vec::new(),
        credit_price: None,
        overage_price: None,
        currency: None,
        effective_at: Timestamp::from_micros(0),
        updated_by: "bench".into(),
    });
    let mut value = Vec::new();
    encode_terms(&policy, ValueEncoding::Json, &mut value);
    let sent = Sent { key: Some(org.as_bytes()), value: Some(&value), ..Sent::default() };
    producer.send(&kafka.topics.policies, &sent).expect("the broker takes it");
}
