//! `tallyman explain`: asks a running instance why an organisation, or a value inside it, is blocked or allowed, and says
//! it in plain text that a support person can paste to a customer. It computes nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::Value;

use super::policy::Asking;
use super::query::{cell, org_path, write_json};
use super::table::{Output, Table, shown};
use crate::codec::Fields;
use crate::config::Settings;

/// Products that have a column of their own; the others are in the total.
const PRODUCTS_SHOWN: usize = 6;

/// Arguments of `tallyman explain`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The organisation's id
    org: String,
    /// A dimension: user, product, model, ...
    #[arg(long, requires = "value")]
    dimension: Option<String>,
    /// Its value, as requests carry it
    #[arg(long, requires = "dimension")]
    value: Option<String>,
    /// An instant in the past, RFC 3339 [default: now]
    #[arg(long)]
    at: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn run(settings: &Settings, args: &ExplainArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let named = [("dimension", &args.dimension), ("value", &args.value), ("at", &args.at)];
    let params: Vec<(&str, &str)> =
        named.iter().filter_map(|(name, value)| value.as_deref().map(|value| (*name, value))).collect();
    let answer: Fields = args.asking.api(settings).get(&org_path(&args.org, "/explain")?, &params)?;
    Ok(match args.asking.output {
        Output::Json => write_json(&answer, out),
        Output::Csv => write_csv(&Told(answer), out),
        Output::Table => write(&Told(answer), out),
    }?)
}

/// The answer, by the names of its fields.
struct Told(Fields);

impl Told {
    fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    fn word(&self, name: &str) -> String {
        self.0.get(name).map(|value| shown(&cell(value))).unwrap_or_default()
    }

    fn list(&self, name: &str) -> &[Value] {
        self.0.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn inner(&self, object: &str, name: &str) -> String {
        let value = self.0.get(object).and_then(|object| object.get(name));
        value.filter(|value| !value.is_null()).map(|value| shown(&cell(value))).unwrap_or_default()
    }
}

/// One row: what holds, since when, why, and what would unblock it. Days and products are in the other outputs.
fn write_csv(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    let own = ["org_id", "at", "dimension", "value", "budget_id", "budget_name", "action", "reason"];
    let more = ["holds_since", "holds_since_hour", "period_start", "period_end", "used", "allowance", "extra"];
    let last = ["remaining", "policy_offset", "budget_offset"];
    let fields: Vec<&str> = own.into_iter().chain(more).chain(last).collect();
    let cause = ["topic", "partition", "offset", "event_id", "trace_id"];
    let header = fields.iter().map(|name| (*name).to_owned()).chain(cause.map(|name| format!("cause_{name}")));
    let mut table = Table::new(header.chain(["unblocked_by".to_owned()]));
    let values = fields.iter().map(|name| told.0.get(name).map(cell).unwrap_or_default());
    let cause = cause.map(|name| {
        let value = told.0.get("cause").and_then(|cause| cause.get(name));
        value.map(cell).unwrap_or_default()
    });
    let remedies: Vec<String> = told.list("unblocked_by").iter().map(|one| remedy(told, one)).collect();
    table.push(values.chain(cause).chain([remedies.join(" ")]));
    table.write_csv(out)
}

fn write(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", headline(told))?;
    writeln!(out, "{}", since(told))?;
    grain(told, out)?;
    writeln!(out)?;
    writeln!(out, "Period  {} to {}", told.word("period_start"), told.word("period_end"))?;
    writeln!(out, "Used    {}", used(told))?;
    writeln!(out, "Terms   {}", terms(told))?;
    if told.has("budget") {
        writeln!(out, "Budget  {}", budget(told))?;
    }
    days(told, out)?;
    let remedies = told.list("unblocked_by");
    if !remedies.is_empty() {
        writeln!(out, "\nEach of these unblocks it:")?;
        remedies.iter().try_for_each(|one| writeln!(out, "  - {}", remedy(told, one)))?;
    }
    for other in told.list("also_blocked") {
        let text = |name: &str| other.get(name).map(|value| shown(&cell(value))).unwrap_or_default();
        let scope = if other["budget_id"].is_null() {
            "the organisation itself".to_owned()
        } else {
            format!("{} {} (budget {})", text("dimension"), text("value"), text("budget_id"))
        };
        writeln!(out, "\nAlso blocked: {scope}, {}.", text("reason"))?;
    }
    Ok(())
}

/// What a past instant's own hour leaves open.
fn grain(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    if told.has("usage_counted_to") {
        let to = told.word("usage_counted_to");
        writeln!(out, "Usage is known by the hour: this counts what came before {to}.")?;
    }
    if told.has("used_in_that_hour") {
        let end = match told.word("at_end_of_that_hour").as_str() {
            "BLOCK" => "by its end it was blocked",
            "ALLOW" => "by its end it was allowed",
            _ => "at its end it was as at its start",
        };
        let more = told.word("used_in_that_hour");
        writeln!(
            out,
            "Within that hour {more} more were used, and {end}. `tallyman simulate --exact` tells instants."
        )?;
    }
    Ok(())
}

fn headline(told: &Told) -> String {
    let whom = match (told.has("dimension"), told.has("value")) {
        (true, true) => format!("{} {} of {}", told.word("dimension"), told.word("value"), told.word("org_id")),
        (true, false) => format!("each other {} of {}", told.word("dimension"), told.word("org_id")),
        _ => told.word("org_id"),
    };
    let verb = if told.word("action") == "BLOCK" { "is blocked" } else { "is allowed" };
    format!("{whom} {verb}: {} ({}).", why(&told.word("reason")), told.word("reason"))
}

/// What a reason means to a customer.
pub(super) fn why(reason: &str) -> &'static str {
    match reason {
        "WITHIN_ALLOWANCE" => "its usage is within the allowance",
        "IN_OVERAGE" => "the allowance is spent, and its plan lets usage go on as overage",
        "ALLOWANCE_SPENT" => "the allowance of this period is spent",
        "OVERAGE_SPENT" => "the allowance and the extra credits of this period are spent",
        "WITHIN_BUDGET" => "its usage is within the budget",
        "BUDGET_SPENT" => "the budget is spent",
        "GUARD" => "the credits left would be spent before a block could take effect",
        "SUSPENDED" => "the organisation is suspended",
        "NO_POLICY" => "it has no policy, and the default decides",
        "UNLIMITED" => "its plan has no limit",
        _ => "for a reason that this version does not know",
    }
}

