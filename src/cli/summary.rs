//! The table of `tallyman query summary`: an organisation's running period as a person reads it. CSV and JSON keep every
//! field as it is; this one shows what there is in words, with bars and dates. It computes no credits.

use std::io::{self, Write};

use serde_json::Value;

use super::explain::why;
use super::query::cell;
use super::table::shown;
use crate::codec::Fields;

/// Characters of a bar.
const BAR_WIDTH: usize = 30;

pub(super) fn write(summary: &Fields, out: &mut dyn Write) -> io::Result<()> {
    let text = |name: &str| summary.get(name).map(|value| shown(&cell(value))).unwrap_or_default();
    let has = |name: &str| summary.get(name).is_some_and(|value| !value.is_null());
    let amount = |name: &str| plain(&text(name)).to_owned();
    let plan = if has("plan") {
        format!("plan {}, {}", text("plan"), text("limit_mode"))
    } else {
        "no policy: limits.default holds".to_owned()
    };
    writeln!(out, "{}: {plan}", text("org_id"))?;
    let left = match text("days_until_reset").as_str() {
        "1" => "1 day left".to_owned(),
        days => format!("{days} days left"),
    };
    line(out, "Period", &format!("{} to {}, {left}", date(&text("period_start")), date(&text("period_end"))))?;
    line(out, "Decision", &decision(summary.get("decision").unwrap_or(&Value::Null)))?;
    writeln!(out)?;
    if has("allowance") {
        line(out, "Used", &share(&text("percent_used"), &amount("used"), &amount("allowance")))?;
        line(out, "Remaining", &amount("remaining"))?;
        line(out, "Base", &share(&text("base_percent_used"), &amount("base_used"), &amount("base_allocation")))?;
    } else {
        line(out, "Used", &format!("{}, without a limit", amount("used")))?;
    }
    // What the plan does not have is not shown.
    let some = |name: &str| has(name) && amount(name) != "0";
    if some("grants_used") || some("grants_remaining") {
        line(out, "Grants", &format!("{} used, {} left", amount("grants_used"), amount("grants_remaining")))?;
    }
    if some("overage") {
        line(out, "Overage", &format!("{} that neither base nor grants cover", amount("overage")))?;
    }
    if some("soft_extra") {
        line(out, "Soft extra", &format!("{} of {} left", amount("soft_extra_remaining"), amount("soft_extra")))?;
    }
    writeln!(out)?;
    line(out, "Products", &format!("{} active", text("active_products")))?;
    if let Some(Value::Object(peak)) = summary.get("peak_day") {
        let of = |name: &str| peak.get(name).map(|value| shown(&cell(value))).unwrap_or_default();
        line(out, "Peak day", &format!("{}, {} credits", of("date"), plain(&of("credits"))))?;
    }
    let active = if has("average_per_active_day") {
        format!(", {} on days with usage", amount("average_per_active_day"))
    } else {
        String::new()
    };
    line(out, "Average", &format!("{} a day{active}", amount("average_per_elapsed_day")))?;
    line(out, "As of", &date(&text("as_of")))?;
    if has("since") {
        line(out, "Since", &format!("{}: the log holds nothing from before", date(&text("since"))))?;
    }
    Ok(())
}

fn line(out: &mut dyn Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "{name:<11} {text}")
}

/// `BLOCK since 2026-11-20 10:12:33 UTC: the allowance of this period is spent (ALLOWANCE_SPENT)`.
fn decision(decision: &Value) -> String {
    let text = |name: &str| decision.get(name).map(|value| shown(&cell(value))).unwrap_or_default();
    if decision.is_null() {
        return "none is published yet".to_owned();
    }
    let reason = text("reason");
    format!("{}: {} ({reason}), decided {}", text("action"), why(&reason), date(&text("decided_at")))
}

/// A bar and what it shows. Without a percentage there is nothing to have a share of.
fn share(percent: &str, used: &str, of: &str) -> String {
    let amounts = format!("{used} of {of}");
    let Ok(whole) = percent.split('.').next().unwrap_or_default().parse::<i64>() else { return amounts };
    let filled = usize::try_from(whole.clamp(0, 100)).unwrap_or(0) * BAR_WIDTH / 100;
    let rest = BAR_WIDTH - filled;
    format!("[{}{}] {} %  {amounts}", "#".repeat(filled), ".".repeat(rest), plain(percent))
}

/// A decimal without the zeros at its end.
pub(super) fn plain(decimal: &str) -> &str {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.') } else { decimal }
}

/// An RFC 3339 instant in UTC as people write it, to the second: a date alone where it is midnight.
fn date(instant: &str) -> String {
    let Some((day, time)) = instant.split_once('T') else { return instant.to_owned() };
    match time.trim_end_matches('Z').split('.').next().unwrap_or_default() {
        "00:00:00" => day.to_owned(),
        time => format!("{day} {} UTC", time.strip_suffix(":00").unwrap_or(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_its_percentage_and_never_fuller_than_full() {
        assert_eq!(share("50.000000", "5", "10"), format!("[{}{}] 50 %  5 of 10", "#".repeat(15), ".".repeat(15)));
        assert_eq!(share("105.5", "10.55", "10"), format!("[{}] 105.5 %  10.55 of 10", "#".repeat(30)));
        assert_eq!(share("-3.25", "-1", "10"), format!("[{}] -3.25 %  -1 of 10", ".".repeat(30)));
        assert_eq!(share("-", "0", "0"), "0 of 0", "of nothing there is no share");
    }

    #[test]
    fn a_decimal_loses_zeros_and_nothing_else() {
        for (decimal, short) in [("12.500000", "12.5"), ("100.000000", "100"), ("0.000000", "0"), ("100", "100")] {
            assert_eq!(plain(decimal), short);
        }
    }

    #[test]
    fn an_instant_is_a_date_with_its_time_where_that_is_not_midnight() {
        assert_eq!(date("2026-11-01T00:00:00Z"), "2026-11-01");
        assert_eq!(date("2026-11-11T23:00:00Z"), "2026-11-11 23:00 UTC");
        assert_eq!(date("2026-11-20T10:12:33.123456Z"), "2026-11-20 10:12:33 UTC");
    }
}
