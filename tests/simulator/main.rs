//! The worker loop on in-memory ports and real stores, with a crash or a fault at every call of a port.
//!
//! `scenario` is the log, `support` runs workers over it, `judge` says what must hold of a run. Read on: `crashes`,
//! `batches`, `budgets`, `guard`, `ownership`, `halts`, `waits`, `disk`, `metrics`, `other_log`, `clock`.

#![allow(clippy::must_use_candidate, clippy::missing_errors_doc, reason = "helpers of these tests alone")]

mod batches;
mod budgets;
mod clock;
mod crashes;
mod disk;
mod guard;
mod halts;
mod in_memory;
mod judge;
mod metrics;
mod other_log;
mod ownership;
mod scenario;
mod support;
mod waits;
