//! The main job on a real Apache Kafka: the binary as child processes, each with a config file, and an auditor that reads the topics
//! itself. Nothing here asks the fold or the store what is right; `audit` sums the log in its own plain way.
//!
//! `TALLYMAN_E2E_EVENTS` says how many events `exact` folds. Next to read: `exact`.

#[path = "../support/mod.rs"]
mod servers;

mod audit;
mod bad_records;
mod desk;
mod disk;
mod ending;
mod enforcement;
mod exact;
mod gateway;
mod group;
mod halted;
mod operations;
mod oracle;
mod other_log;
mod other_topics;
mod outage;
mod pods;
mod registry;
mod remedies;
mod rollover;
mod start;
mod support;
mod verifier;
mod worked_example;
