//! `tallyman bench` on a real Kafka that this starts: the drain, the latency at three rates, and the questions. `make bench` runs
//! it. A count of events as its argument, 2,000,000 by default; a small one makes a short run of everything.

#[path = "../tests/support/mod.rs"]
mod support;

use support::kafka::Kafka;
use tallyman::app::bench::bench;
use tallyman::cli::bench::{BenchCommand, DrainArgs, LatencyArgs, QueryArgs};
use tallyman::config;

/// Fewer events than this are a short run.
const SHORT: u64 = 100_000;

fn main() {
    // `cargo bench` adds flags of its own.
    let events = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2_000_000);
    let kafka = Kafka::shared();
    // Behind the broker, which would inherit it.
    tallyman::memory::set_up();
    let dir = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[kafka]\nbootstrap_servers = \"{}\"\npartitions = 4\nreplication_factor = 1\n[store]\ndir = \"{}\"\n[limits]\ndefault = \"allow\"\n",
        kafka.bootstrap_servers(),
        dir.path().display()
    );
    let settings = config::resolve(Some(("bench.toml", &text)), []).expect("the settings are legal");
    let (rounds, seconds) = if events < SHORT { (1, 1) } else { (5, 20) };
    let latency = |rate| BenchCommand::Latency(LatencyArgs { rate, seconds, rounds: rounds.min(3) });
    let rates: &[u64] = if events < SHORT { &[1_000] } else { &[5_000, 15_000, 50_000] };
    let mut commands = vec![BenchCommand::Drain(DrainArgs { events, orgs: 1_000, rounds })];
    commands.extend(rates.iter().map(|rate| latency(*rate)));
    commands.push(BenchCommand::Query(QueryArgs { facts: events.min(1_000_000), times: 50 }));
    commands.push(BenchCommand::Query(QueryArgs { facts: events.min(10_000), times: 50 }));
    for command in commands {
        bench(&settings, &command).expect("it can be measured");
        println!();
    }
}
