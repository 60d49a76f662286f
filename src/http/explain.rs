//! `/v1/orgs/{org}/explain`: why an org, or a value inside it, is blocked or allowed.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::json;

use crate::domain::limits::decision::LimitDecision;
use crate::domain::terms::records::TermsRecord;
use crate::domain::usage::dimension::Dimension;
use crate::domain::what_if::explain::Remedy;
use crate::query::{ExplainParams, ExplainedDay, Explanation, TopicNames, decision_fields, terms_fields};

use super::dto::{credits, date, text};
use super::object::{Object, object};
use super::problem::Problem;
use super::{ApiState, Org, Params};

/// `/v1/orgs/{org}/explain`.
pub async fn explain(
    State(state): State<ApiState>,
    Org(org): Org,
    headers: HeaderMap,
    Params(raw): Params,
) -> Result<Response, Problem> {
    let params = ExplainParams::parse(&raw)?;
    let topics = state.query.topics().clone();
    state
        .answer(headers, move |query| {
            let answer = query.explain(&org, &params)?;
            Ok((body(&answer, &topics), Some(answer.standing)))
        })
        .await
}

fn body(answer: &Explanation, topics: &TopicNames) -> Object {
    let level = &answer.level;
    let scope = answer.scope.as_ref();
    let (budget_offset, budget) = answer.budget.clone().unzip();
    let budget = budget.map(|budget| terms_fields(&TermsRecord::Budget(budget)));
    let (since, since_hour) = answer.since.unzip();
    let since_hour = since_hour.flatten();
    let (policy_offset, policy) = answer.policy.clone().unzip();
    let policy = policy.map(|policy| terms_fields(&TermsRecord::OrgPolicy(policy)));
    object! {
        "org_id": json!(answer.org_id),
        "at": text(answer.at),
        "action": json!(level.action.name()),
        "reason": json!(level.reason.name()),
        "dimension": json!(scope.and_then(|scope| scope.dimension).map(Dimension::name)),
        "value": json!(scope.and_then(|scope| scope.value.as_deref())),
        "budget_id": json!(scope.map(|scope| &scope.budget_id)),
        "budget_name": json!(level.budget.as_ref().map(|(name, _)| name)),
        "holds_since": json!(since.map(|at| at.to_string())),
        "holds_since_hour": json!(since_hour.map(|hour| hour.start().to_string())),
        "cause": answer.decision.as_ref().and_then(|decision| cause(decision, topics)),
        "used": text(answer.figures.used),
        "allowance": credits(level.allowance),
        "extra": credits(level.extra),
        "remaining": credits(answer.figures.remaining),
        "period_start": text(level.period_start),
        "period_end": text(level.period_end),
        "usage_counted_to": json!(answer.counted_to.map(|hour| hour.start().to_string())),
        "used_in_that_hour": credits(answer.in_that_hour),
        "at_end_of_that_hour": json!(answer.at_end_of_hour.as_ref().map(|level| level.action.name())),
        "policies_topic": json!(topics.policies),
        "policy_offset": json!(policy_offset.flatten()),
        "policy": policy,
        "budget_offset": json!(budget_offset),
        "budget": budget,
        "days": answer.days.iter().map(day).collect::<Vec<_>>(),
        "unblocked_by": answer.remedies.iter().map(remedy).collect::<Vec<_>>(),
        "decision": answer.decision.as_ref().map(decision_fields),
        "also_blocked": answer.also_blocked.iter().map(decision_fields).collect::<Vec<_>>(),
    }
}

/// The record that caused the decision; none where time or terms did.
fn cause(decision: &LimitDecision, topics: &TopicNames) -> Option<Object> {
    let (partition, offset) = decision.cause.record?;
    Some(object! {
        "topic": json!(topics.usage),
        "partition": json!(partition),
        "offset": json!(offset),
        "event_id": json!(decision.cause.event_id),
        "trace_id": json!(decision.cause.trace_id),
    })
}

fn day(day: &ExplainedDay) -> Object {
    let product = |(product, sum): (&Option<String>, _)| {
        object! {"product": json!(product), "credits": text(sum)}
    };
    object! {
        "date": date(day.day),
        "credits": text(day.credits),
        "products": day.products.iter().map(product).collect::<Vec<_>>(),
    }
}

fn remedy(remedy: &Remedy) -> Object {
    let more_than = |what: &str, sum| object! {"what": json!(what), "more_than": text(sum)};
    match *remedy {
        Remedy::WaitUntil(until) => object! {"what": json!("wait"), "until": text(until)},
        Remedy::RaiseBase(sum) => more_than("base_allocation", sum),
        Remedy::RaiseSoftExtra(sum) => more_than("soft_extra", sum),
        Remedy::Buy(sum) => more_than("grant", sum),
        Remedy::BuySeveral(sum) => more_than("grants", sum),
        Remedy::RaiseBudget(sum) => more_than("limit", sum),
        Remedy::EndBudget => object! {"what": json!("end_budget")},
        Remedy::Activate => object! {"what": json!("activate")},
        Remedy::GivePolicy => object! {"what": json!("policy")},
    }
}
