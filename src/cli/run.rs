//! `tallyman run`: an instance against a real Kafka, until a signal ends it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::app::{App, Wiring};
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::kafka::OffsetKeeper;
use crate::processor::settings::AdoptFrom;

/// Arguments of `tallyman run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Go on although the group has no committed offset beside a store or decisions: `store` if what follows the
    /// store's position was never published, `end` if all that the log holds was.
    #[arg(long, value_enum)]
    pub adopt_from: Option<Adopt>,
}

/// `--adopt-from`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Adopt {
    /// Publish what follows the store's position.
    Store,
    /// Publish only what follows the log's end.
    End,
}

/// Runs until SIGTERM or SIGINT; a second one aborts.
///
/// # Errors
/// When the instance cannot start or a worker cannot go on.
pub fn run(settings: &Settings, args: &RunArgs) -> anyhow::Result<()> {
    let adopt_from = args.adopt_from.map(|from| match from {
        Adopt::Store => AdoptFrom::Store,
        Adopt::End => AdoptFrom::End,
    });
    let wiring =
        Wiring { clock: Arc::new(SystemClock), offsets: OffsetKeeper::Broker, check_topics: true, adopt_from };
    let app = App::start(settings, wiring)?;
    stop_on_signal(&app)?;
    app.wait()?;
    Ok(())
}

/// The first SIGTERM or SIGINT drains, the second aborts.
///
/// # Errors
/// When the operating system refuses a handler.
pub fn stop_on_signal(app: &App) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let _guard = app.runtime().enter();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let stop = app.stop_flag();
    app.runtime().spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        stop.store(true, Ordering::Relaxed);
        next().await;
        tracing::warn!("a second signal: ending without a drain; what is not persisted is replayed");
        std::process::exit(1);
    });
    Ok(())
}
