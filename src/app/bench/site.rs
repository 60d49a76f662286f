//! Topics, a directory and instances of a bench's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::{App, AppError, Wiring, nonce};
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::domain::terms::records::DefaultTerms;
use crate::kafka::{self, KafkaSettings, OffsetKeeper, TopicOutcome};
use crate::processor::settings::AdoptFrom;

/// A directory that goes with its owner.
pub(super) struct Directory(PathBuf);

impl Directory {
    /// A new one below `store.dir`, so that what is measured is that disk.
    pub(super) fn new(settings: &Settings) -> std::io::Result<Self> {
        let path = settings.store.dir.join(format!("bench-{}", nonce()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("{} cannot be removed: {error}; remove it by hand", self.0.display());
        }
    }
}

/// Topics of a bench.
pub(super) struct Site {
    settings: Settings,
}

impl Site {
    /// New topics on the broker of `settings`.
    pub(super) fn new(settings: &Settings) -> Result<Self, AppError> {
        let mut settings = settings.clone();
        let name = format!("tallyman-bench-{}", nonce());
        let topics = &mut settings.kafka.topics;
        for (topic, suffix) in [
            (&mut topics.usage, "usage"),
            (&mut topics.policies, "policies"),
            (&mut topics.decisions, "decisions"),
            (&mut topics.alerts, "alerts"),
            (&mut topics.purchases, "purchases"),
            (&mut topics.dead_letters, "dead-letters"),
        ] {
            *topic = format!("{name}.{suffix}");
        }
        settings.kafka.group_id = name;
        settings.http.listen = ([127, 0, 0, 1], 0).into();
        settings.http.probe_listen = None;
        settings.limits_default = Some(DefaultTerms::Allow);
        // What was made goes with it, also when not all could be made.
        let site = Self { settings };
        for report in kafka::create_topics(&site.settings.kafka)? {
            if let TopicOutcome::Failed(reason) = report.outcome {
                return Err(AppError::Topics(format!("topic {} cannot be made: {reason}", report.topic)));
            }
        }
        Ok(site)
    }

    pub(super) const fn kafka(&self) -> &KafkaSettings {
        &self.settings.kafka
    }

    /// The name of a new group.
    pub(super) fn group(&self) -> String {
        format!("{}-{}", self.settings.kafka.group_id, nonce())
    }

    /// An instance of that group with its stores in `dir`; a new group begins at the start of the log.
    pub(super) fn start(&self, group: &str, dir: &Path) -> Result<App, AppError> {
        let mut settings = self.settings.clone();
        group.clone_into(&mut settings.kafka.group_id);
        dir.clone_into(&mut settings.store.dir);
        // Another round's decisions stand in the control topic.
        let adopt_from = Some(AdoptFrom::Store);
        let wiring =
            Wiring { clock: Arc::new(SystemClock), offsets: OffsetKeeper::Broker, check_topics: true, adopt_from };
        App::start(&settings, wiring)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Err(error) = kafka::delete_topics(&self.settings.kafka) {
            tracing::warn!("the topics of {} cannot be deleted: {error}", self.settings.kafka.group_id);
        }
    }
}
