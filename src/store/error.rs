//! What can go wrong with a store, and what to do then. RocksDB's own words stay in the message.

use std::io;
use std::path::{Path, PathBuf};

use crate::codec::store_values::FoldSettings;
use crate::domain::cube::bytes::StoredError;

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
    /// It was written before usage was kept as facts.
    #[error(
        "the store in {path} was written by an earlier version, in a format that this one does not read. Run \
         `tallyman rebuild` to fold the log anew"
    )]
    OldFormat {
        /// Its directory.
        path: PathBuf,
    },
    /// Its files are damaged.
    #[error(
        "the store in {path} is damaged: {problem}. It is only a cache: delete the directory, and it is folded \
         anew from the log"
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
    /// Its disk has no room left.
    #[error(
        "the disk of the store in {path} is full: {problem}. Free space on it, or give the instance that owns the \
         partition a larger one as `store.dir`; nothing is lost, for the log holds it"
    )]
    Full {
        /// Its directory.
        path: PathBuf,
        /// What RocksDB said.
        problem: String,
    },
    /// The place of the stores has less room than they need.
    #[error(
        "the disk of `store.dir` ({path}) has {} MiB free and {} MiB are needed, a quarter of memory.limit. Free space \
         on it, set `store.dir` to a larger disk, or lower memory.limit",
        free >> 20,
        needed.div_ceil(1 << 20)
    )]
    NoSpace {
        /// What was looked at.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// A directory of the stores in which nothing can be written.
    #[error(
        "no store can be written in {path}: {error}. Give the user that runs tallyman the right to write there, or set \
         `store.dir` to another directory"
    )]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The process may open too few files.
    #[error(
        "this process may have {limit} files open, and {needed} are needed for the stores of {partitions} partitions, \
         Kafka and HTTP. Raise the hard limit: `ulimit -n {needed}`, or LimitNOFILE={needed} in a systemd unit"
    )]
    FewFiles {
        /// The limit.
        limit: u64,
        /// The least that does.
        needed: u64,
        /// For so many partitions.
        partitions: u64,
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
            // The first words are RocksDB's for a full disk and for a limit, the others the operating system's.
            _ if says("No space left") || says("Space limit") || says("Disk quota exceeded") => {
                Self::Full { path, problem }
            }
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
