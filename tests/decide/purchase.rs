//! Automatic purchases against the sentences of CONTRACT.md, and the forecast alert.

use tallyman::domain::credits::CreditSum;
use tallyman::domain::id::OrgId;
use tallyman::domain::limits::alert::{AlertKind, alert_of};
use tallyman::domain::limits::decide::{Judgement, judge};
use tallyman::domain::limits::decision::{Action, Cause, Level, LimitDecision};
use tallyman::domain::limits::inputs::Granted;
use tallyman::domain::limits::inputs::Inputs;
use tallyman::domain::limits::purchase::is_pending;
use tallyman::domain::limits::scope::Scope;
use tallyman::domain::limits::walk::{self, Walk};
use tallyman::domain::terms::book::OrgTerms;
use tallyman::domain::terms::period::period_at;
use tallyman::domain::terms::purchase_id::purchase_id;
use tallyman::domain::terms::records::{
    AutoPurchase, CreditGrant, DefaultTerms, OrgPolicy, OrgStatus, PurchaseDeclined, TermsRecord,
};
use tallyman::domain::time::{Hour, Timestamp};

use crate::support::{at, credits, policy};

const DEFAULT: DefaultTerms = DefaultTerms::Allow;

/// An org that buys packs of 50 credits, followed decision by decision.
struct Buyer {
    terms: OrgTerms,
    offset: i64,
    hours: Vec<(Hour, CreditSum)>,
    published: Option<Level>,
    asked: Vec<i32>,
}

fn buying(at_percent: i32, max_packs_per_period: i32) -> OrgPolicy {
    let auto = AutoPurchase { at_percent, pack_credits: credits("50"), max_packs_per_period };
    OrgPolicy { auto_purchase: Some(auto), ..policy() }
}

impl Buyer {
    fn new(policy: OrgPolicy) -> Self {
        let mut terms = OrgTerms::default();
        terms.insert(1, TermsRecord::OrgPolicy(policy));
        Self { terms, offset: 1, hours: Vec::new(), published: None, asked: Vec::new() }
    }

    fn spend(&mut self, amount: &str, now: Timestamp) {
        match self.hours.last_mut() {
            Some((hour, sum)) if *hour == now.hour() => *sum += credits(amount).into(),
            _ => self.hours.push((now.hour(), credits(amount).into())),
        }
    }

    fn judge(&self, now: Timestamp, micros_per_second: i128) -> Judgement {
        let walk_terms = walk::Terms { org: &self.terms, default: &DEFAULT };
        let Ok(walk) = Walk::load(walk_terms, now, |from, each| {
            self.hours.iter().filter(|(hour, _)| *hour >= from).for_each(|&(hour, sum)| each(hour, sum));
            Ok::<(), std::convert::Infallible>(())
        });
        let balance = walk.balance();
        let granted = (!self.terms.grants.is_empty())
            .then(|| Granted { allowance: balance.allowance().unwrap_or_default(), until: walk.until() });
        judge(&Inputs {
            org: "acme",
            terms: Some(&self.terms),
            granted,
            default: &DEFAULT,
            period: period_at(Some(&self.terms.policies), &DEFAULT, now),
            used: balance.used,
            micros_per_second,
            previous: self.published.as_ref(),
            forecast_cleared: false,
            ahead: None,
            now,
        })
    }

    /// Decides until nothing changes and gives the ordinals asked for meanwhile.
    fn settle(&mut self, now: Timestamp) -> Vec<i32> {
        let before = self.asked.len();
        loop {
            let judged = self.judge(now, 0);
            if self.published.as_ref() == Some(&judged.level) {
                return self.asked[before..].to_vec();
            }
            self.asked.extend(judged.purchase.map(|asked| asked.ordinal));
            self.published = Some(judged.level);
        }
    }

    fn id(&self, ordinal: i32) -> String {
        purchase_id("acme", self.published.as_ref().unwrap().period_start, ordinal)
    }

    fn answer(&mut self, record: TermsRecord) {
        self.offset += 1;
        self.terms.insert(self.offset, record);
    }

    fn grant(&mut self, ordinal: i32, now: Timestamp, voided_at: Option<Timestamp>) {
        let grant = CreditGrant {
            org_id: "acme".into(),
            grant_id: self.id(ordinal),
            credits: credits("50"),
            kind: "purchase".into(),
            price: None,
            currency: None,
            effective_at: now,
            expires_at: None,
            voided_at,
            priority: 0,
            updated_by: "billing".into(),
        };
        self.answer(TermsRecord::CreditGrant(grant));
    }

