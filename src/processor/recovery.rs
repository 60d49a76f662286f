//! Fence first (Law 5): what a worker does on assignment, before any of the partitions is read or spoken for.
//!
//! Take over the former owner's transactional id if that member is gone, read the stable committed offset and the
//! control partition to its end, and check that the log still holds the store's position. The verdict on what was
//! found is the pure `start_of`; what it needs is fetched by `survey`.

use crate::codec::Decoder;
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
}

impl Halt {
    /// A halt.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
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
    /// The levels that the control partition holds.
    pub levels: Vec<LimitDecision>,
    /// Whether the control partition holds anything.
    pub has_control: bool,
    /// High watermark of the policies partition.
    pub policies_end: i64,
    /// The cluster.
    pub cluster_id: String,
    /// Partitions of the usage topic.
    pub partitions: i32,
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
    let meta = survey.stored.clone().unwrap_or_else(|| TaskMeta {
        position: low,
        policies_position: 0,
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
        policies_through: metadata.as_ref().map_or(0, |metadata| metadata.policies),
        policies_end: survey.policies_end,
        transactions: metadata.map_or(0, |metadata| metadata.transactions),
        levels: survey.levels,
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
        (None, None) if stored.is_none() && !survey.has_control => low,
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

/// Fences gone owners and gathers what is to be known of `partitions`, each given with what its store says.
///
/// # Errors
/// When the cluster is out of reach; nothing was changed that asking again would not do again.
pub fn survey<S: Source, K: Sink>(
    source: &mut S,
    sink: &mut K,
    group: &str,
    partitions: &[(i32, Option<TaskMeta>)],
    decoder: &mut Decoder,
) -> Result<Vec<Survey>, PortError> {
    let numbers: Vec<i32> = partitions.iter().map(|(partition, _)| *partition).collect();
    fence_gone(source, sink, group, &numbers)?;
    let committed = source.stable_committed(&numbers)?;
    let cluster_id = source.cluster_id()?;
    let mut surveys = Vec::with_capacity(partitions.len());
    for ((partition, stored), committed) in partitions.iter().zip(committed) {
        let mut levels = Vec::new();
        let mut has_control = false;
        let mut broken = None;
        let mut latest = std::collections::BTreeMap::new();
        source.read_control(*partition, &mut |key, value| {
            has_control = true;
            latest.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        })?;
        for (key, value) in latest {
            let Some(value) = value.filter(|_| !key.starts_with(b"!")) else { continue };
            match decoder.decision(&value) {
                Ok(decision) => levels.push(decision),
                Err(error) => broken = Some(format!("decision {}: {error}", String::from_utf8_lossy(&key))),
            }
        }
        if let Some(broken) = broken {
            return Err(PortError::Retriable(format!("partition {partition} of the decisions topic: {broken}")));
        }
        let last = stored.as_ref().and_then(|stored| stored.last_record);
        let range = source.range(*partition)?;
        let mark = match last {
            Some(last) if (range.low..range.high).contains(&last.offset) => {
                source.record_mark(*partition, last.offset)?
            }
            _ => None,
        };
        surveys.push(Survey {
            partition: *partition,
            stored: stored.clone(),
            committed,
            range,
            mark,
            levels,
            has_control,
            policies_end: source.policies_end(*partition)?,
            cluster_id: cluster_id.clone(),
            partitions: source.partitions(),
        });
    }
    Ok(surveys)
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
