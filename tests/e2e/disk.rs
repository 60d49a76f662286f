//! A disk without room: its partitions halt and say so, questions are answered with what is so, and when there is room again all
//! goes on by itself. `tests/simulator/disk.rs` does it to one partition alone.
//!
//! The disk is a small one in memory that only the instance sees, where this machine lets somebody make one. Everywhere, files that
//! must not grow stand for it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, prlimit};
use tallyman::codec::Decoder;

use crate::audit::Audit;
use crate::exact::{check_answers, wait_for_stores};
use crate::support::{Instance, PATIENCE, Site, TALLYMAN, kafka};

/// Runs "$@" with a small disk of its own at $1.
const MOUNTED: &str = "mount -t tmpfs -o size=96m tmpfs \"$1\" && shift && exec \"$@\"";
/// Runs "$@" so that a file that must not grow is an error, not the end.
const UNTRAPPED: &str = "trap '' XFSZ; shift; exec \"$@\"";

/// How a process gets a mount of its own on this machine, if it does: as root, or as root of a namespace of users.
fn unshare() -> Option<&'static str> {
    ["-m", "-rm"].into_iter().find(|flags| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.arg(flags).args(["sh", "-c", MOUNTED, "sh"]).arg(dir.path()).arg("true");
        command.output().is_ok_and(|done| done.status.success())
    })
}

/// Lets usage come until both partitions have halted: a store that is not written does not know. The reasons that it gives.
fn halts(site: &Site, instance: &Instance) -> String {
    let deadline = Instant::now() + PATIENCE;
    for seed in 1_000.. {
        let (_, body) = instance.get("/readyz");
        if ["partition 0", "partition 1"].iter().all(|one| body.contains(&format!("{one} is halted (store)"))) {
            return body;
        }
        assert!(Instant::now() < deadline, "they do not halt: {body}");
        site.tell(&["produce", "--seed", &seed.to_string(), "--count", "1000", "--orgs", "50"]);
    }
    unreachable!("the deadline comes first")
}

/// An instance and what takes its disk's room.
struct Stage {
    // Dropped before its site, which holds its log.
    instance: Instance,
    site: Site,
    /// Where a file fills the disk; without one its files must not grow.
    filler: Option<PathBuf>,
}

impl Stage {
    fn set(test: &str, own_disk: Option<&str>) -> Self {
        let kafka = kafka().with_topics(test, 2);
        let site = Site::new(&kafka, &[("memory.limit", "\"64MiB\"")]);
        let data = site.path("data");
        fs::create_dir(&data).unwrap();
        let shell = own_disk.map_or(vec!["sh"], |flags| vec!["unshare", flags, "sh"]);
        let mut command: Vec<String> = shell.into_iter().map(str::to_owned).collect();
        let script = if own_disk.is_some() { MOUNTED } else { UNTRAPPED };
        command.extend(["-c", script, "sh"].map(str::to_owned));
        command.push(data.display().to_string());
        command.extend([TALLYMAN, "--config"].map(str::to_owned));
        command.extend([site.path("tallyman.toml").display().to_string(), "run".to_owned()]);
        let instance = site.serve_as("run", &command);
        let root = format!("/proc/{}/root", instance.running.pid().as_raw_nonzero());
        let filler = own_disk.map(|_| PathBuf::from(format!("{root}{}", data.join("filler").display())));
        Self { instance, site, filler }
    }

    fn fill(&self) {
        let Some(path) = &self.filler else { return self.allow_files_of(Some(0)) };
        let mut filler = File::create(path).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        match &self.filler {
            Some(path) => fs::remove_file(path).unwrap(),
            None => self.allow_files_of(None),
        }
    }

    fn allow_files_of(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.instance.running.pid()), Resource::Fsize, limit).unwrap();
    }

    fn refuses_and_goes_on(self) {
        let Self { site, instance, .. } = &self;
        instance.wait_until_ready(PATIENCE);
        site.tell(&["produce", "--seed", "91", "--count", "20000", "--orgs", "50"]);
        site.wait_for_the_end(PATIENCE);
        self.fill();
        site.tell(&["produce", "--seed", "92", "--count", "200000", "--orgs", "50"]);
        let body = halts(site, instance);
        assert!(body.contains("goes on by itself"), "{body}");
        assert!(self.filler.is_none() || body.contains("Free space"), "{body}");
        let (status, body) = instance.get("/v1/orgs/org-0000");
        assert_eq!(status, 503);
        assert!(body.contains("is halted (store)") && !body.contains("is being restored"), "{body}");

        self.free();
        instance.wait_until_ready(PATIENCE);
        site.wait_for_the_end(PATIENCE);
        wait_for_stores(&site.kafka, &[instance]);
        let audit = Audit::of(&site.kafka, Decoder::new(None));
        check_answers(&[instance], &audit);
        let took = self.instance.stop();
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn a_full_disk_halts_its_partitions_which_go_on_when_there_is_room() {
    let own_disk = unshare();
    println!("a disk of its own: {own_disk:?}");
    Stage::set("full", own_disk).refuses_and_goes_on();
}

#[test]
fn files_that_must_not_grow_halt_their_partitions_which_go_on_when_they_may() {
    Stage::set("not-grow", None).refuses_and_goes_on();
}
