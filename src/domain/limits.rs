//! What follows from totals, terms and now: burn-down, decisions, budgets, alerts, purchases, forecasts, overage.

pub mod alert;
pub mod budget;
pub mod decide;
pub mod decision;
pub mod forecast;
pub mod inputs;
pub mod overage;
pub mod percent;
pub mod purchase;
pub mod rate;
pub mod scope;
pub mod walk;
