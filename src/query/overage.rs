//! Overage and beyond-base as measures: told for the org, or for one dimension, hour by hour, so that every bucket and
//! grouping of a range has the same sum. What they are: `domain::walk` and `domain::overage`.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};

use crate::domain::credits::CreditSum;
use crate::domain::dimension::Dimension;
use crate::domain::field_set::FieldSet;
use crate::domain::overage::{beyond_base, share, uncovered};
use crate::domain::tally::{Field, Tally};
use crate::domain::time::Hour;
use crate::domain::walk::{Terms, last_instant, segments};
use crate::store::StoreSnapshot;

use super::error::QueryError;
use super::params::{OrderField, UsageParams};
use super::plan::by_hour;
use super::usage::PlannedUsage;

/// Takes a row: its hour, the values of its view's dimensions in the view's order, its tally.
type Each<'e> = &'e mut dyn FnMut(Hour, &[Option<&str>], &Tally);

/// The most stored rows that are read for them: some seconds.
const READ_MAX: usize = 5_000_000;

/// Whether a question asks for one of them.
pub(super) fn asked(params: &UsageParams) -> bool {
    let ordered = match params.order_by.0 {
        OrderField::Measure(measure) => measure.fields(),
        _ => FieldSet::default(),
    };
    let fields = params.measures.iter().fold(ordered, |fields, measure| fields.and(measure.fields()));
    fields.meets(FieldSet::of(&[Field::OVERAGE, Field::BEYOND_BASE]))
}

/// Refuses more than one dimension: an hour's part is shared over the values of one.
///
/// # Errors
/// Naming what can be asked.
pub(super) fn check(params: &UsageParams) -> Result<(), QueryError> {
    if !asked(params) || params.dimensions().len() < 2 {
        return Ok(());
    }
    let problem = "`overage` and `beyond_base` are told for the whole org or for the values of one dimension; name \
                   one dimension in `group_by` and `filter` together, or other measures";
    Err(QueryError::parameter("measures", problem))
}

/// The org's credits of each stored hour from `from` on, ascending.
///
/// # Errors
/// When there are too many or the store cannot be read.
pub(super) fn org_hours(
    snapshot: &StoreSnapshot<'_>,
    org: &str,
    from: Hour,
) -> Result<Vec<(Hour, CreditSum)>, QueryError> {
    let view = by_hour(snapshot.views(), &[], ", for a balance is made of hours")?;
    let mut hours = Vec::new();
    read(snapshot, view, org, from..Hour(i32::MAX), &mut |hour, _, tally| {
        hours.push((hour, tally.credits()));
    })?;
    Ok(hours)
}

/// The credits of each stored hour and value of a dimension, by hour.
///
/// # Errors
/// When no view tells the dimension's hours, there are too many or the store cannot be read.
pub(super) fn value_hours(
    snapshot: &StoreSnapshot<'_>,
    org: &str,
    dimension: Dimension,
    hours: Range<Hour>,
    each: &mut dyn FnMut(Hour, &str, CreditSum),
) -> Result<(), QueryError> {
    let view = by_hour(snapshot.views(), &[dimension], ", for a budget's period is made of hours")?;
    let of_view = &snapshot.views()[usize::from(view)].dimensions;
    let column = of_view.iter().position(|of| *of == dimension).expect("the view covers it");
    // Rows come by hour: of a view that tells more apart, an hour's values are put together first.
    let (mut hour, mut values) = (hours.start, BTreeMap::new());
    read(snapshot, view, org, hours, &mut |this, row, tally| {
        let Some(value) = row[column] else { return };
        if of_view.len() == 1 {
            return each(this, value, tally.credits());
        }
        if this != hour {
            std::mem::take(&mut values).iter().for_each(|(value, sum): (&String, _)| each(hour, value, *sum));
            hour = this;
        }
        *values.entry(value.to_owned()).or_default() += tally.credits();
    })?;
    values.iter().for_each(|(value, sum)| each(hour, value, *sum));
    Ok(())
}

