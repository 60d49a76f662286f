//! What `tallyman bench` does: measures this machine and broker with topics and stores of its own, and removes them. It never
//! touches the topics, the group or the stores of the settings.

mod drain;
mod latency;
mod machine;
mod query;
mod site;

use std::time::Duration;

use super::AppError;
use crate::cli::bench::BenchCommand;
use crate::config::Settings;
pub use latency::send_policy;

/// Measures and prints.
///
/// # Errors
/// When the broker or the disk refuses.
pub fn bench(settings: &Settings, command: &BenchCommand) -> Result<(), AppError> {
    match command {
        BenchCommand::Drain(args) => drain::drain(settings, args),
        BenchCommand::Latency(args) => latency::latency(settings, args),
        BenchCommand::Query(args) => query::query(settings, args),
    }
}

/// The least, the middle and the greatest of some figures.
fn spread(figures: &mut [f64]) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    [figures[0], figures[figures.len() / 2], figures[figures.len() - 1]]
}

/// The time below which that many of a hundred of the sorted `times` are, in milliseconds.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    let place = times.len().saturating_sub(1) * percent / 100;
    times.get(place).map_or(f64::NAN, Duration::as_secs_f64) * 1e3
}
