//! The pure core: what an event, a row, a limit and a decision are, and how one follows from another.
//!
//! Nothing here reads a clock, a file, a socket or a log, and no serialisation format is known here.
//! The way of a record through this room: `event` -> `dedupe` -> `fold` (into facts of
//! the `cube`) -> `decide` (totals + `terms` + now -> `decision`) -> `alert`.

pub mod alert;
pub mod budget;
pub mod budget_replay;
pub mod bytes;
pub mod content;
pub mod credits;
pub mod cube;
pub mod decide;
pub mod decision;
pub mod dedupe;
pub mod dimension;
pub mod event;
pub mod explain;
pub mod field_set;
pub mod fold;
pub mod forecast;
pub mod grant;
pub mod histogram;
pub mod id;
pub mod interner;
pub mod murmur2;
pub mod overage;
pub mod percent;
pub mod period;
pub mod purchase;
pub mod rate;
pub mod reject;
pub mod replay;
pub mod rfc3339;
pub mod scope;
pub mod simulate;
pub mod simulate_budgets;
pub mod summary;
pub mod tally;
pub mod terms;
pub mod terms_book;
pub mod terms_change;
pub mod terms_notes;
pub mod time;
pub mod walk;
pub mod zones;