/// Hours do not tell what began and ended within one: only the last decision's own instant is free of that.
fn since(told: &Told) -> String {
    let at = told.word("holds_since");
    let state = if told.word("action") == "BLOCK" { "Blocked" } else { "Allowed" };
    let by_hours = "as far as the hours of usage show";
    let since = match (told.has("holds_since_hour"), told.has("holds_since")) {
        (true, _) => {
            format!("{state} since some instant of the hour from {} on, {by_hours}", told.word("holds_since_hour"))
        }
        (false, true) if at == told.inner("decision", "decided_at") => format!("{state} since {at} or earlier"),
        (false, true) if at == told.word("period_start") => {
            format!("{state} since the period began, {at}, or earlier, {by_hours}")
        }
        (false, true) => format!("{state} since {at}, {by_hours}"),
        _ => format!("{state} by the decision of {}", told.inner("decision", "decided_at")),
    };
    let decided_at = told.inner("decision", "decided_at");
    let action = told.inner("decision", "action");
    let cause = if told.has("decision") && action != told.word("action") {
        format!("The last decision differs: {action}, of {decided_at}.")
    } else if told.has("cause") {
        let trace = Some(told.inner("cause", "trace_id")).filter(|trace| !trace.is_empty());
        let trace = trace.map(|trace| format!(", trace {trace}")).unwrap_or_default();
        format!(
            "The last decision, of {decided_at}, followed from event {} ({}, partition {}, offset {}{trace}).",
            told.inner("cause", "event_id"),
            told.inner("cause", "topic"),
            told.inner("cause", "partition"),
            told.inner("cause", "offset"),
        )
    } else if told.has("decision") {
        format!("The last decision, of {decided_at}, followed from time or terms, not from an event.")
    } else {
        "It is computed from the hours of usage and the terms of that time: no decision of then is kept."
            .to_owned()
    };
    format!("{since}.\n{cause}")
}

