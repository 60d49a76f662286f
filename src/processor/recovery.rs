//! Fence first (Law 5): what a worker does on assignment, before any of the partitions is read or spoken for.
//!
//! Take over the former owner's transactional id if that member is gone, read the stable committed offset and the
//! control partition to its end, and check that the log still holds the store's position. The verdict on what was
//! found is the pure `start_of`; what it needs is fetched by `survey`.

use std::collections::BTreeMap;

use crate::codec::{DecodeError, Decoder};
use crate::domain::decision::LimitDecision;
use crate::domain::time::Timestamp;
use crate::store::{LastRecord, TaskMeta};

use super::metadata::{CommitMetadata, client_of};
use super::ports::{Committed, LogRange, PortError, RecordMark, Sink, Source};
use super::settings::AdoptFrom;
use super::task::Recovered;

/// A task that cannot go on without a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// The short name, as in the metric's label.
    pub reason: &'static str,
    /// What happened and what to do.
    pub message: String,
    /// Whether its cause may pass by itself: the task is started again from time to time.
    pub passes: bool,
}

impl Halt {
    /// A halt that waits for a person.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), passes: false }
    }

    /// A halt whose cause may pass by itself.
    pub fn passing(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), passes: true }
    }
}

/// What was found about one partition.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Which.
    pub partition: i32,
    /// What the store says; `None` for a new store.
    pub stored: Option<TaskMeta>,
    /// O*, if the group ever committed one.
    pub committed: Option<Committed>,
    /// What the log holds.
    pub range: LogRange,
    /// The record that the log holds where the store's last folded record stood.
    pub mark: Option<RecordMark>,
    /// What the control partition holds.
    pub control: Control,
    /// First offset and high watermark of the policies partition.
    pub policies: (i64, i64),
    /// The cluster.
    pub cluster_id: String,
    /// Partitions of the usage topic.
    pub partitions: i32,
}

/// What a control partition holds.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// Whether it holds anything at all.
    pub has_records: bool,
    /// The latest level of each key.
    pub levels: Vec<LimitDecision>,
    /// A record that is no decision, with what is wrong with it.
    pub unreadable: Option<String>,
}

/// Where a task starts from, or why it must not (Laws 5 and 8).
///
/// # Errors
/// When going on would lose or repeat something in silence.
pub fn start_of(survey: Survey, adopt: Option<AdoptFrom>) -> Result<Recovered, Halt> {
    let (committed, low) = (&survey.committed, survey.range.low);
    if let Some(stored) = &survey.stored {
        check_store(&survey, stored)?;
    }
    let metadata = match committed {
        Some(committed) => Some(
            committed
                .metadata
                .parse::<CommitMetadata>()
                .map_err(|error| Halt::new("offset_foreign", error.to_string()))?,
        ),
        None => None,
    };
    let published_through = published_through(&survey, adopt)?;
    check_committed(&survey, published_through)?;
    check_control(&survey)?;
    let (policies_low, policies_end) = survey.policies;
    let stored_policies = survey.stored.as_ref().map(|stored| stored.policies_position);
    let meta = survey.stored.clone().unwrap_or_else(|| TaskMeta {
        position: low,
        policies_position: policies_low,
        origin: low,
        since: None,
        log_time: Timestamp::MIN,
        last_record: None,
        cluster_id: survey.cluster_id.clone(),
        partitions: survey.partitions,
    });
    Ok(Recovered {
        meta,
        published_through,
        policies_through: match (&metadata, adopt) {
            (Some(metadata), _) => metadata.policies,
            (None, Some(AdoptFrom::End)) => policies_end,
            (None, _) => stored_policies.unwrap_or(policies_low),
        },
        policies_end,
        transactions: metadata.map_or(0, |metadata| metadata.transactions),
        levels: survey.control.levels,
    })
}

/// O*: what the group committed, or what a person says of it when nothing is.
fn published_through(survey: &Survey, adopt: Option<AdoptFrom>) -> Result<i64, Halt> {
    let Survey { partition, stored, committed, range, .. } = survey;
    let (low, high) = (range.low, range.high);
    Ok(match (committed, adopt) {
        (Some(committed), _) => committed.offset,
        (None, Some(AdoptFrom::End)) => high,
        (None, Some(AdoptFrom::Store)) => stored.as_ref().map_or(low, |stored| stored.position),
        (None, None) if stored.is_none() && !survey.control.has_records => low,
        (None, None) => {
            let beside = if stored.is_some() { "the store has a position" } else { "decisions were published" };
            return Err(Halt::new(
                "offset_missing",
                format!(
                    "partition {partition}: the group has no committed offset but {beside}: committed offsets of an idle \
                 group expire. Run `tallyman run --adopt-from store` if what follows the store's position was never \
                 published, or `--adopt-from end` if all that the log holds was",
                ),
            ));
        }
    })
}

