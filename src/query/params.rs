//! The parameters of a usage question as text -> checked ones. Every parameter that is not known is refused with the
//! nearest known one: a misspelt filter must never widen an answer silently. What they mean: CONTRACT.md, HTTP.

use std::ops::{Range, RangeInclusive};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::domain::cube::scan::GROUP_MAX;
use crate::domain::id::is_value;
use crate::domain::terms::period::{first_hour_of, time_zone};
use crate::domain::time::{Hour, Timestamp};
use crate::domain::usage::dimension::Dimension;

use super::bucket::Bucket;
use super::error::QueryError;
use super::measure::Measure;
use super::page::{self, PAGE_SIZE};

/// The most `filter` parameters of one question.
const FILTERS_MAX: usize = 100;
/// Years that a range may name: dates beyond have no use, and the calendar ends at 9999.
const YEARS: RangeInclusive<i16> = 1900..=2999;
/// The same in UTC hours.
const HOURS: Range<i32> = -613_608..9_028_800;

const KNOWN: [&str; 11] = [
    "from",
    "to",
    "bucket",
    "time_zone",
    "group_by",
    "filter",
    "measures",
    "order_by",
    "compare",
    "page_size",
    "page_token",
];

/// Rows whose dimension has one of these values count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Which dimension.
    pub dimension: Dimension,
    /// Any of these; `None` is absent.
    pub values: Vec<Option<String>>,
}

/// What rows are ordered by first; ties go by bucket and values, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderField {
    /// The bucket.
    Start,
    /// The value of the dimension at this place of `group_by`; absent is least.
    Group(usize),
    /// A measure; null is least.
    Measure(Measure),
}

/// A checked usage question.
#[derive(Clone, Debug)]
pub struct UsageParams {
    /// First hour; `None` is the start of the org's running period.
    pub from: Option<Hour>,
    /// First hour after; `None` is the end of the running hour.
    pub to: Option<Hour>,
    /// How much time a row holds.
    pub bucket: Bucket,
    /// Where local days, weeks and months start.
    pub zone: TimeZone,
    /// At most [`GROUP_MAX`] dimensions.
    pub group_by: Vec<Dimension>,
    /// All of them must hold.
    pub filters: Vec<Filter>,
    /// At least one.
    pub measures: Vec<Measure>,
    /// The order and whether it descends.
    pub order_by: (OrderField, bool),
    /// Rows of a page.
    pub page_size: usize,
    /// Where the page starts, as an earlier answer gave it.
    pub page_token: Option<String>,
    /// Tells questions apart: all parameters but those of the page.
    pub fingerprint: u64,
}

impl UsageParams {
    /// Reads the parameters of a question in any order; `filter` may repeat, the others may not.
    ///
    /// # Errors
    /// On the first parameter that is unknown, repeated, or not what it must be.
    pub fn parse(raw: &[(String, String)]) -> Result<Self, QueryError> {
        check_names(raw, &KNOWN, &["filter"])?;
        let get = |name: &str| raw.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        if get("compare").is_some() {
            let problem = "comparing with the previous range comes with a later version; ask for both ranges";
            return Err(QueryError::parameter("compare", problem));
        }
        let zone = zone(get("time_zone").unwrap_or("UTC"))?;
        let group_by = list(get("group_by"))
            .map(|name| dimension("group_by", name))
            .collect::<Result<Vec<Dimension>, QueryError>>()?;
        if group_by.len() > GROUP_MAX
            || (1..group_by.len()).any(|place| group_by[..place].contains(&group_by[place]))
        {
            return Err(QueryError::parameter(
                "group_by",
                "name up to three different dimensions, comma separated",
            ));
        }
        let mut measures = list(get("measures")).map(Measure::from_name).collect::<Result<Vec<_>, _>>()?;
        let mut seen = Vec::new();
        measures.retain(|measure| {
            !seen.contains(measure) && {
                seen.push(*measure);
                true
            }
        });
        if measures.is_empty() {
            measures = Measure::defaults();
        }
        let order_by = order(get("order_by").unwrap_or("start"), &group_by)?;
        let params = Self {
            from: get("from").map(|text| hour("from", text, &zone)).transpose()?,
            to: get("to").map(|text| hour("to", text, &zone)).transpose()?,
            bucket: bucket(get("bucket").unwrap_or("day"))?,
            zone,
            group_by,
            filters: filters(raw)?,
            measures,
            order_by,
            page_size: page::size(get("page_size"), PAGE_SIZE)?,
            page_token: get("page_token").filter(|token| !token.is_empty()).map(str::to_owned),
            fingerprint: fingerprint(raw),
        };
        match (params.from, params.to) {
            (Some(from), Some(to)) if from >= to => {
                Err(QueryError::parameter("to", "the range is half-open: `to` must be later than `from`"))
            }
            _ => Ok(params),
        }
    }