/// Every part of the range: its hour, the value of the one dimension asked for if any, and its credits as a tally.
///
/// # Errors
/// When no view tells the dimension's hours, too many rows must be read, or the store cannot be read.
pub(super) fn parts(planned: &PlannedUsage<'_>, each: Each<'_>) -> Result<(), QueryError> {
    let by_hour_of_org = of_org(planned)?;
    let dimensions = planned.params.dimensions();
    let hours = by_hour_of_org.keys().min().zip(by_hour_of_org.keys().max());
    let Some((first, last)) = hours else { return Ok(()) };
    if dimensions.is_empty() {
        for (hour, parts) in &by_hour_of_org {
            each(*hour, &[], &tally(parts.overage, parts.beyond_base));
        }
        return Ok(());
    }
    let view =
        by_hour(planned.snapshot.views(), &dimensions, ", for an hour's overage is shared over its values")?;
    let column = planned.snapshot.views()[usize::from(view)]
        .dimensions
        .iter()
        .position(|dimension| dimensions.contains(dimension))
        .expect("the planned view covers it");
    // Rows come by hour: one hour's values at a time are in memory.
    let (mut hour, mut values) = (*first, HashMap::new());
    let range = *first..Hour(last.0 + 1);
    read(planned.snapshot, view, planned.org, range, &mut |this, row, tally| {
        if this != hour {
            share_hour(hour, by_hour_of_org.get(&hour), &mut values, each);
            hour = this;
        }
        *values.entry(row[column].map(str::to_owned)).or_default() += tally.credits();
    })?;
    share_hour(hour, by_hour_of_org.get(&hour), &mut values, each);
    Ok(())
}

/// What of an hour is uncovered, and what is beyond base.
#[derive(Clone, Copy, Debug, Default)]
struct HourParts {
    overage: CreditSum,
    beyond_base: CreditSum,
}

fn tally(overage: CreditSum, beyond_base: CreditSum) -> Tally {
    let mut tally = Tally::new();
    tally.add(Field::OVERAGE, overage.0);
    tally.add(Field::BEYOND_BASE, beyond_base.0);
    tally
}

/// The org's parts of each hour of the range: every period as it is now, or was at its last instant.
fn of_org(planned: &PlannedUsage<'_>) -> Result<HashMap<Hour, HourParts>, QueryError> {
    let terms = Terms { org: planned.terms, default: planned.default };
    let range = planned.edges[0]..planned.edges[planned.edges.len() - 1];
    let hours = org_hours(planned.snapshot, planned.org, Hour(i32::MIN))?;
    let mut found: HashMap<Hour, HourParts> = HashMap::new();
    let mut rest = &hours[hours.partition_point(|(hour, _)| *hour < range.start)..];
    while let Some((hour, _)) = rest.first().filter(|(hour, _)| *hour < range.end) {
        let period = terms.period(hour.start());
        rest = &rest[rest.partition_point(|(hour, _)| *hour < period.end)..];
        let at = planned.now.clamp(period.starts_at(), last_instant(period));
        let (balance, segments) = segments(terms, at, &hours);
        for (hour, part) in uncovered(&segments, &hours) {
            found.entry(hour).or_default().overage = part;
        }
        for (hour, part) in balance.base.map_or_else(Vec::new, |base| beyond_base(period, base, &hours)) {
            found.entry(hour).or_default().beyond_base = part;
        }
    }
    found.retain(|hour, _| range.contains(hour));
    Ok(found)
}

/// Shares an hour's parts over its values, and forgets these.
fn share_hour(
    hour: Hour,
    parts: Option<&HourParts>,
    values: &mut HashMap<Option<String>, CreditSum>,
    each: Each<'_>,
) {
    if let Some(parts) = parts {
        let nets: Vec<(Option<&str>, CreditSum)> =
            values.iter().map(|(value, net)| (value.as_deref(), *net)).collect();
        let shares = share(parts.overage, &nets).into_iter().zip(share(parts.beyond_base, &nets));
        for ((value, _), (overage, beyond_base)) in nets.iter().zip(shares) {
            if overage != beyond_base || overage != CreditSum::ZERO {
                each(hour, &[*value], &tally(overage, beyond_base));
            }
        }
    }
    values.clear();
}

/// Rows of a view by hour, a bounded number (Law 6).
fn read(
    snapshot: &StoreSnapshot<'_>,
    view: u8,
    org: &str,
    hours: Range<Hour>,
    each: Each<'_>,
) -> Result<(), QueryError> {
    let mut count = 0;
    snapshot.rows(view, org, hours.start.0..hours.end.0, &mut |bucket, values, tally| {
        count += 1;
        if count > READ_MAX {
            return ControlFlow::Break(());
        }
        each(Hour(bucket), values, tally);
        ControlFlow::Continue(())
    })?;
    if count > READ_MAX {
        return Err(QueryError::TooLarge { what: "stored rows", limit: READ_MAX });
    }
    Ok(())
}
