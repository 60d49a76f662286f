//! What can go wrong with a store, and what to do then. RocksDB's own words stay in the message.

use std::path::{Path, PathBuf};

use crate::codec::store_bytes::StoredError;
use crate::codec::store_values::FoldSettings;
use crate::domain::view::View;

/// A store that cannot be used, or not as it is.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It was folded with other settings (Law 2).
    #[error(
        "the store in {path} was folded with other settings: {differences}. Give the old settings back, or run \
         `tallyman rebuild` to fold the log anew with these"
    )]
    OtherSettings {
        /// Its directory.
        path: PathBuf,
        /// What differs, for people.
        differences: String,
    },
    /// Its files are damaged.
    #[error(
        "the store in {path} is damaged: {problem}. It is only a cache: delete the directory (or run `tallyman \
         rebuild`), and it is folded anew from the log"
    )]
    Corrupt {
        /// Its directory.
        path: PathBuf,
        /// What RocksDB or the codec found.
        problem: String,
    },
    /// Somebody else has it open.
    #[error(
        "the store in {path} is in use: {problem}. Stop the other process, or give this one its own `store.dir`"
    )]
    InUse {
        /// Its directory.
        path: PathBuf,
        /// What RocksDB said.
        problem: String,
    },
    /// A closed store whose readers do not come to an end.
    #[error(
        "the store in {path} is still being read after {seconds} s; end the queries on it, then start it again"
    )]
    StillRead {
        /// Its directory.
        path: PathBuf,
        /// How long the close waited.
        seconds: u64,
    },
    /// The disk or the operating system refused.
    #[error("the store in {path} cannot be read or written: {problem}. Check the disk's space, rights and health")]
    Io {
        /// Its directory.
        path: PathBuf,
        /// What RocksDB said.
        problem: String,
    },
}

impl StoreError {
    /// Tells what a RocksDB error means for the store in `path`.
    pub(super) fn of(path: &Path, error: &rocksdb::Error) -> Self {
        let (path, problem) = (path.to_owned(), error.to_string());
        // RocksDB has no kind of its own for a held lock, nor for a file that its manifest names and that is gone.
        let says = |text: &str| problem.contains(text);
        match error.kind() {
            _ if says("lock hold by current process") || says("While lock file") => Self::InUse { path, problem },
            rocksdb::ErrorKind::Corruption => Self::Corrupt { path, problem },
            rocksdb::ErrorKind::IOError if says("No such file") => Self::Corrupt { path, problem },
            _ => Self::Io { path, problem },
        }
    }

    /// Bytes in the store that are no value.
    pub(super) fn stored(path: &Path, error: StoredError) -> Self {
        Self::Corrupt { path: path.to_owned(), problem: error.to_string() }
    }
}

/// What differs between the settings of a store and those of the config, for people; `None` when nothing does.
pub(super) fn differences(stored: &FoldSettings, wanted: &FoldSettings) -> Option<String> {
    let mut found = Vec::new();
    let mut views = |of: &[View], not_in: &[View], what: &str| {
        for view in of.iter().filter(|view| !not_in.contains(view)) {
            let dimensions: Vec<_> = view.dimensions.iter().map(|dimension| dimension.name()).collect();
            let bucket = view.bucket.name();
            found.push(format!("view `{}` ({}) by {bucket} was {what}", view.name, dimensions.join(", ")));
        }
    };
    views(&stored.views, &wanted.views, "removed");
    views(&wanted.views, &stored.views, "added");
    if found.is_empty() && stored.views != wanted.views {
        found.push("the order of the views changed".to_owned());
    }
    let mut number = |what: &str, stored: i64, wanted: i64, unit: &str| {
        if stored != wanted {
            found.push(format!("{what} {stored}{unit} -> {wanted}{unit}"));
        }
    };
    number("dedupe.window", stored.dedupe_window, wanted.dedupe_window, " us");
    number("time.max_future", stored.max_future, wanted.max_future, " us");
    number("time.max_age", stored.max_age, wanted.max_age, " us");
    number("codec version", stored.codec_version.into(), wanted.codec_version.into(), "");
    if stored.rates != wanted.rates {
        found.push(format!("`limits.guard` was {}", if wanted.rates { "set" } else { "taken away" }));
    }
    (!found.is_empty()).then(|| found.join("; "))
}
