//! One instance on a real Kafka, as the benches of the whole processor start it. It measures nothing itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tallyman::app::{App, Wiring};
use tallyman::clock::SystemClock;
use tallyman::config;
use tallyman::kafka::{KafkaSettings, OffsetKeeper};
use tallyman::processor::settings::AdoptFrom;

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