    /// Every dimension that rows must tell apart to answer.
    #[must_use]
    pub fn dimensions(&self) -> Vec<Dimension> {
        let mut dimensions = self.group_by.clone();
        for filter in &self.filters {
            if !dimensions.contains(&filter.dimension) {
                dimensions.push(filter.dimension);
            }
        }
        dimensions
    }
}

/// Refuses names that are not in `known`, and those given twice that may not be.
///
/// # Errors
/// Naming the first of them.
pub fn check_names(
    raw: &[(String, String)],
    known: &[&'static str],
    repeatable: &[&str],
) -> Result<(), QueryError> {
    for (place, (name, _)) in raw.iter().enumerate() {
        let Some(known) = known.iter().find(|known| *known == name) else {
            let hint = nearest(name, known.iter().copied());
            return Err(QueryError::UnknownParameter { name: name.clone(), hint });
        };
        if !repeatable.contains(known) && raw[..place].iter().any(|(earlier, _)| earlier == name) {
            return Err(QueryError::parameter(known, "given twice; give it once"));
        }
    }
    Ok(())
}

/// `did you mean ...`, or all that is known where nothing is near.
#[must_use]
pub fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    let known: Vec<&str> = known.collect();
    let best =
        known.iter().map(|known| (strsim::jaro_winkler(name, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((likeness, known)) if likeness > 0.75 => format!("did you mean `{known}`?"),
        _ if known.is_empty() => "none is known here".to_owned(),
        _ => format!("known are {}", known.join(", ")),
    }
}

/// FNV-1a over parts with their lengths: the same on every instance and in every version.
#[must_use]
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        part.len().to_le_bytes().into_iter().chain(part.iter().copied()).for_each(&mut eat);
    }
    hash
}

fn fingerprint(raw: &[(String, String)]) -> u64 {
    let mut asked: Vec<_> = raw.iter().filter(|(name, _)| !name.starts_with("page_")).collect();
    asked.sort();
    hash(asked.into_iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]))
}

fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
}

pub(super) fn dimension(parameter: &'static str, name: &str) -> Result<Dimension, QueryError> {
    Dimension::from_name(name).ok_or_else(|| {
        let hint = nearest(name, Dimension::ALL.into_iter().map(Dimension::name));
        QueryError::parameter(parameter, format!("there is no dimension `{name}`; {hint}"))
    })
}

fn bucket(name: &str) -> Result<Bucket, QueryError> {
    Bucket::NAMED.into_iter().find(|(_, known)| *known == name).map(|(bucket, _)| bucket).ok_or_else(|| {
        let names = Bucket::NAMED.map(|(_, name)| name).join(", ");
        QueryError::parameter("bucket", format!("there is no bucket `{name}`; it is one of {names}"))
    })
}

fn zone(name: &str) -> Result<TimeZone, QueryError> {
    let problem = || format!("there is no time zone `{name}`; give an IANA name such as Europe/Berlin");
    time_zone(name).ok_or_else(|| QueryError::parameter("time_zone", problem()))
}

