//! The guard's sentences: when it blocks early, what it leaves alone, and what alone lifts it.

use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::decide::judge;
use tallyman::domain::limits::decision::{Action, DecisionReason, Level};
use tallyman::domain::limits::inputs::Ahead;
use tallyman::domain::limits::inputs::Inputs;
use tallyman::domain::terms::book::OrgTerms;
use tallyman::domain::terms::period::period_at;
use tallyman::domain::terms::records::{DefaultTerms, LimitMode, OrgPolicy, OrgStatus};
use tallyman::domain::time::Timestamp;

use crate::support::{at, credits, history, policy};

const NOW: &str = "2026-11-20T12:00:00Z";

/// Credits ahead, and the line that a record came near to.
type Seen<'a> = (&'a str, Option<&'a str>);

fn judged(
    policy: &OrgPolicy,
    used: &str,
    seen: Option<Seen<'_>>,
    previous: Option<&Level>,
    now: Timestamp,
) -> Level {
    let sum = |text: &str| CreditSum::from(credits(text));
    let terms = OrgTerms { policies: history([policy.clone()]), ..OrgTerms::default() };
    let default = DefaultTerms::Allow;
    judge(&Inputs {
        org: "acme",
        terms: Some(&terms),
        granted: None,
        default: &default,
        period: period_at(Some(&terms.policies), &default, now),
        used: sum(used),
        micros_per_second: 0,
        previous,
        forecast_cleared: false,
        ahead: seen.map(|(ahead, near)| Ahead { credits: sum(ahead), near: near.map(sum) }),
        now,
    })
    .level
}

fn outcome(policy: &OrgPolicy, used: &str, seen: Option<Seen<'_>>) -> (Action, DecisionReason) {
    let level = judged(policy, used, seen, None, at(NOW));
    (level.action, level.reason)
}

fn soft(extra: &str) -> OrgPolicy {
    OrgPolicy { limit_mode: LimitMode::Soft, soft_extra: credits(extra), ..policy() }
}

#[test]
fn a_guard_blocks_when_used_and_what_the_rate_spends_within_the_latency_reach_the_limit() {
    use Action::{Allow, Block};
    use DecisionReason::{AllowanceSpent, Guard, InOverage, OverageSpent, WithinAllowance};
    for (policy, used, ahead, expected) in [
        (policy(), "89.999999", Some(("10", None)), (Allow, WithinAllowance)),
        (policy(), "90", Some(("10", None)), (Block, Guard)),
        (policy(), "99.999999", Some(("0.000001", None)), (Block, Guard)),
        (policy(), "99.999999", Some(("0", None)), (Allow, WithinAllowance)),
        (policy(), "99.999999", None, (Allow, WithinAllowance)),
        (policy(), "100", Some(("10", None)), (Block, AllowanceSpent)),
        (soft("50"), "95", Some(("10", None)), (Allow, WithinAllowance)),
        (soft("50"), "139.999999", Some(("10", None)), (Allow, InOverage)),
        (soft("50"), "140", Some(("10", None)), (Block, Guard)),
        (soft("50"), "80", Some(("70", None)), (Block, Guard)),
        (soft("50"), "150", Some(("10", None)), (Block, OverageSpent)),
    ] {
        assert_eq!(outcome(&policy, used, ahead), expected, "{:?}: {used} and {ahead:?}", policy.limit_mode);
    }
}

#[test]
fn a_guard_leaves_alone_what_usage_does_not_block() {
    let near = Some(("1000", None));
    let endless = OrgPolicy { unlimited_overage: true, ..soft("50") };
    assert_eq!(outcome(&endless, "99", near), (Action::Allow, DecisionReason::WithinAllowance));
    let unlimited = OrgPolicy { unlimited: true, ..policy() };
    assert_eq!(outcome(&unlimited, "99", near), (Action::Allow, DecisionReason::Unlimited));
    let suspended = OrgPolicy { status: OrgStatus::Suspended, ..policy() };
    assert_eq!(outcome(&suspended, "99", near), (Action::Block, DecisionReason::Suspended));
    let nothing = OrgPolicy { base_allocation: Credits::ZERO, ..policy() };
    assert_eq!(outcome(&nothing, "0", near), (Action::Block, DecisionReason::AllowanceSpent));
}

#[test]
fn a_record_that_came_near_the_limit_counts_however_many_came_with_it() {
    // The batch went on beyond the limit, or a correction took usage back.
    for used in ["120", "50"] {
        assert_eq!(outcome(&policy(), used, Some(("0", Some("100")))), (Action::Block, DecisionReason::Guard));
    }
    assert_eq!(
        outcome(&policy(), "50", Some(("0", Some("99")))),
        (Action::Allow, DecisionReason::WithinAllowance)
    );
}

#[test]
fn a_guard_latches_until_allowance_extra_or_period_changes() {
    use Action::{Allow, Block};
    let calm = Some(("0", None));
    let guarded = judged(&soft("50"), "140", Some(("10", None)), None, at(NOW));
    assert_eq!(guarded.reason, DecisionReason::Guard);
    let later = at("2026-11-29T12:00:00Z");
    let raised = |base: &str| OrgPolicy { base_allocation: credits(base), ..soft("50") };
    for (policy, used, now, action) in [
        // The rate has fallen, in flight usage has come, a correction too: all the same.
        (soft("50"), "140", later, Block),
        (soft("50"), "155", later, Block),
        (soft("50"), "20", later, Block),
        (raised("100.000001"), "140", later, Allow),
        (raised("95"), "140", later, Allow),
        (soft("51"), "140", later, Allow),
        (soft("50"), "0", at("2026-12-01T00:00:00Z"), Allow),
    ] {
        let level = judged(&policy, used, calm, Some(&guarded), now);
        assert_eq!(level.action, action, "{used} of {}", policy.base_allocation);
        assert_eq!(level.reason == DecisionReason::Guard, action == Block);
    }
    // Another limit that is as near blocks again.
    let level = judged(&raised("101"), "145", Some(("10", None)), Some(&guarded), later);
    assert_eq!((level.action, level.reason), (Block, DecisionReason::Guard));
    // Where there is no guard any more, there is no latch.
    assert_eq!(judged(&soft("50"), "140", None, Some(&guarded), later).action, Allow);
}
