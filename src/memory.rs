//! The memory of the process: its allocators, and what they are asked to give back (Law 6).
#![allow(unsafe_code, reason = "the C library's allocator is set up by a call without a safe wrapper")]

/// Buffers of a flush come and go: a tenth of a drain when it was measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The most arenas of the C library's allocator, which librdkafka and RocksDB use from some dozen threads. Each arena keeps what
/// it once needed: without a bound a drain of 1 M events peaked at 1.6 GB instead of 1.0.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS_MAX: libc::c_int = 4;

/// Sets the allocators up; to be called before threads are started.
pub fn set_up() {
    // With transparent huge pages a sparsely used buffer takes, and clears, 2 MiB where it needs a few pages: a drain took half as
    // much processor time again. A kernel without them has nothing to refuse.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // SAFETY: `mallopt` takes two numbers and sets a parameter; a number that it does not know it refuses.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX);
    }
}
