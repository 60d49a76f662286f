//! The system's time-zone database (`time.zones = "system"`), read once and whole: a package that is upgraded later changes
//! nothing in a process that runs. Zones that it lacks are those compiled in.

use std::io;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use crate::domain::zones::Zones;

/// Where systems keep it, unless `TZDIR` names another folder.
const FOLDER: &str = "/usr/share/zoneinfo";
/// Copies with other rules (leap seconds counted) or under other names.
const NOT_ZONES: [&str; 4] = ["posix", "right", "localtime", "posixrules"];
/// The most files that are read, and the most bytes of one (Law 6).
const FILES_MAX: usize = 5_000;
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the system's database.
///
/// # Errors
/// What is missing and where, to follow the setting's name.
pub(super) fn read() -> Result<Zones, String> {
    let folder =
        std::env::var_os("TZDIR").filter(|folder| !folder.is_empty()).map_or(FOLDER.into(), PathBuf::from);
    read_from(&folder)
}

fn read_from(folder: &Path) -> Result<Zones, String> {
    let mut zones = Vec::new();
    walk(folder, "", &mut zones).map_err(|error| {
        format!("cannot be used: the system's database in {} cannot be read: {error}", folder.display())
    })?;
    if zones.is_empty() {
        return Err(format!(
            "cannot be used: {} holds no time zone; install tzdata, or set TZDIR",
            folder.display()
        ));
    }
    let version = version(folder).ok_or_else(|| {
        format!(
            "cannot be used: {} has neither tzdata.zi nor +VERSION, which name the database's version",
            folder.display()
        )
    })?;
    Ok(Zones::new(version, zones))
}

fn walk(folder: &Path, prefix: &str, zones: &mut Vec<(String, TimeZone)>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        if zones.len() >= FILES_MAX || prefix.is_empty() && NOT_ZONES.contains(&&*file) {
            continue;
        }
        let (path, name) = (entry.path(), format!("{prefix}{file}"));
        // Follows links: older names are links to newer ones.
        let Ok(about) = std::fs::metadata(&path) else { continue };
        if about.is_dir() {
            // Two levels at most: America/Argentina/Ushuaia.
            if name.matches('/').count() < 2 {
                walk(&path, &format!("{name}/"), zones)?;
            }
        } else if about.len() <= FILE_BYTES_MAX {
            let bytes = std::fs::read(&path)?;
            if bytes.starts_with(b"TZif") {
                let zone =
                    TimeZone::tzif(&name, &bytes).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
                zones.push((name, zone));
            }
        }
    }
    Ok(())
}

/// `# version 2026f` opens `tzdata.zi`; some systems have a file of nothing else.
fn version(folder: &Path) -> Option<String> {
    let first_line = |file: &str| {
        let text = std::fs::read(folder.join(file)).ok()?;
        Some(String::from_utf8_lossy(text.split(|byte| *byte == b'\n').next()?).trim().to_owned())
    };
    let of_source = first_line("tzdata.zi").and_then(|line| Some(line.strip_prefix("# version ")?.to_owned()));
    of_source.or_else(|| first_line("+VERSION")).filter(|version| !version.is_empty() && version.len() <= 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_zones_or_without_a_version_is_refused_with_what_it_lacks() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = |folder: &Path| read_from(folder).expect_err("refused");
        assert!(refused(&folder.path().join("no")).contains("cannot be read"));
        assert!(refused(folder.path()).contains("holds no time zone; install tzdata"));
        let utc = b"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\0\0\0UTC\0\
                    TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\0\0\0UTC\0\nUTC0\n";
        std::fs::create_dir(folder.path().join("Etc")).expect("made");
        std::fs::write(folder.path().join("Etc/UTC"), utc).expect("written");
        std::fs::write(folder.path().join("zone.tab"), "# no zone").expect("written");
        assert!(refused(folder.path()).contains("has neither tzdata.zi nor +VERSION"));
        std::fs::write(folder.path().join("tzdata.zi"), "# version 2099z\nZ x\n").expect("written");
        let zones = read_from(folder.path()).expect("a database");
        let utc = TimeZone::tzif("Etc/UTC", utc).expect("a zone");
        assert_eq!(zones, Zones::new("2099z".to_owned(), [("Etc/UTC".to_owned(), utc)]));
    }
}
