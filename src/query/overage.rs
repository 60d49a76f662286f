//! Overage and beyond-base as measures: told for the org, or for one dimension, hour by hour, so that every bucket and
//! grouping of a range has the same sum. What they are: `domain::walk` and `domain::overage`.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};

use crate::domain::credits::CreditSum;
use crate::domain::cube::field_set::FieldSet;
use crate::domain::cube::scan::Question;
use crate::domain::cube::tally::{Field, Tally};
use crate::domain::limits::overage::{beyond_base, share, uncovered};
use crate::domain::limits::walk::{Terms, last_instant, segments};
use crate::domain::time::Hour;
use crate::domain::usage::dimension::Dimension;
use crate::store::StoreSnapshot;

use super::error::QueryError;
use super::params::{OrderField, UsageParams};
use super::usage::PlannedUsage;

/// Takes a part: its hour, the value of the dimension that was asked for, its tally.
type Each<'e> = &'e mut dyn FnMut(Hour, Option<&str>, &Tally);

/// The most sums of hours that are read for them: some seconds.
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
    let mut hours = Vec::new();
    let mut count = Count::default();
    snapshot.totals(org, from..Hour(i32::MAX), &mut |hour, tally| {
        hours.push((hour, tally.credits()));
        count.one()
    })?;
    count.check()?;
    Ok(hours)
}

/// The credits of each stored hour and value of a dimension, or of one value alone, by hour.
///
/// # Errors
/// When there are too many or the store cannot be read.
pub(super) fn value_hours(
    snapshot: &StoreSnapshot<'_>,
    org: &str,
    (dimension, only): (Dimension, Option<&str>),
    hours: Range<Hour>,
    each: &mut dyn FnMut(Hour, &str, CreditSum),
) -> Result<(), QueryError> {
    read_values(snapshot, org, (dimension, only), hours, &mut |hour, value, tally| {
        if let Some(value) = value {
            each(hour, value, tally.credits());
        }
    })
}

/// Every part of the range: its hour, the value of the one dimension asked for if any, and its credits as a tally.
///
/// # Errors
/// When too much must be read, or the store cannot be read.
pub(super) fn parts(planned: &PlannedUsage<'_>, each: Each<'_>) -> Result<(), QueryError> {
    let by_hour_of_org = of_org(planned)?;
    let dimensions = planned.params.dimensions();
    let hours = by_hour_of_org.keys().min().zip(by_hour_of_org.keys().max());
    let Some((first, last)) = hours else { return Ok(()) };
    if dimensions.is_empty() {
        for (hour, parts) in &by_hour_of_org {
            each(*hour, None, &tally(parts.overage, parts.beyond_base));
        }
        return Ok(());
    }
    // Sums come by hour: one hour's values at a time are in memory.
    let (mut hour, mut values) = (*first, HashMap::new());
    let range = *first..Hour(last.0 + 1);
    read_values(planned.snapshot, planned.org, (dimensions[0], None), range, &mut |this, value, tally| {
        if this != hour {
            share_hour(hour, by_hour_of_org.get(&hour), &mut values, each);
            hour = this;
        }
        *values.entry(value.map(str::to_owned)).or_default() += tally.credits();
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
                each(hour, *value, &tally(overage, beyond_base));
            }
        }
    }
    values.clear();
}

/// The credits of each hour and value of a dimension, absent included, or of one value alone, by hour; a bounded number (Law 6).
fn read_values(
    snapshot: &StoreSnapshot<'_>,
    org: &str,
    (dimension, only): (Dimension, Option<&str>),
    hours: Range<Hour>,
    each: Each<'_>,
) -> Result<(), QueryError> {
    let question = Question {
        filter: only.map(|value| (dimension, vec![Some(value.to_owned())])).into_iter().collect(),
        group: vec![dimension],
        fields: FieldSet::of(&[Field::CREDITS]),
    };
    let mut count = Count::default();
    snapshot.sums(org, &question, hours, |hour| hour, &mut |hour, values, tally| {
        each(hour, values[0], tally);
        count.one()
    })?;
    count.check()
}

/// How many sums were read.
#[derive(Default)]
struct Count(usize);

impl Count {
    fn one(&mut self) -> ControlFlow<()> {
        self.0 += 1;
        if self.0 > READ_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn check(&self) -> Result<(), QueryError> {
        if self.0 > READ_MAX {
            return Err(QueryError::TooLarge { what: "sums of hours", limit: READ_MAX });
        }
        Ok(())
    }
}
