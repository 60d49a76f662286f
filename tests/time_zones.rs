//! Which time-zone database a process uses, and that it says so: the one that is compiled in, or that of the machine.

use std::path::Path;
use std::process::Command;

/// A zone without transitions, as a database keeps it.
const UTC: &[u8] = b"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\0\0\0UTC\0\
    TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\0\0\0UTC\0\nUTC0\n";

/// Exit code, standard output and standard error of `check-config` with that zone as the default's.
fn checked(zones: &str, folder: &Path, zone: &str, more: &[&str]) -> (i32, String, String) {
    let config = folder.join("tallyman.toml");
    let text = format!("[time]\nzones = '{zones}'\n[limits.default]\nunlimited = true\ntime_zone = '{zone}'\n");
    std::fs::write(&config, text).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_tallyman"))
        .arg("--config")
        .arg(&config)
        .arg("check-config")
        .args(more)
        .env("TZDIR", folder.join("zoneinfo"))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn the_database_in_use_is_shown_with_its_version_and_the_machines_own_counts_only_where_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("zoneinfo/Mars")).unwrap();
    std::fs::write(folder.path().join("zoneinfo/Mars/Olympus"), UTC).unwrap();
    std::fs::write(folder.path().join("zoneinfo/tzdata.zi"), "# version 2099z\n").unwrap();

    let (code, out, err) = checked("bundled", folder.path(), "Europe/Berlin", &[]);
    assert_eq!(code, 0, "{err}");
    let line = out.lines().find(|line| line.starts_with("time.zones ")).unwrap();
    let version = line.split(['(', ')']).nth(1).unwrap();
    assert!(line.contains("bundled (") && version >= "2026f" && version.len() == 5, "{line}");
    let (code, _, err) = checked("bundled", folder.path(), "Mars/Olympus", &[]);
    assert_eq!(code, 2);
    assert!(err.contains("`limits.default.time_zone` is \"Mars/Olympus\", no IANA time zone"), "{err}");

    let (code, out, err) = checked("system", folder.path(), "Mars/Olympus", &["--output", "json"]);
    assert_eq!(code, 0, "{err}");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&told["time.zones"]["value"], &told["time.zones"]["version"]),
        (&"system".into(), &"2099z".into()),
        "{out}"
    );
    // What the machine's database lacks is taken from the one compiled in.
    assert_eq!(checked("system", folder.path(), "Europe/Berlin", &[]).0, 0);
}

#[test]
fn a_machine_without_a_database_is_told_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = checked("system", folder.path(), "Europe/Berlin", &[]);
    assert_eq!(code, 2);
    assert!(err.contains("tallyman.toml:2: `time.zones` cannot be used: the system's database in "), "{err}");
    std::fs::create_dir(folder.path().join("zoneinfo")).unwrap();
    let (code, _, err) = checked("system", folder.path(), "Europe/Berlin", &[]);
    assert_eq!(code, 2);
    assert!(err.contains("holds no time zone; install tzdata, or set TZDIR"), "{err}");
}
