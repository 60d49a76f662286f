//! What would have been: past usage under other terms, and why a decision is what it is.

pub mod budget_replay;
pub mod explain;
pub mod replay;
pub mod simulate;
pub mod simulate_budgets;
