//! The budget scopes of one org: what each used in its running period and what was last published for it, found by
//! dimension and value. It must never judge: `budgets` knows the terms.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

use super::{Published, Recent};
use crate::domain::credits::CreditSum;
use crate::domain::limits::budget::Steady;
use crate::domain::limits::decision::Action;
use crate::domain::time::Hour;
use crate::domain::usage::dimension::Dimension;

/// One scope: a budget and a value. It may be there only to keep its sum, or only because it was published.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and a scope is small")]
pub(super) struct ScopeState {
    /// Place of its budget in the org's list.
    pub budget: u32,
    /// The dimension; `None` for the whole org.
    pub dimension: Option<Dimension>,
    /// The value; `None` for the whole org and for the rest of a `*` budget.
    pub value: Option<Box<str>>,
    /// Credits in the budget's period.
    pub used: CreditSum,
    /// The most that was used since it was blocked.
    pub peak: CreditSum,
    /// For the rate.
    pub recent: Recent,
    /// While `used` is in there, the judgement is the one last made.
    pub steady: Steady,
    /// Whether it was used in the budget's period.
    pub seen: bool,
    /// Whether it was in the period before.
    pub seen_before: bool,
    /// Whether it waits to be decided.
    pub waits: bool,
    /// Its place among those that must be decided at once.
    pub caused: Option<u32>,
    /// The number of the record of the running batch that last touched it, once the batch changed it.
    pub touched: Option<u32>,
    /// Whether its limit would have lasted at some time since the last forecast alert.
    pub forecast_cleared: bool,
    /// What gateways know of it.
    pub published: Option<Box<Published>>,
}

impl ScopeState {
    /// A scope of which nothing is known.
    pub fn new(budget: u32, dimension: Option<Dimension>, value: Option<&str>, hour: Hour) -> Self {
        Self {
            budget,
            dimension,
            value: value.map(Into::into),
            used: CreditSum::ZERO,
            peak: CreditSum::ZERO,
            recent: Recent::at(hour),
            steady: Steady::NEVER,
            seen: false,
            seen_before: false,
            waits: false,
            caused: None,
            touched: None,
            forecast_cleared: false,
            published: None,
        }
    }

    /// Whether its forecast is to be looked at when it is used in `hour`: the first use of an hour tells a rate that fell
    /// since the alert.
    pub fn may_clear(&self, hour: Hour) -> bool {
        let alerted = |published: &Published| published.level.forecast_alerted_on.is_some();
        hour > self.recent.hour && !self.forecast_cleared && self.published.as_deref().is_some_and(alerted)
    }

    /// Whether it is published as blocked.
    pub fn is_blocked(&self) -> bool {
        self.published.as_ref().is_some_and(|published| published.level.action == Action::Block)
    }
}

/// All scopes of an org, each under a number that stays.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    list: Vec<Option<ScopeState>>,
    free: Vec<u32>,
    /// Numbers by dimension and value: one for each budget.
    table: HashTable<u32>,
    hasher: FixedState,
}

impl Scopes {
    /// The scope of that number, unless it is gone.
    pub fn get(&self, number: u32) -> Option<&ScopeState> {
        self.list.get(number as usize)?.as_ref()
    }

    /// Likewise.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut ScopeState> {
        self.list.get_mut(number as usize)?.as_mut()
    }

    /// Every scope with its number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &ScopeState)> {
        (0..).zip(&self.list).filter_map(|(number, state)| Some((number, state.as_ref()?)))
    }

    /// Likewise, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut ScopeState)> {
        (0..).zip(&mut self.list).filter_map(|(number, state)| Some((number, state.as_mut()?)))
    }

    /// The numbers of all scopes of one value, of whatever budget.
    pub fn of(&self, dimension: Option<Dimension>, value: Option<&str>) -> impl Iterator<Item = u32> {
        let hash = self.hasher.hash_one((dimension, value));
        self.table.iter_hash(hash).copied().filter(move |&number| {
            self.get(number).is_some_and(|state| state.dimension == dimension && state.value.as_deref() == value)
        })
    }

    /// Hands each scope of one value to `each`, to be changed.
    pub fn each_of(
        &mut self,
        dimension: Option<Dimension>,
        value: Option<&str>,
        mut each: impl FnMut(u32, &mut ScopeState),
    ) {
        let Self { list, table, hasher, .. } = self;
        for &number in table.iter_hash(hasher.hash_one((dimension, value))) {
            if let Some(state) = &mut list[number as usize]
                && state.dimension == dimension
                && state.value.as_deref() == value
            {
                each(number, state);
            }
        }
    }

    /// The number of one budget's scope of a value.
    pub fn find(&self, budget: u32, dimension: Option<Dimension>, value: Option<&str>) -> Option<u32> {
        self.of(dimension, value).find(|&number| self.get(number).is_some_and(|state| state.budget == budget))
    }

    /// Puts a scope that is not there yet and gives its number.
    pub fn insert(&mut self, state: ScopeState) -> u32 {
        let hash = self.hasher.hash_one((state.dimension, state.value.as_deref()));
        let number = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            u32::try_from(self.list.len() - 1).expect("memory ends far below 2^32 scopes")
        });
        self.list[number as usize] = Some(state);
        let Self { list, table, hasher, .. } = self;
        table.insert_unique(hash, number, |&number| {
            let state = list[number as usize].as_ref().expect("the table holds what is there");
            hasher.hash_one((state.dimension, state.value.as_deref()))
        });
        number
    }

    /// Forgets a scope.
    pub fn remove(&mut self, number: u32) -> Option<ScopeState> {
        let state = self.list.get_mut(number as usize)?.take()?;
        let hash = self.hasher.hash_one((state.dimension, state.value.as_deref()));
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        self.free.push(number);
        Some(state)
    }
}
