//! Fence first (Law 5): what a worker does on assignment, before any of the partitions is read or spoken for.
//!
//! Take over the former owner's transactional id if that member is gone, read the stable committed offset and the
//! control partition to its end, and check that the log still holds the store's position. The verdict on what was
//! found is the pure `start_of`; what it needs is fetched by `survey`.

use crate::domain::time::Timestamp;
use crate::store::{PoliciesRead, TaskMeta, UsageCounts};

use super::metadata::CommitMetadata;
use super::settings::AdoptFrom;
use super::task::Recovered;

mod checks;
mod survey;

pub use survey::{Control, Marks, Survey, survey};

/// The reason of a partition whose published decisions cannot be read.
pub const CONTROL_UNREADABLE: &str = "control_unreadable";

/// The way out when the usage topic has another number of partitions.
pub const MIGRATE: &str = "Kafka takes no partition away, and a topic that is deleted loses its log. Stop the services that \
                           write usage, and migrate to new topics as README says (More partitions)";

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

/// O*, with what its metadata knows.
struct Published {
    offset: i64,
    metadata: Option<CommitMetadata>,
}

/// Where a task starts from, or why it must not (Laws 5 and 8).
///
/// What the log, the control topic and O* contradict each other in is accepted when a person says so (`adopt`); a store
/// that contradicts the log never is: it is rebuilt.
///
/// # Errors
/// When going on would lose or repeat something in silence.
pub fn start_of(survey: Survey, adopt: Option<AdoptFrom>) -> Result<Recovered, Halt> {
    if let Some(stored) = &survey.stored {
        checks::check_store(&survey, stored)?;
    }
    checks::check_control(&survey)?;
    checks::check_partitions(&survey)?;
    let (published, adopted) = match (published(&survey), adopt) {
        (Ok(published), _) => (published, false),
        (Err(halt), None) => return Err(halt),
        (Err(halt), Some(adopt)) => {
            tracing::warn!(
                partition = survey.partition,
                reason = halt.reason,
                "--adopt-from goes on although: {}; start without it next time",
                halt.message
            );
            (adopted_as(&survey, &halt, adopt), true)
        }
    };
    let (policies_low, policies_end) = survey.policies;
    let low = survey.range.low;
    let stored_policies = survey.stored.as_ref().map(|stored| stored.policies_position);
    let meta = survey.stored.clone().unwrap_or_else(|| TaskMeta {
        position: low,
        policies_position: policies_low,
        origin: low,
        since: None,
        log_time: Timestamp::MIN,
        last_record: None,
        counts: UsageCounts::default(),
        policies: PoliciesRead { origin: policies_low, ..PoliciesRead::default() },
        cluster_id: survey.cluster_id.clone(),
        partitions: survey.partitions,
    });
    let policies_through = match (&published.metadata, adopt.filter(|_| adopted)) {
        (Some(metadata), _) => metadata.policies,
        (None, Some(AdoptFrom::End)) => policies_end,
        (None, _) => stored_policies.unwrap_or(policies_low),
    };
    Ok(Recovered {
        meta,
        published_through: published.offset,
        policies_through,
        policies_end,
        transactions: published.metadata.as_ref().map_or(0, |metadata| metadata.transactions),
        adopted,
        // A person who adopts has decided already.
        checksum: published.metadata.and_then(|metadata| metadata.checksum).filter(|_| adopt.is_none()),
        levels: survey.control.levels,
    })
}

/// O*: what the group committed, checked against the log, the control topic and the store.
fn published(survey: &Survey) -> Result<Published, Halt> {
    let Some(committed) = &survey.committed else {
        checks::check_first_start(survey)?;
        return Ok(Published { offset: survey.range.low, metadata: None });
    };
    let metadata = checks::metadata(survey, committed)?;
    checks::check_committed(survey, committed.offset)?;
    if let Some(checksum) = &metadata.checksum {
        checks::check_checksum(survey, checksum, &metadata)?;
    }
    Ok(Published { offset: committed.offset, metadata: Some(metadata) })
}

/// What O* is when a person goes on although of `halt`. Where only something else than the usage log was lost, O* stands: what
/// came after it is still to be published. Where the log has only lost what was before, what O* says of the policies stands: they
/// are not published again.
fn adopted_as(survey: &Survey, halt: &Halt, adopt: AdoptFrom) -> Published {
    let from = match adopt {
        AdoptFrom::End => survey.range.high,
        AdoptFrom::Store => survey.stored.as_ref().map_or(survey.range.low, |stored| stored.position),
    };
    let is_same_log =
        matches!(halt.reason, "log_truncated" | "policies_changed" | "policies_truncated" | "control_emptied");
    let Some(committed) = survey.committed.as_ref().filter(|_| is_same_log) else {
        return Published { offset: from, metadata: None };
    };
    let metadata = committed.metadata.parse::<CommitMetadata>().ok().map(|mut metadata| {
        metadata.policies = metadata.policies.min(survey.policies.1);
        metadata
    });
    let stands = metadata.is_some() && checks::check_committed(survey, committed.offset).is_ok();
    Published { offset: if stands { committed.offset } else { from }, metadata }
}
