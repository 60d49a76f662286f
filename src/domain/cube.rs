//! The cube: usage as facts at (org, UTC hour, the twelve dimension values), each with its tally.
//!
//! Events are appended to a `segment` in memory. A flush seals it: facts are sorted, equal ones added up, and each (org, UTC
//! day) becomes one `block`. Blocks of an (org, day) are `merge`d in the background, which changes no answer. A question
//! `scan`s the blocks of an org's days. The cube knows no terms, no clock and no randomness (Law 2).

pub mod block;
pub mod builder;
pub mod bundle;
pub mod bytes;
pub mod column;
pub mod field_set;
pub mod fold;
pub mod histogram;
pub mod interner;
pub mod merge;
pub mod pack;
pub mod scan;
pub mod seal;
pub mod segment;
pub mod tally;

/// A merged block holds at most so many facts: a large (org, day) has several, so that merging and scanning need little memory.
pub const FACTS_MAX: usize = 65_536;
