//! What keeps a task from starting: each check is pure, and each halt names both sides and the way out (Laws 5 and 8).

use crate::processor::checksum::{Checksum, Mark};
use crate::processor::metadata::CommitMetadata;
use crate::processor::ports::{Committed, Input};
use crate::store::TaskMeta;

use super::{CONTROL_UNREADABLE, Halt, MIGRATE, Survey};

/// The two commands that go on from what is there, when O* says nothing or something else.
fn adopt(partition: i32) -> String {
    format!(
        "If all that partition {partition} holds was published, start once with `tallyman run --adopt-from end`; if what \
         follows the store's position (without a store: all of it) was not, with `--adopt-from store`"
    )
}

fn rebuild(partition: i32) -> String {
    format!(
        "stop this instance, run `tallyman rebuild --partition {partition}` and start it again: it builds the store from this \
         log, and tells if the committed offset contradicts it too"
    )
}

/// Without O* only an empty store and an empty control partition are a first start.
pub(super) fn check_first_start(survey: &Survey) -> Result<(), Halt> {
    let partition = survey.partition;
    let beside = match (&survey.stored, survey.control.has_records) {
        (Some(_), _) => "the store has a position",
        (None, true) => "decisions were published",
        (None, false) => return Ok(()),
    };
    Err(Halt::new(
        "offset_missing",
        format!(
            "partition {partition}: the group has no committed offset but {beside}: the committed offsets of an idle group \
             expire, and another group has none. {}",
            adopt(partition)
        ),
    ))
}

/// The metadata of O*. A tool that resets offsets writes none.
pub(super) fn metadata(survey: &Survey, committed: &Committed) -> Result<CommitMetadata, Halt> {
    let partition = survey.partition;
    if committed.metadata.is_empty() {
        return Err(Halt::new(
            "offset_reset",
            format!(
                "partition {partition}: the committed offset {} carries no metadata: a tool reset the group's offsets. {}",
                committed.offset,
                adopt(partition)
            ),
        ));
    }
    committed.metadata.parse().map_err(|error| {
        let message = format!(
            "partition {partition}: {error}. If another program uses this group, set another `kafka.group_id`; if a later \
             version wrote it, run that one. {}",
            adopt(partition)
        );
        Halt::new("offset_foreign", message)
    })
}

/// O* lies within the log, and the store not past it.
pub(super) fn check_committed(survey: &Survey, committed: i64) -> Result<(), Halt> {
    let Survey { partition, stored, range, .. } = survey;
    if committed < range.low {
        return Err(Halt::new(
            "log_truncated",
            format!(
                "partition {partition}: the log begins at offset {low}, and records from {committed} on were never folded. \
                 Restore the log. To accept the loss, run `tallyman rebuild --partition {partition}` and start once with \
                 `tallyman run --adopt-from store`: every sum then begins at offset {low}",
                low = range.low
            ),
        ));
    }
    if committed > range.high {
        return Err(Halt::new(
            "log_changed",
            format!(
                "partition {partition}: offset {committed} is committed but the log ends at {}: it was cut or is another \
                 topic. Point to the right cluster; if this log is the right one, run `tallyman rebuild --partition \
                 {partition}`. {}",
                range.high,
                adopt(*partition)
            ),
        ));
    }
    let position = stored.as_ref().map_or(committed, |stored| stored.position);
    if position > committed {
        return Err(Halt::new(
            "store_ahead",
            format!(
                "partition {partition}: the store stands at {position}, past the committed offset {committed}: the group's \
                 offsets were reset, or the store is another group's. To go on with these, {}",
                rebuild(*partition)
            ),
        ));
    }
    Ok(())
}

/// The log, the policies and the control topic are those of which O* spoke (Law 3).
pub(super) fn check_checksum(survey: &Survey, then: &Checksum, metadata: &CommitMetadata) -> Result<(), Halt> {
    let Survey { partition, stored, range, marks, policies: (policies_low, policies_end), .. } = survey;
    let adopt = adopt(*partition);
    let halt = |reason, what: String| Err(Halt::new(reason, format!("partition {partition}: {what}. {adopt}")));
    if let Some(last) = then.last_usage.filter(|last| marks.contradict(Input::Usage, *last)) {
        let what = format!(
            "the record at offset {} is not the one that was published through: the log was cut and grew again, or is \
             another topic. Point to the right log, or accept this one",
            last.offset
        );
        return halt("log_changed", what);
    }
    if let Some(last) = then.last_policy.filter(|last| marks.contradict(Input::Policies, *last)) {
        let what = format!(
            "the policies record at offset {} is not the one that was read: the topic was cut and grew again, or is \
             another one. Point to the right topic, or accept this one",
            last.offset
        );
        return halt("policies_changed", what);
    }
    if metadata.policies > *policies_end {
        let what = format!(
            "the policies were read to offset {} and end at {policies_end}: the topic was cut or is another one. Point to \
             the right topic, or accept this one",
            metadata.policies
        );
        return halt("policies_changed", what);
    }
    if stored.is_none() && range.low > then.origin {
        let what = format!(
            "there is no store, and the log begins at offset {} where {} was folded first: what is gone would be missing \
             in every sum. Restore the log or a store, or accept the loss",
            range.low, then.origin
        );
        return halt("log_truncated", what);
    }
    if stored.is_none() && *policies_low > then.policies_origin {
        let what = format!(
            "there is no store, and the policies begin at offset {policies_low} where {} was read first: terms are gone. \
             Restore the topic or a store, or accept the loss",
            then.policies_origin
        );
        return halt("policies_truncated", what);
    }
    if !survey.control.has_records {
        let what = format!(
            "{} transactions published decisions and a heartbeat, and the decisions topic holds none of them: it was \
             emptied or is another one. Restore it, or have every decision published anew",
            metadata.transactions
        );
        return halt("control_emptied", what);
    }
    Ok(())
}