fn filters(raw: &[(String, String)]) -> Result<Vec<Filter>, QueryError> {
    let mut filters: Vec<Filter> = Vec::new();
    for (count, (_, text)) in raw.iter().filter(|(name, _)| name == "filter").enumerate() {
        if count == FILTERS_MAX {
            return Err(QueryError::parameter("filter", format!("at most {FILTERS_MAX} of them")));
        }
        let Some((name, value)) = text.split_once(':') else {
            let problem = format!("`{text}` is not `dimension:value`; `dimension:` alone means absent");
            return Err(QueryError::parameter("filter", problem));
        };
        let dimension = dimension("filter", name)?;
        if !value.is_empty() && !is_value(value) {
            return Err(QueryError::parameter("filter", "a dimension's value has at most 256 bytes"));
        }
        let value = (!value.is_empty()).then(|| value.to_owned());
        match filters.iter_mut().find(|filter| filter.dimension == dimension) {
            Some(filter) => filter.values.push(value),
            None => filters.push(Filter { dimension, values: vec![value] }),
        }
    }
    Ok(filters)
}

fn order(text: &str, group_by: &[Dimension]) -> Result<(OrderField, bool), QueryError> {
    let mut words = text.split_whitespace();
    let field = words.next().unwrap_or("start");
    let descending = match (words.next(), words.next()) {
        (None | Some("asc"), None) => false,
        (Some("desc"), None) => true,
        _ => {
            return Err(QueryError::parameter(
                "order_by",
                "give one field, and `desc` behind it to turn it round",
            ));
        }
    };
    if field == "start" {
        return Ok((OrderField::Start, descending));
    }
    if let Some(place) = group_by.iter().position(|dimension| dimension.name() == field) {
        return Ok((OrderField::Group(place), descending));
    }
    let known = group_by.iter().map(|dimension| dimension.name()).chain(["start"]).chain(Measure::names());
    let measure = Measure::from_name(field).map_err(|_| {
        let hint = nearest(field, known);
        QueryError::parameter("order_by", format!("rows cannot be ordered by `{field}`; {hint}"))
    })?;
    Ok((OrderField::Measure(measure), descending))
}

/// An RFC 3339 instant at a whole UTC hour, or a date in UTC.
pub(super) fn utc_hour(name: &'static str, text: &str) -> Result<Hour, QueryError> {
    hour(name, text, &TimeZone::UTC)
}

/// An RFC 3339 instant, or a date: its first instant in UTC.
pub(super) fn instant(name: &'static str, text: &str) -> Result<Timestamp, QueryError> {
    if text.len() == 10 {
        return Ok(hour(name, text, &TimeZone::UTC)?.start());
    }
    let at = parse_instant(text).ok_or_else(|| no_instant(name, text, "2026-11-20T10:15:00Z"))?;
    check(name, text, HOURS.contains(&at.hour().0))?;
    Ok(at)
}

/// A `+` that was not percent-encoded arrives as a space.
fn parse_instant(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| Timestamp::parse(&text.replace(' ', "+")))
}

fn no_instant(name: &'static str, text: &str, such_as: &str) -> QueryError {
    let (first, last) = (YEARS.start(), YEARS.end());
    let legal = format!("neither a date (2026-11-20) nor an instant ({such_as}) of the years {first} to {last}");
    QueryError::parameter(name, format!("`{text}` is {legal}"))
}

fn check(name: &'static str, text: &str, is_in_bounds: bool) -> Result<(), QueryError> {
    let problem = || format!("`{text}` is beyond the years {} to {}", YEARS.start(), YEARS.end());
    if is_in_bounds { Ok(()) } else { Err(QueryError::parameter(name, problem())) }
}

/// Whether an hour is one that a parameter may name, in any zone: others can only come from a page token that no answer gave.
pub(super) fn is_in_bounds(hour: Hour) -> bool {
    (HOURS.start - 24..=HOURS.end + 24).contains(&hour.0)
}

