//! The imperative shell around the pure core: ports, tasks, the loop of a worker and its recovery.
//!
//! `worker` turns; `intake` judges a record; `task` folds, proposes and persists; `orgs` decides; `recovery` fences and
//! checks before a partition is spoken for; `ports` are the log's two ends.

pub mod checksum;
pub mod intake;
pub mod letters;
pub mod metadata;
pub mod orgs;
pub mod ports;
pub mod recovery;
pub mod settings;
pub mod task;
pub mod trusted_clock;
pub mod worker;
