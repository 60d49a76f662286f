//! How a part of an instance that ends by itself, by an error or a panic, ends the whole: a process that lives on without
//! it would look alive and do nothing. It never restarts anything: another instance, or the next start, goes on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::processor::worker::{Shared, WorkerError};

/// Asks the instance to drain and end when it is dropped: at the end of what holds it, be it a return or a panic.
pub(super) struct EndsAll(pub(super) Arc<AtomicBool>);

impl Drop for EndsAll {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs worker `number` to its end, which is logged, shown in `/readyz`, and ends the instance.
///
/// # Errors
/// The worker's own, or [`WorkerError::Panicked`].
pub(super) fn run(
    number: usize,
    shared: &Shared,
    work: impl FnOnce() -> Result<(), WorkerError>,
) -> Result<(), WorkerError> {
    let _ends_all = EndsAll(Arc::clone(&shared.stop));
    // What a panic leaves half done is in memory alone, and goes with the worker (Law 3).
    let ended = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(WorkerError::Panicked { worker: number, message: message_of(&*panic) }));
    if let Err(error) = &ended {
        shared.health.failed(error.to_string());
        tracing::error!("{error}");
    }
    ended
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Shelf;
    use crate::telemetry::{Health, Telemetry};

    fn shared() -> Shared {
        Shared {
            shelf: Shelf::default(),
            telemetry: Telemetry::default(),
            health: Health::new(0),
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    #[test]
    fn a_worker_that_panics_fails_the_instance_and_ends_it() {
        let shared = shared();
        let ended = run(3, &shared, || panic!("row {} is gone", 7));
        let said = "worker 3 panicked: row 7 is gone. This is a fault of tallyman: report it with the log. Start it \
                    again; nothing that was committed is lost";
        assert_eq!(ended.map_err(|error| error.to_string()), Err(said.to_owned()));
        assert_eq!(shared.health.ready(), Err(vec![said.to_owned()]));
        assert!(shared.stop.load(Ordering::Relaxed));
    }

    #[test]
    fn a_worker_that_ends_without_an_error_ends_the_instance_too() {
        let shared = shared();
        assert!(run(0, &shared, || Ok(())).is_ok());
        assert_eq!(shared.health.ready(), Ok(()));
        assert!(shared.stop.load(Ordering::Relaxed));
    }
}
