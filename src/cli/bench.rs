//! The arguments of `tallyman bench`; `app::bench` does it.

use clap::{Args, Subcommand};

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Records per second of a full drain, beside the raw drain of the same topic in the same run
    Drain(DrainArgs),
    /// Time from producing an event to seeing its decision, beside a bare echo at the same rate in the same run
    Latency(LatencyArgs),
    /// What a dashboard asks, of a store of a given size; needs no broker
    Query(QueryArgs),
}

/// Arguments of `tallyman bench drain`.
#[derive(Args, Clone, Debug)]
pub struct DrainArgs {
    /// Events of the topic, which occurred over 72 hours
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub events: u64,
    /// Organisations, Zipf
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub orgs: u32,
    /// How often the topic is drained; one more round before them warms the broker up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
}

/// Arguments of `tallyman bench latency`.
#[derive(Args, Clone, Debug)]
pub struct LatencyArgs {
    /// Events per second
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// How long that rate is held
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// How often; one more round before them warms the broker up
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
}

/// Arguments of `tallyman bench query`.
#[derive(Args, Clone, Debug)]
pub struct QueryArgs {
    /// Facts of the organisation that is asked about, over 30 days
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub facts: u64,
    /// How often each question is asked
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub times: u32,
}