fn used(told: &Told) -> String {
    let used = told.word("used");
    if !told.has("allowance") {
        return format!("{used}, without a limit");
    }
    let extra = match told.word("extra").as_str() {
        "0.000000" => String::new(),
        _ if !told.has("extra") => ", and beyond it without an end".to_owned(),
        extra => format!(", and {extra} beyond it"),
    };
    format!("{used} of {}{extra}; {} remain", told.word("allowance"), told.word("remaining"))
}

fn terms(told: &Told) -> String {
    if !told.has("policy") {
        return "no policy: limits.default holds".to_owned();
    }
    let field = |name| told.inner("policy", name);
    let what =
        format!("plan {}, base_allocation {}, {}", field("plan"), field("base_allocation"), field("limit_mode"));
    if !told.has("policy_offset") {
        return format!("limits.default: {what}");
    }
    format!(
        "{what}; since {}, by {} ({}, offset {})",
        field("effective_at"),
        field("updated_by"),
        told.word("policies_topic"),
        told.word("policy_offset")
    )
}

fn budget(told: &Told) -> String {
    let field = |name| told.inner("budget", name);
    format!(
        "{} ({}), {} a {}, {}; since {}, by {} ({}, offset {})",
        field("budget_id"),
        field("name"),
        field("limit"),
        field("period"),
        field("action"),
        field("effective_at"),
        field("updated_by"),
        told.word("policies_topic"),
        told.word("budget_offset")
    )
}

/// A line a day, a column for each of the largest products.
fn days(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    let days = told.list("days");
    if days.is_empty() {
        return Ok(());
    }
    let text = |value: &Value, name: &str| value.get(name).map(cell).unwrap_or_default();
    let products = |day: &Value| day["products"].as_array().cloned().unwrap_or_default();
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for product in days.iter().flat_map(products) {
        *sizes.entry(text(&product, "product")).or_default() += 1;
    }
    let mut names: Vec<(usize, String)> = sizes.into_iter().map(|(name, days)| (days, name)).collect();
    names.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    names.truncate(PRODUCTS_SHOWN);
    let header = ["day", "credits"].into_iter().map(str::to_owned);
    let mut table = Table::new(
        header
            .chain(names.iter().map(|(_, name)| if name.is_empty() { "(none)".to_owned() } else { name.clone() })),
    );
    for day in days {
        let products = products(day);
        let of = |wanted: &String| {
            products
                .iter()
                .find(|product| text(product, "product") == *wanted)
                .map(|product| text(product, "credits"))
        };
        let cells = names.iter().map(|(_, name)| of(name).unwrap_or_default());
        table.push([text(day, "date"), text(day, "credits")].into_iter().chain(cells));
    }
    writeln!(out, "\nThe sum that led there, by UTC day and product:")?;
    table.write(out)
}

fn remedy(told: &Told, remedy: &Value) -> String {
    let text = |name: &str| remedy.get(name).map(|value| shown(&cell(value))).unwrap_or_default();
    match text("what").as_str() {
        "wait" => format!("Wait until {}.", text("until")),
        "grant" => format!("Buy (or grant) more than {} credits.", text("more_than")),
        "grants" => format!("Buy (or grant) more than {} credits, in several grants.", text("more_than")),
        "end_budget" => "End the budget.".to_owned(),
        // An organisation that is SOFT already needs no other mode.
        "soft_extra" if told.inner("policy", "limit_mode") == "SOFT" => {
            format!("Raise soft_extra to more than {}.", text("more_than"))
        }
        "soft_extra" => format!("Set limit_mode SOFT with a soft_extra of more than {}.", text("more_than")),
        "limit" => format!("Raise the budget's limit to more than {}, or end it.", text("more_than")),
        "activate" => "Set the policy's status to active.".to_owned(),
        "policy" => "Give the organisation a policy.".to_owned(),
        field => format!("Raise {field} to more than {}.", text("more_than")),
    }
}
