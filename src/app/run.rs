//! What `tallyman run` does: an instance against a real Kafka, until a signal ends it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{App, AppError, Wiring};
use crate::cli::run::{Adopt, RunArgs};
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::kafka::OffsetKeeper;
use crate::processor::settings::AdoptFrom;

/// Runs until SIGTERM or SIGINT; a second one aborts.
///
/// # Errors
/// When the instance cannot start or a worker cannot go on.
pub fn run(settings: &Settings, args: &RunArgs) -> Result<(), AppError> {
    let adopt_from = args.adopt_from.map(|from| match from {
        Adopt::Store => AdoptFrom::Store,
        Adopt::End => AdoptFrom::End,
    });
    let wiring =
        Wiring { clock: Arc::new(SystemClock), offsets: OffsetKeeper::Broker, check_topics: true, adopt_from };
    let app = App::start(settings, wiring)?;
    stop_on_signal(&app)?;
    app.wait()
}

/// The first SIGTERM or SIGINT drains, the second aborts.
///
/// # Errors
/// When the operating system refuses a handler.
pub fn stop_on_signal(app: &App) -> Result<(), AppError> {
    use tokio::signal::unix::{SignalKind, signal};
    let _guard = app.runtime().enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
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