/// Law 8: O* lies within the log, and the store not past it.
fn check_committed(survey: &Survey, published_through: i64) -> Result<(), Halt> {
    let Survey { partition, stored, range, .. } = survey;
    let (low, high) = (range.low, range.high);
    let position = stored.as_ref().map_or(low, |stored| stored.position);
    if published_through < low {
        return Err(Halt::new(
            "log_truncated",
            format!(
                "partition {partition}: the log begins at offset {low}, and records from {published_through} on were \
             never folded; restore the log, or accept the loss with `tallyman rebuild` and `--adopt-from end` after \
             deleting the group's offsets",
            ),
        ));
    }
    if published_through > high {
        return Err(Halt::new(
            "log_changed",
            format!(
                "partition {partition}: offset {published_through} is committed but the log ends at {high}: it was cut \
             or is another topic. Point to the right cluster, or use another `kafka.group_id`",
            ),
        ));
    }
    if position > published_through {
        return Err(Halt::new(
            "store_ahead",
            format!(
                "partition {partition}: the store stands at {position}, past the committed offset {published_through}: \
             the group's offsets were reset, or the store is another group's. `tallyman rebuild --partition \
             {partition}` builds it from the log again",
            ),
        ));
    }
    Ok(())
}

/// The control partition and the policies can be read on from where they were (Laws 4 and 8).
fn check_control(survey: &Survey) -> Result<(), Halt> {
    let Survey { partition, stored, policies: (low, high), .. } = survey;
    if let Some(unreadable) = &survey.control.unreadable {
        return Err(Halt::new(
            "control_unreadable",
            format!(
                "partition {partition} of the decisions topic holds a record that is no decision: {unreadable}. Write a \
                 record of that key without a value (a tombstone) into that partition, or run the version that wrote it"
            ),
        ));
    }
    match stored.as_ref().map(|stored| stored.policies_position) {
        Some(position) if position < *low => Err(Halt::new(
            "policies_truncated",
            format!(
                "partition {partition}: the policies were read to offset {position} and begin at {low} now: terms \
                 between were never read. Restore them and set retention.ms=-1; `tallyman rebuild --partition \
                 {partition}` goes on with what is left"
            ),
        )),
        Some(position) if position > *high => Err(Halt::new(
            "policies_changed",
            format!(
                "partition {partition}: the policies were read to offset {position} and end at {high}: the topic was \
                 cut or is another one. If it is the right one, `tallyman rebuild --partition {partition}` reads it \
                 again"
            ),
        )),
        _ => Ok(()),
    }
}

fn check_store(survey: &Survey, stored: &TaskMeta) -> Result<(), Halt> {
    let Survey { partition, range, .. } = survey;
    let rebuild = format!("`tallyman rebuild --partition {partition}` builds it from the log again");
    if stored.cluster_id != survey.cluster_id {
        return Err(Halt::new(
            "other_cluster",
            format!(
                "partition {partition}: the store was built from cluster {}, this is {}; point to the right cluster, or \
             {rebuild}",
                stored.cluster_id, survey.cluster_id
            ),
        ));
    }
    if stored.partitions != survey.partitions {
        return Err(Halt::new(
            "partitions_changed",
            format!(
                "partition {partition}: the usage topic had {} partitions and has {} now; orgs would change their \
             partition. Restore the partition count, or migrate to a new topic",
                stored.partitions, survey.partitions
            ),
        ));
    }
    if stored.position < range.low {
        return Err(Halt::new(
            "log_truncated",
            format!(
                "partition {partition}: the store stands at offset {} and the log begins at {}: records between were \
             never folded. Restore the log or a newer store; {rebuild}, without what is gone",
                stored.position, range.low
            ),
        ));
    }
    if stored.position > range.high {
        return Err(Halt::new(
            "log_changed",
            format!(
                "partition {partition}: the store stands at offset {} and the log ends at {}: it was cut or is another \
             topic. If this log is the right one, {rebuild}",
                stored.position, range.high
            ),
        ));
    }
    match stored.last_record {
        Some(last) if last.offset >= range.low && !survey.mark.is_some_and(|mark| is_same(mark, last)) => {
            Err(Halt::new(
                "log_changed",
                format!(
                    "partition {partition}: the record at offset {} is not the one that was folded: the log was cut and grew \
             again, or is another topic. If this log is the right one, {rebuild}",
                    last.offset
                ),
            ))
        }
        _ => Ok(()),
    }
}

