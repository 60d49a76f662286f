//! The fold against an obvious model: one event at a time into maps, no batches, no blocks. Read on:
//! `model` is that fold, `random` draws events, `properties` and `content` compare, `dedupe` is the door before it.

#![allow(clippy::must_use_candidate, clippy::missing_errors_doc, reason = "helpers of these tests alone")]

mod content;
mod dedupe;
#[path = "../support/facts.rs"]
mod facts;
mod model;
mod properties;
mod random;
mod rate;
