//! What tests on real servers share: a Kafka broker and a schema registry that start on free loopback ports and
//! end with the test. Missing Java or servers fail a test and name `make setup`; nothing is skipped. Next to read:
//! `kafka`.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod kafka;
pub mod ports;
pub mod process;
pub mod registry;
