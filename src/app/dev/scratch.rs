//! A directory that goes when the demo ends, also by a signal: the first one asks for an orderly end, the second one
//! removes the directory and ends the process at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// The directory, and the thread that listens for signals.
pub(super) struct Scratch {
    path: PathBuf,
    _signals: tokio::runtime::Runtime,
}

impl Scratch {
    /// A new directory; from now on a signal sets `stop`.
    pub(super) fn new(stop: &Arc<AtomicBool>) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tallyman-dev-{}", std::process::id()));
        let signals = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (mut interrupt, mut terminate) = {
            let _guard = signals.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        // Before the directory is: no signal finds it unheard.
        let (stop, dir) = (Arc::clone(stop), path.clone());
        signals.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if stop.swap(true, Ordering::Relaxed) {
                    let _ = std::fs::remove_dir_all(&dir);
                    std::process::exit(1);
                }
            }
        });
        std::fs::create_dir(&path)?;
        Ok(Self { path, _signals: signals })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!("{} cannot be removed: {error}; remove it by hand", self.path.display());
        }
    }
}
