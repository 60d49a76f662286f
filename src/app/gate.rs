//! What `tallyman gate` does: follows the decisions and answers checks, until a signal ends it. It has no store, joins no
//! group and writes nothing, so any number of them may run, one beside each gateway.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{AppError, FOLLOWER, listen, registry_client, told};
use crate::cli::gate::GateArgs;
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::gateway::{Gateway, Source};
use crate::http::{self, Gate};
use crate::telemetry::Telemetry;

/// Time between two looks at whether the decisions are still followed.
const LOOK: Duration = Duration::from_millis(500);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the settings cannot be used, the address is taken, or the decisions are no longer followed. Kafka may be out of reach: it is tried again, and `/readyz`
/// says so.
pub fn gate(settings: &Settings, _args: &GateArgs) -> Result<(), AppError> {
    let address = settings.gate.listen;
    http::check_listen(address)?;
    let (telemetry, clock) = (Telemetry::of_gate(), Arc::new(SystemClock));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listeners = runtime.block_on(listen(address, settings.gate.probe_listen))?;
    let source = Source {
        kafka: settings.kafka.clone(),
        registry: registry_client(&settings.registry)?,
        clock: clock.clone(),
        telemetry: telemetry.clone(),
    };
    let gateway = Gateway::start(source, settings.gate.rules)?;
    let gate = Gate::new(gateway.table(), telemetry.clone(), clock, settings.gate.block_status);
    telemetry.started(&told(&listeners)?);
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let unfollowed = async {
            while gateway.is_following() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let asked = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = unfollowed => {}
            }
            telemetry.stopping("finishing what is under way");
        };
        http::serve_gate(listeners, gate, asked).await?;
        if gateway.is_following() { Ok(()) } else { Err(AppError::Panicked(FOLLOWER)) }
    })
}
