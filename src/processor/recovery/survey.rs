//! What is to be known of a partition before it is read: what its store, its log, its control partition and the committed
//! offset say. Nothing is judged here. Next to read: `checks`.

use std::collections::BTreeMap;

use crate::codec::{DecodeError, Decoder};
use crate::domain::limits::decision::LimitDecision;
use crate::processor::checksum::Mark;
use crate::processor::metadata::{CommitMetadata, client_of};
use crate::processor::ports::{Committed, Input, LogRange, PortError, RecordMark, Sink, Source};
use crate::store::TaskMeta;

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
    /// The records that the log holds now where the store and O* saw one.
    pub marks: Marks,
    /// What the control partition holds.
    pub control: Control,
    /// First offset and high watermark of the policies partition.
    pub policies: (i64, i64),
    /// The cluster.
    pub cluster_id: String,
    /// Partitions of the usage topic.
    pub partitions: i32,
}

/// Records of the log by topic and offset; `None` where it holds none.
#[derive(Clone, Debug, Default)]
pub struct Marks(BTreeMap<(Input, i64), Option<RecordMark>>);

impl Marks {
    /// Whether the log holds another record than `seen` at its offset, or none. An offset that was not looked up, because
    /// the log begins behind it, says nothing.
    #[must_use]
    pub fn contradict(&self, input: Input, seen: Mark) -> bool {
        self.0.get(&(input, seen.offset)).is_some_and(|found| found.is_none_or(|found| found.crc != seen.crc))
    }
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
    let range = source.range(partition)?;
    let policies = source.policies_range(partition)?;
    let checksum =
        committed.as_ref().and_then(|committed| committed.metadata.parse::<CommitMetadata>().ok()?.checksum);
    let seen = [
        (Input::Usage, stored.as_ref().and_then(|stored| stored.last_record).map(Mark::from)),
        (Input::Usage, checksum.as_ref().and_then(|checksum| checksum.last_usage)),
        (Input::Policies, stored.as_ref().and_then(|stored| stored.policies.last_record).map(Mark::from)),
        (Input::Policies, checksum.as_ref().and_then(|checksum| checksum.last_policy)),
    ];
    let mut marks = Marks::default();
    for (input, mark) in seen {
        let Some(Mark { offset, .. }) = mark else { continue };
        let (low, high) = if input == Input::Usage { (range.low, range.high) } else { policies };
        if (low..high).contains(&offset) && !marks.0.contains_key(&(input, offset)) {
            let found = source.record_mark(input, partition, offset)?;
            // Retention may have taken it in between.
            let low = if input == Input::Usage {
                source.range(partition)?.low
            } else {
                source.policies_range(partition)?.0
            };
            if found.is_some() || offset >= low {
                marks.0.insert((input, offset), found);
            }
        }
    }
    let partitions = source.partitions();
    Ok(Survey { partition, stored, committed, range, marks, control, policies, cluster_id, partitions })
}

/// The latest level of each key. A value that nobody can read is reported with its key; one whose schema the registry does
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
                // A key names an org, and /readyz is read by others than its operator.
                let key = String::from_utf8_lossy(&key);
                tracing::warn!(partition, %reject, "the decisions topic holds no decision at key {key:?}");
                control.unreadable = Some(reject.to_string());
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
