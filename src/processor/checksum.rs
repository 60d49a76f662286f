//! The checksum of a log that a committed offset carries: what the records below it are, and what became of them. A replay
//! that comes to another one folded another log, or folded it otherwise, and halts (Law 3). Next to read: `recovery`.

use std::collections::BTreeMap;
use std::fmt;

use crate::store::{FoldSettings, LastRecord, PoliciesRead, TaskMeta, UsageCounts};

/// One record of the log, by its place and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its offset.
    pub offset: i64,
    /// CRC-32 of its key and value.
    pub crc: u32,
}

impl From<LastRecord> for Mark {
    fn from(last: LastRecord) -> Self {
        Self { offset: last.offset, crc: last.crc }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:08x}", self.offset, self.crc)
    }
}

/// The checksum of a usage partition and its policies partition up to a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// Partitions of the usage topic.
    pub partitions: i32,
    /// First usage offset ever folded.
    pub origin: i64,
    /// CRC-32 of the fold's settings: under others the same log gives other counts.
    pub settings: u32,
    /// What became of the usage records.
    pub counts: UsageCounts,
    /// The last usage record.
    pub last_usage: Option<Mark>,
    /// First policies offset ever read.
    pub policies_origin: i64,
    /// Policies records that were taken as terms.
    pub terms: u64,
    /// The last policies record.
    pub last_policy: Option<Mark>,
}

/// The CRC-32 of what decides which records are folded.
#[must_use]
pub fn settings_crc(settings: &FoldSettings) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for number in [settings.dedupe_window, settings.max_future, settings.max_age, settings.codec_version.into()] {
        crc.update(&number.to_le_bytes());
    }
    crc.finalize()
}

impl Checksum {
    /// That of a task at `meta`, with what is read of its policies.
    #[must_use]
    pub fn of(meta: &TaskMeta, policies: &PoliciesRead, settings: u32) -> Self {
        Self {
            partitions: meta.partitions,
            origin: meta.origin,
            settings,
            counts: meta.counts,
            last_usage: meta.last_record.map(Mark::from),
            policies_origin: policies.origin,
            terms: policies.taken,
            last_policy: policies.last_record.map(Mark::from),
        }
    }

    /// What differs between this, the committed one, and `now`, that of the log as it was replayed: each as "name: committed,
    /// now". Counts are compared under equal settings only, else their sum.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let (then, again) = (self.fields(), now.fields());
        let counted = ["folded", "duplicate", "dead", "forwarded", "credits", "terms"];
        let is_same_fold = self.settings == now.settings;
        let compared = |name: &str| name != "settings" && (is_same_fold || !counted.contains(&name));
        let mut found: Vec<String> = then
            .iter()
            .filter(|(name, committed)| compared(name) && again.get(*name) != Some(committed))
            .map(|(name, committed)| format!("{name} {committed}, now {}", again[name]))
            .collect();
        let records = |counts: &UsageCounts| counts.folded + counts.duplicate + counts.dead + counts.forwarded;
        let (then, again) = (records(&self.counts), records(&now.counts));
        if !is_same_fold && then != again {
            found.push(format!("records {then}, now {again}"));
        }
        found
    }

    /// Every field by its name, as in a committed offset's metadata.
    fn fields(&self) -> BTreeMap<&'static str, String> {
        let mark = |mark: &Option<Mark>| mark.as_ref().map_or_else(|| "-".to_owned(), Mark::to_string);
        let UsageCounts { folded, duplicate, dead, forwarded, credits } = self.counts;
        BTreeMap::from([
            ("partitions", self.partitions.to_string()),
            ("origin", self.origin.to_string()),
            ("settings", format!("{:08x}", self.settings)),
            ("folded", folded.to_string()),
            ("duplicate", duplicate.to_string()),
            ("dead", dead.to_string()),
            ("forwarded", forwarded.to_string()),
            ("credits", credits.to_string()),
            ("last_usage", mark(&self.last_usage)),
            ("policies_origin", self.policies_origin.to_string()),
            ("terms", self.terms.to_string()),
            ("last_policy", mark(&self.last_policy)),
        ])
    }

    /// Reads what [`Checksum`]'s `Display` wrote; `None` when a field is missing or no such value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = text.split(' ').filter_map(|field| field.split_once('=')).collect();
        let number = |name| fields.get(name)?.parse::<u64>().ok();
        let offset = |name| fields.get(name)?.parse::<i64>().ok();
        let mark = |name| match *fields.get(name)? {
            "-" => Some(None),
            text => {
                let (offset, crc) = text.split_once(':')?;
                Some(Some(Mark { offset: offset.parse().ok()?, crc: u32::from_str_radix(crc, 16).ok()? }))
            }
        };
        Some(Self {
            partitions: fields.get("partitions")?.parse().ok()?,
            origin: offset("origin")?,
            settings: u32::from_str_radix(fields.get("settings")?, 16).ok()?,
            counts: UsageCounts {
                folded: number("folded")?,
                duplicate: number("duplicate")?,
                dead: number("dead")?,
                forwarded: number("forwarded")?,
                credits: fields.get("credits")?.parse().ok()?,
            },
            last_usage: mark("last_usage")?,
            policies_origin: offset("policies_origin")?,
            terms: number("terms")?,
            last_policy: mark("last_policy")?,
        })
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<String> = self.fields().iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&fields.join(" "))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn checksum() -> Checksum {
        Checksum {
            partitions: 12,
            origin: 3,
            settings: 0x0a0b_0c0d,
            counts: UsageCounts { folded: 90, duplicate: 5, dead: 2, forwarded: 1, credits: -(1 << 80) },
            last_usage: Some(Mark { offset: 101, crc: 0xdead_beef }),
            policies_origin: 0,
            terms: 4,
            last_policy: None,
        }
    }

    #[test]
    fn a_difference_names_both_sides_and_equal_ones_have_none() {
        let then = checksum();
        let mut now = then.clone();
        assert_eq!(then.differences(&now), Vec::<String>::new());
        now.counts.dead = 3;
        now.last_usage = Some(Mark { offset: 101, crc: 1 });
        assert_eq!(then.differences(&now), ["dead 2, now 3", "last_usage 101:deadbeef, now 101:00000001"]);
    }

    #[test]
    fn under_other_fold_settings_only_the_records_themselves_are_compared() {
        let then = checksum();
        let mut now = Checksum { settings: 1, ..then.clone() };
        now.counts = UsageCounts { folded: 91, duplicate: 5, dead: 1, forwarded: 1, credits: 7 };
        assert_eq!(then.differences(&now), Vec::<String>::new());
        now.counts.folded += 1;
        assert_eq!(then.differences(&now), ["records 98, now 99"]);
    }
}