    fn decline(&mut self, ordinal: i32) {
        let purchase_id = self.id(ordinal);
        let declined = PurchaseDeclined { org_id: "acme".into(), purchase_id, reason: "no money".into() };
        self.answer(TermsRecord::PurchaseDeclined(declined));
    }
}

fn noon(day: u32) -> Timestamp {
    at(&format!("2026-11-{day:02}T12:00:00Z"))
}

#[test]
fn a_pack_is_asked_for_once_when_used_reaches_its_percent_of_the_allowance() {
    let mut buyer = Buyer::new(buying(80, 3));
    assert_eq!(buyer.settle(noon(2)), [] as [i32; 0]);
    buyer.spend("79.999999", noon(3));
    assert_eq!(buyer.settle(noon(3)), [] as [i32; 0]);
    buyer.spend("0.000001", noon(3));
    assert_eq!(buyer.settle(noon(3)), [1]);
    buyer.spend("50", noon(4));
    assert_eq!(buyer.settle(noon(4)), [] as [i32; 0], "one is pending, whatever is spent");
    assert_eq!(buyer.published.as_ref().unwrap().action, Action::Block);
    assert!(is_pending(Some(&buyer.terms), "acme", buyer.published.as_ref().unwrap(), noon(4)));
}

#[test]
fn the_next_is_asked_for_when_all_before_are_answered_and_used_is_at_its_percent_of_the_allowance_with_them() {
    let mut buyer = Buyer::new(buying(80, 3));
    buyer.spend("85", noon(3));
    assert_eq!(buyer.settle(noon(3)), [1]);
    buyer.grant(1, noon(3), None);
    // 85 of 150 is below 80 %.
    assert_eq!(buyer.settle(noon(3)), [] as [i32; 0]);
    assert_eq!(buyer.published.as_ref().unwrap().allowance, Some(credits("150").into()));
    buyer.spend("35", noon(4));
    assert_eq!(buyer.settle(noon(4)), [2], "120 of 150");
    buyer.decline(2);
    assert_eq!(buyer.settle(noon(4)), [3], "declined, and still at 80 %");
    buyer.grant(3, noon(4), Some(noon(4)));
    assert_eq!(buyer.settle(noon(5)), [] as [i32; 0], "never more than max_packs_per_period");
}

#[test]
fn corrections_never_ask_again() {
    let mut buyer = Buyer::new(buying(80, 3));
    buyer.spend("85", noon(3));
    assert_eq!(buyer.settle(noon(3)), [1]);
    buyer.spend("-60", noon(3));
    assert_eq!(buyer.settle(noon(3)), [] as [i32; 0]);
    buyer.spend("60", noon(3));
    assert_eq!(buyer.settle(noon(3)), [] as [i32; 0], "the same crossing again");
}

#[test]
fn a_pending_purchase_lapses_at_the_periods_end() {
    let mut buyer = Buyer::new(buying(80, 3));
    buyer.spend("85", noon(3));
    assert_eq!(buyer.settle(noon(3)), [1]);
    let december = at("2026-12-01T00:00:00Z");
    assert!(!is_pending(Some(&buyer.terms), "acme", buyer.published.as_ref().unwrap(), december));
    assert_eq!(buyer.settle(december), [] as [i32; 0]);
    assert_eq!(buyer.published.as_ref().unwrap().purchases_requested, 0);
    buyer.spend("80", december);
    assert_eq!(buyer.settle(december), [1], "the new period counts from one");
}

#[test]
fn an_org_without_an_allowance_buys_at_its_first_use_and_not_before() {
    for at_percent in [1, 90, 100] {
        let mut buyer = Buyer::new(OrgPolicy { base_allocation: credits("0"), ..buying(at_percent, 3) });
        assert_eq!(buyer.settle(noon(2)), [] as [i32; 0], "zero is no share of zero");
        let level = buyer.published.as_ref().unwrap();
        assert_eq!(
            (level.action, level.level),
            (Action::Block, 0),
            "nothing is allowed, and no threshold is reached"
        );
        buyer.spend("1", noon(3));
        buyer.spend("-1", noon(3));
        assert_eq!(buyer.settle(noon(3)), [] as [i32; 0], "what was taken back is no usage");
        buyer.spend("0.000001", noon(3));
        assert_eq!(buyer.settle(noon(3)), [1]);
        assert_eq!(buyer.published.as_ref().unwrap().level, 100);
        let december = at("2026-12-01T00:00:00Z");
        assert_eq!(buyer.settle(december), [] as [i32; 0], "a new period begins without usage");
        assert_eq!(buyer.published.as_ref().unwrap().level, 0);
    }
}

