//! The pure core: what an event, a row, a limit and a decision are, and how one follows from another.
//!
//! Nothing here reads a clock, a file, a socket or a log, and no serialisation format is known here.
//! The way of a record through this room: `usage::event` -> `usage::dedupe` -> `cube::fold` (into facts of the `cube`) ->
//! `limits::decide` (totals + `terms` + now -> `limits::decision`) -> `limits::alert`. At its root are only money, time and ids.

pub mod analysis;
pub mod credits;
pub mod cube;
pub mod id;
pub mod limits;
pub mod terms;
pub mod time;
pub mod usage;
pub mod what_if;
pub mod zones;