/// The partition count is the one that O* was committed under: another one moves orgs, which nobody may adopt.
pub(super) fn check_partitions(survey: &Survey) -> Result<(), Halt> {
    let metadata =
        survey.committed.as_ref().and_then(|committed| committed.metadata.parse::<CommitMetadata>().ok());
    match metadata.and_then(|metadata| metadata.checksum) {
        Some(then) if then.partitions != survey.partitions => {
            let what = partitions_changed(then.partitions, survey.partitions);
            Err(Halt::new("partitions_changed", format!("partition {}: {what}", survey.partition)))
        }
        _ => Ok(()),
    }
}

fn partitions_changed(then: i32, now: i32) -> String {
    format!(
        "the usage topic had {then} partitions and has {now} now; orgs would change their partition. {MIGRATE}"
    )
}

/// The control partition can be read (Law 4).
pub(super) fn check_control(survey: &Survey) -> Result<(), Halt> {
    let partition = survey.partition;
    match &survey.control.unreadable {
        Some(unreadable) => Err(Halt::passing(
            CONTROL_UNREADABLE,
            format!(
                "partition {partition} of the decisions topic holds a record that is no decision: {unreadable}. Its key is in this instance's log. Write a \
                 record of that key without a value (a tombstone) into that partition: it is read again every minute. Or run the version that wrote it"
            ),
        )),
        None => Ok(()),
    }
}

/// The store is of this cluster, this usage log and these policies (Law 8).
pub(super) fn check_store(survey: &Survey, stored: &TaskMeta) -> Result<(), Halt> {
    let Survey { partition, range, marks, policies: (policies_low, policies_end), .. } = survey;
    let rebuild = rebuild(*partition);
    let halt = |reason, what: String| Err(Halt::new(reason, format!("partition {partition}: {what}")));
    if stored.cluster_id != survey.cluster_id {
        let what = format!(
            "the store was built from cluster {}, this is {}. Point to the right cluster, or {rebuild}",
            stored.cluster_id, survey.cluster_id
        );
        return halt("other_cluster", what);
    }
    if stored.partitions != survey.partitions {
        return halt("partitions_changed", partitions_changed(stored.partitions, survey.partitions));
    }
    if stored.position < range.low {
        let what = format!(
            "the store stands at offset {} and the log begins at {low}: records between were never folded. Restore the log \
             or a newer store. To go on without what is gone, run `tallyman rebuild --partition {partition}` and start once with \
             `tallyman run --adopt-from store`: every sum then begins at offset {low}",
            stored.position,
            low = range.low
        );
        return halt("log_truncated", what);
    }
    let last = stored.last_record.map(Mark::from).filter(|last| marks.contradict(Input::Usage, *last));
    if stored.position > range.high || last.is_some() {
        let what = match last {
            Some(last) => format!("the record at offset {} is not the one that was folded", last.offset),
            None => format!("the store stands at offset {} and the log ends at {}", stored.position, range.high),
        };
        let what =
            format!("{what}: the log was cut, or is another topic. If this log is the right one, {rebuild}");
        return halt("log_changed", what);
    }
    let position = stored.policies_position;
    if position < *policies_low {
        let what = format!(
            "the policies were read to offset {position} and begin at {policies_low} now: terms between were never read. \
             Restore them and set retention.ms=-1; or accept the loss: {rebuild}"
        );
        return halt("policies_truncated", what);
    }
    let last = stored.policies.last_record.map(Mark::from).filter(|last| marks.contradict(Input::Policies, *last));
    if position > *policies_end || last.is_some() {
        let what = match last {
            Some(last) => format!("the policies record at offset {} is not the one that was read", last.offset),
            None => format!("the policies were read to offset {position} and end at {policies_end}"),
        };
        let what = format!("{what}: the topic was cut or is another one. If it is the right one, {rebuild}");
        return halt("policies_changed", what);
    }
    Ok(())
}
