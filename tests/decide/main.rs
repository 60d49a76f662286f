//! Rules of CONTRACT.md, "Meaning": periods, decisions and the summary's numbers, each test named by its sentence.

mod budget_model;
mod budget_world;
mod budgets;
mod explain;
mod grants;
mod guard;
mod judge;
mod late;
mod model;
mod period;
mod purchase;
mod simulate;
mod simulate_budgets;
mod summary;
mod support;
mod walk;
