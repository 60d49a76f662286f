//! Where O* is kept: by the broker, or in process for `tallyman dev`, whose embedded broker forgets transactional
//! offsets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::client::locked;
use crate::processor::ports::{CommitOffset, Committed};

/// Who keeps committed offsets.
#[derive(Clone, Debug, Default)]
pub enum OffsetKeeper {
    /// The group's coordinator: anywhere but in a demo.
    #[default]
    Broker,
    /// This process; clones share it.
    InProcess(Arc<Mutex<HashMap<i32, Committed>>>),
}

impl OffsetKeeper {
    /// One that keeps them in this process.
    #[must_use]
    pub fn in_process() -> Self {
        Self::InProcess(Arc::default())
    }

    /// The kept offsets of `partitions`; `None` when the broker keeps them.
    pub(super) fn kept(&self, partitions: &[i32]) -> Option<Vec<Option<Committed>>> {
        match self {
            Self::Broker => None,
            Self::InProcess(kept) => {
                let kept = locked(kept);
                Some(partitions.iter().map(|partition| kept.get(partition).cloned()).collect())
            }
        }
    }

    /// Keeps what a transaction committed, if that is this process's part.
    pub(super) fn keep(&self, offsets: &[CommitOffset]) {
        if let Self::InProcess(kept) = self {
            let mut kept = locked(kept);
            for commit in offsets {
                kept.insert(
                    commit.partition,
                    Committed { offset: commit.offset, metadata: commit.metadata.clone() },
                );
            }
        }
    }
}
