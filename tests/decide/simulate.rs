//! What other terms would have made of the same usage.

use proptest::prelude::*;
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::walk::Terms;
use tallyman::domain::terms::book::OrgTerms;
use tallyman::domain::terms::records::{AutoPurchase, DefaultTerms, LimitMode, OrgPolicy, TermsRecord};
use tallyman::domain::time::Hour;
use tallyman::domain::what_if::replay::Step;
use tallyman::domain::what_if::simulate::{PeriodOutcome, Simulation, with_terms};

use crate::support::{at, credits, history, policy};

fn whole(credits: i64) -> CreditSum {
    CreditSum::whole(credits)
}

fn outcome(org: &OrgTerms, steps: &[Step], from: &str, to: &str) -> Vec<PeriodOutcome> {
    let terms = Terms { org, default: &DefaultTerms::Allow };
    let mut simulation = Simulation::new("acme", terms, at(from), at(to));
    steps.iter().for_each(|step| simulation.add(*step));
    simulation.finish()
}

/// Forty credits a day at noon.
fn steps() -> Vec<Step> {
    let first = at("2026-10-01T12:00:00Z").hour();
    (0..61).map(|day| Step::whole_hour(Hour(first.0 + 24 * day), whole(40))).collect()
}

fn own() -> OrgTerms {
    let policy = OrgPolicy { base_allocation: credits("1000"), ..policy() };
    OrgTerms { policies: history([policy]), ..OrgTerms::default() }
}

#[test]
fn a_block_its_overage_and_its_thresholds_are_told_period_by_period() {
    let periods = outcome(&own(), &steps(), "2026-10-01T00:00:00Z", "2026-12-01T00:00:00Z");
    let [october, november] = &periods[..] else { panic!("{periods:?}") };
    assert_eq!(
        (october.used, october.allowance, october.overage),
        (whole(31 * 40), Some(whole(1000)), whole(240))
    );
    // The twenty-fifth day brings the thousandth credit; what came after it would have been refused.
    let ((_, hour), until) = october.blocked[0];
    assert_eq!(hour, Some(at("2026-10-25T12:00:00Z").hour()));
    assert_eq!((until, october.blocked.len()), (Some(at("2026-11-01T00:00:00Z")), 1));
    assert_eq!(october.while_blocked, whole(6 * 40));
    let reached: Vec<_> =
        october.thresholds.iter().map(|(percent, (_, hour))| (*percent, hour.unwrap().day().0)).collect();
    let first = at("2026-10-01T12:00:00Z").hour().day().0;
    assert_eq!(reached, [(75, first + 18), (90, first + 22), (100, first + 24)]);
    assert_eq!(november.used, whole(30 * 40));
    assert_eq!(november.blocked[0].1, None, "it still was at the end of what was asked for");
}

#[test]
fn other_terms_take_the_place_of_those_in_force_from_their_instant_on() {
    let mut scheduled = own();
    scheduled.policies.insert(
        11,
        OrgPolicy { base_allocation: credits("1"), effective_at: at("2026-11-10T00:00:00Z"), ..policy() },
    );
    let soft = OrgPolicy {
        base_allocation: credits("1000"),
        limit_mode: LimitMode::Soft,
        soft_extra: credits("100"),
        effective_at: at("2026-11-01T00:00:00Z"),
        ..policy()
    };
    let other = with_terms(&scheduled, &[TermsRecord::OrgPolicy(soft)]);
    assert_eq!(other.policies.iter().count(), 2, "the scheduled one is gone, that of the time before stays");
    let periods = outcome(&other, &steps(), "2026-10-01T00:00:00Z", "2026-12-01T00:00:00Z");
    assert_eq!(periods[0], outcome(&own(), &steps(), "2026-10-01T00:00:00Z", "2026-12-01T00:00:00Z")[0]);
    let ((_, hour), _) = periods[1].blocked[0];
    assert_eq!(hour, Some(at("2026-11-28T12:00:00Z").hour()), "a hundred more than the thousand");
    assert_eq!((periods[1].overage, periods[1].while_blocked), (whole(200), whole(2 * 40)));
}

#[test]
fn a_range_inside_a_period_counts_the_usage_before_it_and_clips_its_block() {
    let periods = outcome(&own(), &steps(), "2026-10-28T00:00:00Z", "2026-10-30T00:00:00Z");
    assert_eq!((periods.len(), periods[0].used), (1, whole(29 * 40)));
    assert_eq!(periods[0].blocked, [((at("2026-10-28T00:00:00Z"), None), None)]);
    assert_eq!(periods[0].while_blocked, whole(2 * 40), "only what the range holds");
}

#[test]
fn packs_that_other_terms_ask_for_come_at_once_and_carry_over() {
    let auto = AutoPurchase { at_percent: 90, pack_credits: credits("100"), max_packs_per_period: 3 };
    let other = OrgPolicy {
        base_allocation: credits("1000"),
        auto_purchase: Some(auto),
        effective_at: at("2026-10-01T00:00:00Z"),
        ..policy()
    };
    let other = with_terms(&own(), &[TermsRecord::OrgPolicy(other)]);
    let terms = Terms { org: &other, default: &DefaultTerms::Allow };
    let range = (at("2026-10-01T00:00:00Z"), at("2026-12-01T00:00:00Z"));
    let mut simulation = Simulation::of_other_terms("acme", terms, range.0, range.1);
    steps().into_iter().for_each(|step| simulation.add(step));
    let periods = simulation.finish();
    let [october, november] = &periods[..] else { panic!("{periods:?}") };
    assert_eq!((october.packs, &october.blocked, october.overage), (3, &vec![], CreditSum::ZERO));
    assert_eq!((october.used, october.allowance), (whole(1240), Some(whole(1300))));
    // Sixty of the last pack are left over: 1,060, and three packs more.
    assert_eq!((november.packs, november.allowance), (3, Some(whole(1360))));
    // The own terms' requests were answered by nobody: one is asked for, and it waits.
    let mut unanswered = Simulation::new("acme", terms, range.0, range.1);
    steps().into_iter().for_each(|step| unanswered.add(step));
    let october = &unanswered.finish()[0];
    assert_eq!((october.packs, october.allowance, october.blocked.len()), (1, Some(whole(1000)), 1));
}

proptest! {
    #[test]
    fn the_same_terms_give_the_same_outcome_and_sums_are_those_of_the_usage(
        micros in prop::collection::vec((0..1400_i32, -5..50_000_000_i64), 0..60),
        base in 0..2000_i64,
    ) {
        let first = at("2026-10-01T00:00:00Z").hour().0;
        let mut micros = micros;
        micros.sort_unstable();
        let steps: Vec<Step> = micros
            .iter()
            .map(|(hour, credits)| Step::whole_hour(Hour(first + hour), CreditSum(i128::from(*credits))))
            .collect();
        let policy = OrgPolicy { base_allocation: Credits::from_micros(base * 1_000_000).unwrap(), ..policy() };
        let own = OrgTerms { policies: history([policy.clone()]), ..OrgTerms::default() };
        let range = ("2026-10-01T00:00:00Z", "2026-12-01T00:00:00Z");
        let actual = outcome(&own, &steps, range.0, range.1);
        let same = with_terms(&own, &[TermsRecord::OrgPolicy(OrgPolicy { effective_at: at(range.0), ..policy })]);
        prop_assert_eq!(&actual, &outcome(&same, &steps, range.0, range.1));
        let sum: i128 = actual.iter().map(|period| period.used.0).sum();
        prop_assert_eq!(sum, steps.iter().filter(|step| step.known_at < at(range.1)).map(|step| step.credits.0).sum::<i128>());
    }
}