#[test]
fn neither_a_suspended_nor_an_unlimited_org_buys() {
    for policy in [
        OrgPolicy { status: OrgStatus::Suspended, ..buying(80, 3) },
        OrgPolicy { unlimited: true, ..buying(80, 3) },
    ] {
        let mut buyer = Buyer::new(policy);
        buyer.spend("1000", noon(3));
        assert_eq!(buyer.settle(noon(3)), [] as [i32; 0]);
    }
}

/// The runaway that users of other systems report: usage goes on while packs are under way.
#[test]
fn an_org_that_spends_faster_than_packs_come_cannot_run_away() {
    let mut buyer = Buyer::new(buying(50, 4));
    let mut under_way: Vec<(i32, Timestamp)> = Vec::new();
    for minute in 0..2_000 {
        let now = noon(3).plus_micros(i64::from(minute) * 60_000_000);
        buyer.spend("7.5", now);
        under_way.extend(buyer.settle(now).into_iter().map(|ordinal| (ordinal, now.plus_micros(37 * 60_000_000))));
        let open = under_way.iter().filter(|(_, due)| *due > now).count();
        assert!(open <= 1, "{open} packs are under way");
        for (ordinal, due) in under_way.clone() {
            if due == now {
                buyer.grant(ordinal, now, None);
            }
        }
    }
    assert_eq!(buyer.asked, [1, 2, 3, 4], "each once, and no more than four");
}

#[test]
fn the_same_request_has_the_same_id_which_is_a_legal_one_of_a_grant() {
    let start = at("2026-11-01T00:00:00Z");
    let long = "o".repeat(128);
    for org in ["a", "acme:eu@x", &long] {
        let id = purchase_id(org, start, 1000);
        assert_eq!(id, purchase_id(org, start, 1000));
        assert!(OrgId::new(&id).is_some(), "{id}");
        assert_ne!(id, purchase_id(org, start, 999));
        assert_ne!(id, purchase_id(org, at("2026-12-01T00:00:00Z"), 1000));
    }
    assert_ne!(purchase_id(&long, start, 1), purchase_id(&format!("{}p", "o".repeat(127)), start, 1));
}

/// The level after `previous` at a rate of so many credits a day, and what it alerts.
fn foretold(buyer: &Buyer, per_day: i128, cleared: bool, now: Timestamp) -> (Level, Option<AlertKind>) {
    let rate = per_day * 1_000_000 / 86_400;
    let previous = buyer.published.as_ref();
    let facts_now = buyer.judge(now, rate);
    let level = Level {
        forecast_alerted_on: tallyman::domain::limits::forecast::alerted_on(
            (&facts_now.level, facts_now.outlook),
            previous,
            cleared,
            now,
        ),
        ..facts_now.level
    };
    let decision = LimitDecision {
        scope: Scope::org("acme"),
        level: level.clone(),
        figures: facts_now.figures,
        version: 2,
        decided_at: now,
        cause: Cause::default(),
    };
    (level, alert_of(previous, &decision).map(|alert| alert.kind))
}

#[test]
fn a_forecast_alert_comes_when_the_recent_rate_spends_the_allowance_before_the_period_ends() {
    let mut buyer = Buyer::new(policy());
    buyer.spend("50", noon(10));
    buyer.settle(noon(10));
    // 50 credits for 20.5 days: 2.44 a day.
    assert_eq!(foretold(&buyer, 2, false, noon(10)).1, None);
    let (level, kind) = foretold(&buyer, 3, false, noon(10));
    assert_eq!(kind, Some(AlertKind::DepletionForecast));
    buyer.published = Some(level);
    assert_eq!(foretold(&buyer, 30, true, noon(10)).1, None, "at most one a day");
    assert_eq!(foretold(&buyer, 30, false, noon(11)).1, None, "not again before it would have lasted");
    assert_eq!(foretold(&buyer, 30, true, noon(11)).1, Some(AlertKind::DepletionForecast));
}

#[test]
fn nothing_is_foretold_of_what_is_spent_or_has_no_end() {
    let mut spent = Buyer::new(policy());
    spent.spend("100", noon(10));
    spent.settle(noon(10));
    assert_eq!(foretold(&spent, 50, true, noon(10)).1, None);
    let mut endless = Buyer::new(OrgPolicy { unlimited: true, ..policy() });
    endless.settle(noon(10));
    assert_eq!(foretold(&endless, 1_000_000, true, noon(10)).1, None);
}
