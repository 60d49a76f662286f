//! Terms: what an org may use, as the records of the policies topic say it. Next: `terms_book` for which of them is in
//! force at an instant.

use crate::domain::credits::{CreditSum, Credits};
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;

/// Whether an org may use anything at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrgStatus {
    /// It may.
    #[default]
    Active,
    /// It may not.
    Suspended,
}

/// What happens at the end of the allowance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitMode {
    /// Usage is blocked.
    #[default]
    Hard,
    /// Usage goes on into `soft_extra`, then is blocked.
    Soft,
}

/// When to ask for packs, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoPurchase {
    /// Percent of the allowance, 1..=100, at which a pack is requested.
    pub at_percent: i32,
    /// Credits of one pack, above 0.
    pub pack_credits: Credits,
    /// The most packs of one period, 1..=1000.
    pub max_packs_per_period: i32,
}

/// An org's plan and limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgPolicy {
    /// Whose.
    pub org_id: String,
    /// The plan's name.
    pub plan: String,
    /// Whether the org may use anything.
    pub status: OrgStatus,
    /// No limit at all.
    pub unlimited: bool,
    /// Credits of each period, zero or greater.
    pub base_allocation: Credits,
    /// What happens at the end of the allowance.
    pub limit_mode: LimitMode,
    /// Credits beyond the allowance in SOFT mode, zero or greater.
    pub soft_extra: Credits,
    /// SOFT without an end.
    pub unlimited_overage: bool,
    /// Percent thresholds that alert, ascending, each 1..=1000.
    pub thresholds: Vec<i32>,
    /// Day of the month on which a period starts, 1..=28.
    pub anchor_day: i32,
    /// IANA time zone of that day.
    pub time_zone: String,
    /// When to ask for packs.
    pub auto_purchase: Option<AutoPurchase>,
    /// Products of the plan; informs, never blocks.
    pub products: Vec<String>,
    /// Price of a credit, an integer of 10^-6 of the currency.
    pub credit_price: Option<Credits>,
    /// Price of a credit of overage, likewise.
    pub overage_price: Option<Credits>,
    /// The currency of both.
    pub currency: Option<String>,
    /// From when on it holds.
    pub effective_at: Timestamp,
    /// Who wrote it.
    pub updated_by: String,
}

/// One table for the enum and all that goes with each kind: a kind that is added is added everywhere, or does not compile.
macro_rules! budget_periods {
    ($($(#[$doc:meta])* $kind:ident = $number:literal, $name:literal;)*) => {
        /// How long a budget counts before it starts anew. The numbers are part of the stored format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum BudgetPeriod {
            $($(#[$doc])* $kind = $number,)*
        }

        impl BudgetPeriod {
            /// How many kinds there are.
            pub const COUNT: usize = Self::ALL.len();
            /// Every kind, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Its name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

budget_periods! {
    /// A local day.
    Day = 0, "day";
    /// An ISO week, from Monday.
    Week = 1, "week";
    /// The org's own period.
    Month = 2, "month";
}

impl BudgetPeriod {
    /// The kind of that name on the wire.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Its number: its place in [`BudgetPeriod::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A list of one item for each kind is looked up by the kind's number: the numbers must have no gap.
const _: () = {
    let mut place = 0;
    while place < BudgetPeriod::COUNT {
        assert!(BudgetPeriod::ALL[place].index() == place, "the kinds are numbered from 0, in order");
        place += 1;
    }
};

/// What a spent budget does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetAction {
    /// It blocks its scope.
    Block,
    /// It alerts.
    Warn,
}

/// A limit on one value of a dimension, on each value, or on the whole org.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Whose.
    pub org_id: String,
    /// Its id within the org.
    pub budget_id: String,
    /// Its name for people.
    pub name: String,
    /// The dimension it binds; `None` for the whole org.
    pub dimension: Option<Dimension>,
    /// The value it binds; `*` for each value separately.
    pub value: Option<String>,
    /// Credits of each period, zero or greater; 0 blocks.
    pub limit: Credits,
    /// How long it counts.
    pub period: BudgetPeriod,
    /// What it does when spent.
    pub action: BudgetAction,
    /// Percent thresholds that alert, ascending.
    pub thresholds: Vec<i32>,
    /// From when on it holds.
    pub effective_at: Timestamp,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// Who wrote it.
    pub updated_by: String,
}

/// Credits given on top of the base allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditGrant {
    /// Whose.
    pub org_id: String,
    /// Its id within the org.
    pub grant_id: String,
    /// How much, zero or greater.
    pub credits: Credits,
    /// `pack`, `promo`, `goodwill` or `purchase`.
    pub kind: String,
    /// What it cost, an integer of 10^-6 of the currency.
    pub price: Option<Credits>,
    /// The price's currency.
    pub currency: Option<String>,
    /// From when on it can be used.
    pub effective_at: Timestamp,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    pub voided_at: Option<Timestamp>,
    /// Lower is spent first.
    pub priority: i32,
    /// Who wrote it.
    pub updated_by: String,
}

/// The answer "no" to a purchase request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurchaseDeclined {
    /// Whose.
    pub org_id: String,
    /// Which request.
    pub purchase_id: String,
    /// Why.
    pub reason: String,
}

/// A display name for a dimension's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Whose.
    pub org_id: String,
    /// Of which dimension.
    pub dimension: Dimension,
    /// Of which value.
    pub value: String,
    /// What people see.
    pub display_name: String,
}

/// Any record of the policies topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TermsRecord {
    /// A plan and limit.
    OrgPolicy(OrgPolicy),
    /// A budget.
    Budget(Budget),
    /// A grant.
    CreditGrant(CreditGrant),
    /// A declined purchase.
    PurchaseDeclined(PurchaseDeclined),
    /// A display name.
    Label(Label),
}

impl TermsRecord {
    /// Whose terms these are.
    #[must_use]
    pub fn org_id(&self) -> &str {
        match self {
            Self::OrgPolicy(record) => &record.org_id,
            Self::Budget(record) => &record.org_id,
            Self::CreditGrant(record) => &record.org_id,
            Self::PurchaseDeclined(record) => &record.org_id,
            Self::Label(record) => &record.org_id,
        }
    }

    /// The record type's name.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::OrgPolicy(_) => "OrgPolicy",
            Self::Budget(_) => "Budget",
            Self::CreditGrant(_) => "CreditGrant",
            Self::PurchaseDeclined(_) => "PurchaseDeclined",
            Self::Label(_) => "Label",
        }
    }
}

/// What an org without a policy gets: `limits.default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultTerms {
    /// It may use anything.
    Allow,
    /// It may use nothing.
    Block,
    /// It is held to this policy (its `org_id`, `effective_at` and `updated_by` mean nothing).
    Policy(Box<OrgPolicy>),
}

/// How many credits a policy's soft extra adds: 0 in HARD mode, `None` without an end.
#[must_use]
pub fn extra_of(policy: &OrgPolicy) -> Option<CreditSum> {
    match policy.limit_mode {
        LimitMode::Hard => Some(CreditSum::ZERO),
        LimitMode::Soft if policy.unlimited_overage => None,
        LimitMode::Soft => Some(policy.soft_extra.into()),
    }
}