/// An RFC 3339 instant at a whole UTC hour, or a date: the first whole UTC hour of that local day.
fn hour(name: &'static str, text: &str, zone: &TimeZone) -> Result<Hour, QueryError> {
    if let Some(at) = parse_instant(text) {
        check(name, text, HOURS.contains(&at.hour().0))?;
        if at.hour_at_or_after() != at.hour() {
            let problem =
                format!("`{text}` is not a whole UTC hour, the finest that is kept; take {}", at.hour().start());
            return Err(QueryError::parameter(name, problem));
        }
        return Ok(at.hour());
    }
    match text.parse::<Date>() {
        Ok(date) if text.len() == 10 => {
            check(name, text, YEARS.contains(&date.year()))?;
            Ok(first_hour_of(date, zone))
        }
        _ => Err(no_instant(name, text, "2026-11-20T10:00:00Z")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &[(&str, &str)]) -> Result<UsageParams, QueryError> {
        let raw: Vec<_> = raw.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        UsageParams::parse(&raw)
    }

    fn refused(name: &str, value: &str) -> String {
        parse(&[(name, value)]).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_nearest_known_one() {
        assert_eq!(refused("groupby", "user"), "there is no parameter `groupby`; did you mean `group_by`?");
        assert!(refused("zzz", "").contains("known are from, to,"));
    }

    #[test]
    fn a_value_that_is_not_what_it_must_be_says_what_is() {
        for (name, value, says) in [
            ("group_by", "users", "did you mean `user`?"),
            ("group_by", "user,user", "different dimensions"),
            ("group_by", "user,model,product,tier", "up to three"),
            ("bucket", "fortnight", "hour, day, week, month, period, none"),
            ("time_zone", "Berlin", "IANA"),
            ("time_zone", "Etc/Unknown", "IANA"),
            ("filter", "user", "dimension:value"),
            ("from", "2026-11-20T10:30:00Z", "take 2026-11-20T10:00:00Z"),
            ("from", "yesterday", "neither a date"),
            ("from", "3000-01-01T00:00:00Z", "beyond the years"),
            ("from", "3000-01-01t00:15:00+01:30", "take 2999"),
            ("to", "1899-12-31T23:00:00Z", "beyond the years 1900 to 2999"),
            ("measures", "credit", "`credits`"),
            ("order_by", "user", "ordered by `user`"),
            ("order_by", "credits down", "`desc`"),
            ("page_size", "0", "1 to"),
            ("compare", "previous", "later version"),
        ] {
            let message = refused(name, value);
            assert!(message.contains(says), "{name}={value}: {message}");
        }
        let message = parse(&[("from", "2026-11-20"), ("to", "2026-11-20")]).unwrap_err().to_string();
        assert!(message.contains("half-open"), "{message}");
        assert!(parse(&[("from", "2026-11-20"), ("from", "2026-11-21")]).is_err());
    }

    #[test]
    fn filters_of_one_dimension_are_any_of_them_and_an_empty_value_is_absent() {
        let params = parse(&[("filter", "user:a:b"), ("filter", "model:"), ("filter", "user:c")]).unwrap();
        let user = Filter { dimension: Dimension::User, values: vec![Some("a:b".into()), Some("c".into())] };
        let model = Filter { dimension: Dimension::Model, values: vec![None] };
        assert_eq!(params.filters, [user, model]);
        assert_eq!(params.dimensions(), [Dimension::User, Dimension::Model]);
    }

    #[test]
    fn a_date_is_the_first_whole_utc_hour_of_the_local_day() {
        let params = parse(&[("from", "2026-11-20"), ("time_zone", "Asia/Kolkata")]).unwrap();
        assert_eq!(params.from.unwrap().start().to_string(), "2026-11-19T19:00:00Z");
        let params = parse(&[("from", "2026-11-20T01:00:00 01:00")]).unwrap();
        assert_eq!(params.from.unwrap().start().to_string(), "2026-11-20T00:00:00Z");
    }

    #[test]
    fn the_fingerprint_tells_questions_apart_and_not_their_pages() {
        let print = |raw: &[(&str, &str)]| parse(raw).unwrap().fingerprint;
        assert_eq!(
            print(&[("bucket", "day"), ("page_size", "5")]),
            print(&[("page_size", "7"), ("bucket", "day")])
        );
        assert_ne!(print(&[("bucket", "day")]), print(&[("bucket", "hour")]));
    }
}
