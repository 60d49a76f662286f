//! A gateway in Rust: follows the decisions in memory and asks the table before each request. Run it beside `make demo`:
//!
//! ```sh
//! cargo run --release --example gateway -- 127.0.0.1:9092 acme user=ada model=sage-4
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::gateway::table::{Request, Rules};
use tallyman::gateway::{Gateway, Source};
use tallyman::kafka::KafkaSettings;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: gateway BROKERS ORG [DIMENSION=VALUE ...]";
    let (brokers, org) = args.next().zip(args.next()).ok_or(usage)?;
    let values: Vec<String> = args.collect();

    // What a gateway does once, when it starts: TLS, SASL and other topic names go into the same settings.
    let kafka = KafkaSettings { bootstrap_servers: brokers, ..KafkaSettings::default() };
    let gateway = Gateway::start(Source::new(kafka), Rules::default())?;
    gateway.wait_until_ready(Duration::from_secs(30))?;

    // What it does for each request: no I/O, no lock.
    let mut request = Request::of(&org);
    for pair in &values {
        let (name, value) = pair.split_once('=').ok_or(usage)?;
        request = request.with(Dimension::from_name(name).ok_or(usage)?, value);
    }
    let began = Instant::now();
    let verdict = gateway.check(&request);
    let took = began.elapsed();

    println!("{} because of {} (asked in {took:?})", verdict.action().name(), verdict.reason());
    if let Some(decision) = verdict.decision() {
        let left = decision.figures.remaining.map_or("no end of".to_owned(), |left| left.to_string());
        println!("told: {}, {left} credits left", verdict.scope().unwrap_or_default());
    }
    if verdict.is_blocked() {
        println!(
            "ask again at {}",
            verdict.reset_at().map_or("nobody knows".into(), |at: Timestamp| at.to_string())
        );
        std::process::exit(1);
    }
    Ok(())
}