fn is_same(mark: RecordMark, last: LastRecord) -> bool {
    (mark.offset, mark.timestamp, mark.crc) == (last.offset, last.timestamp, last.crc)
}

/// Fences gone owners and gathers what is to be known of `partitions`, each given with what its store says. What cannot be
/// asked of one partition is that partition's error alone.
///
/// # Errors
/// When the cluster is out of reach; nothing was changed that asking again would not do again.
pub fn survey<S: Source, K: Sink>(
    source: &mut S,
    sink: &mut K,
    group: &str,
    partitions: &[(i32, Option<TaskMeta>)],
    decoder: &mut Decoder,
) -> Result<Vec<Result<Survey, PortError>>, PortError> {
    let numbers: Vec<i32> = partitions.iter().map(|(partition, _)| *partition).collect();
    fence_gone(source, sink, group, &numbers)?;
    let committed = source.stable_committed(&numbers)?;
    let cluster_id = source.cluster_id()?;
    let surveys = partitions.iter().zip(committed).map(|((partition, stored), committed)| {
        survey_partition(source, *partition, stored.clone(), committed, cluster_id.clone(), decoder)
    });
    Ok(surveys.collect())
}

fn survey_partition<S: Source>(
    source: &mut S,
    partition: i32,
    stored: Option<TaskMeta>,
    committed: Option<Committed>,
    cluster_id: String,
    decoder: &mut Decoder,
) -> Result<Survey, PortError> {
    let control = read_control(source, partition, decoder)?;
    let last = stored.as_ref().and_then(|stored| stored.last_record);
    let range = source.range(partition)?;
    let mark = match last {
        Some(last) if (range.low..range.high).contains(&last.offset) => {
            source.record_mark(partition, last.offset)?
        }
        _ => None,
    };
    let policies = source.policies_range(partition)?;
    let partitions = source.partitions();
    Ok(Survey { partition, stored, committed, range, mark, control, policies, cluster_id, partitions })
}

/// The latest level of each key. A value that nobody can read is told with its key; one whose schema the registry does
/// not give just now is asked for again.
fn read_control<S: Source>(source: &mut S, partition: i32, decoder: &mut Decoder) -> Result<Control, PortError> {
    let mut control = Control::default();
    let mut latest = BTreeMap::new();
    source.read_control(partition, &mut |key, value| {
        control.has_records = true;
        latest.insert(key.to_vec(), value.map(<[u8]>::to_vec));
    })?;
    for (key, value) in latest {
        let Some(value) = value.filter(|_| !key.starts_with(b"!")) else { continue };
        match decoder.decision(&value) {
            Ok(decision) => control.levels.push(decision),
            Err(DecodeError::Unavailable(error)) => return Err(PortError::Retriable(error.to_string())),
            Err(DecodeError::Reject(reject)) => {
                control.unreadable = Some(format!("key {:?}: {reject}", String::from_utf8_lossy(&key)));
            }
        }
    }
    Ok(control)
}

/// Ends the open transactions of former owners that are no longer members: a member that is still there resolved its
/// own before it let go.
fn fence_gone<S: Source, K: Sink>(
    source: &mut S,
    sink: &mut K,
    group: &str,
    partitions: &[i32],
) -> Result<(), PortError> {
    let last = source.last_committed(partitions)?;
    let mut owners: Vec<String> = last
        .into_iter()
        .flatten()
        .filter_map(|committed| Some(committed.metadata.parse::<CommitMetadata>().ok()?.transactional_id))
        .filter(|owner| owner != sink.transactional_id())
        .collect();
    owners.sort();
    owners.dedup();
    if owners.is_empty() {
        return Ok(());
    }
    let members = source.members()?;
    for owner in owners {
        let client = client_of(&owner, group).unwrap_or_default();
        if !members.iter().any(|member| member == client) {
            sink.fence(&owner)?;
        }
    }
    Ok(())
}
