//! Whether the place of the stores can hold them: rights, space and open files. It is looked at before an instance takes
//! partitions from another one, for a store that cannot be opened halts its partition. It makes nothing but the
//! directory itself.

use std::io::{self, Write as _};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::StoreError;
use super::task_store::partitions;

/// Open files for all but stores: connections to Kafka, HTTP, logs.
const FILES_BESIDE: u64 = 256;
/// Open files of one store at least: its logs and lock, and what it reads and compacts at once.
const FILES_OF_STORE_MIN: u64 = 64;
/// Open files of one store at most: more are closed and opened again when they are read.
const FILES_OF_STORE_MAX: u64 = 256;
/// Of the memory for stores so much must be free on their disk: what write buffers hold goes there at once, and is merged
/// with as much.
const SPACE_SHARE: u64 = 2;

/// Bytes that must be free on the disk of the stores, when all of them share so many bytes of memory.
#[must_use]
pub const fn space_needed(store_memory_bytes: u64) -> u64 {
    store_memory_bytes / SPACE_SHARE
}

/// Makes `dir` where it is missing, and checks it as [`check_place`] does.
///
/// # Errors
/// As [`check_place`].
pub fn prepare_place(dir: &Path, space_needed: u64) -> Result<(), StoreError> {
    std::fs::create_dir_all(dir).map_err(|error| StoreError::Unwritable { path: dir.to_owned(), error })?;
    check_place(dir, space_needed)
}

/// Checks that stores below `dir` can be written, those that are there and new ones, and that so many bytes are free. A
/// directory that is missing is not made: then the nearest one above it is looked at.
///
/// # Errors
/// [`StoreError::Unwritable`] and [`StoreError::NoSpace`]; [`StoreError::Io`] when the disk says nothing.
pub fn check_place(dir: &Path, space_needed: u64) -> Result<(), StoreError> {
    let nearest = dir.ancestors().find(|path| path.exists()).filter(|path| !path.as_os_str().is_empty());
    let nearest = nearest.unwrap_or(Path::new("."));
    check_writable(nearest).map_err(|error| StoreError::Unwritable { path: dir.to_owned(), error })?;
    if nearest == dir {
        for partition in partitions(dir)? {
            let path = dir.join(format!("p{partition}"));
            check_writable(&path).map_err(|error| StoreError::Unwritable { path, error })?;
        }
    }
    check_space(nearest, space_needed)
}

/// Checks that so many bytes are free on the disk that holds `dir`.
///
/// # Errors
/// [`StoreError::NoSpace`]; [`StoreError::Io`] when the disk says nothing.
pub fn check_space(dir: &Path, needed: u64) -> Result<(), StoreError> {
    let free = free_bytes(dir)?;
    if free < needed { Err(StoreError::NoSpace { path: dir.to_owned(), free, needed }) } else { Ok(()) }
}

/// Bytes that are free on the disk that holds `dir`, for a process without special rights.
///
/// # Errors
/// [`StoreError::Io`] when the disk says nothing.
pub fn free_bytes(dir: &Path) -> Result<u64, StoreError> {
    let told = rustix::fs::statvfs(dir);
    let disk = told.map_err(|error| StoreError::Io { path: dir.to_owned(), problem: error.to_string() })?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// A file can be made and filled there: rights alone do not tell (a read-only disk, a quota, no inode left).
fn check_writable(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".tallyman-probe-{}", std::process::id()));
    let written = std::fs::File::create(&probe).and_then(|mut file| file.write_all(&[0; 4096]));
    let removed = std::fs::remove_file(&probe);
    written.and(removed)
}

/// Raises this process's limit of open files as far as it may, and gives how many of them each of the stores of
/// `partitions` may have open.
///
/// # Errors
/// [`StoreError::FewFiles`] when they are too few for all partitions: another instance's come too when it ends.
pub fn open_files_of_store(partitions: i32) -> Result<i32, StoreError> {
    let limit = raise_files();
    let partitions = u64::from(partitions.unsigned_abs().max(1));
    let share = limit.saturating_sub(FILES_BESIDE) / partitions;
    if share < FILES_OF_STORE_MIN {
        let needed = FILES_BESIDE + FILES_OF_STORE_MIN * partitions;
        return Err(StoreError::FewFiles { limit, needed, partitions });
    }
    Ok(i32::try_from(share.min(FILES_OF_STORE_MAX)).unwrap_or(i32::MAX))
}

/// The limit of open files, raised from the soft to the hard one.
fn raise_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        // Where it is refused the soft limit holds.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_can_be_written_passes_and_is_left_as_it_was() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        check_place(&dir.path().join("not/yet"), 1).expect("the nearest one is written");
        prepare_place(&dir.path().join("not/yet"), 1).expect("it can be made");
        std::fs::create_dir(dir.path().join("not/yet/p3")).expect("it can be written");
        check_place(&dir.path().join("not/yet"), 1).expect("all is well");
        let left: Vec<_> = std::fs::read_dir(dir.path().join("not/yet")).expect("it is there").collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_refused_by_its_path() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("file"), "no directory").expect("it can be written");
        std::fs::write(dir.path().join("p7"), "no directory").expect("it can be written");
        for (place, named) in [(dir.path().join("file"), "file"), (dir.path().to_owned(), "p7")] {
            let error = check_place(&place, 1).expect_err("it is no directory");
            assert!(matches!(error, StoreError::Unwritable { .. }), "{error}");
            assert!(error.to_string().contains(named) && error.to_string().contains("store.dir"), "{error}");
        }
        // Not even root makes a file there.
        let error = prepare_place(Path::new("/proc/tallyman/data"), 1).expect_err("it cannot be made");
        assert!(error.to_string().contains("/proc/tallyman/data"), "{error}");
        let error = check_place(Path::new("/proc/tallyman/data"), 1).expect_err("it cannot be made").to_string();
        assert!(error.contains("/proc/tallyman/data"), "{error}");
    }

    #[test]
    fn a_disk_with_too_little_space_is_refused_with_what_it_has_and_needs() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let error = check_place(dir.path(), 1 << 60).expect_err("no disk has that").to_string();
        assert!(error.contains("1099511627776 MiB are needed") && error.contains("memory.limit"), "{error}");
    }

    #[test]
    fn too_few_open_files_are_refused_with_how_many_are_needed() {
        let error = open_files_of_store(i32::MAX).expect_err("no machine allows that").to_string();
        assert!(error.contains("137438953664") && error.contains("ulimit -n"), "{error}");
        assert!(open_files_of_store(1).is_ok_and(|files| files >= 64));
    }
}
