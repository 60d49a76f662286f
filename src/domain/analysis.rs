//! What an organisation asks about its own usage.

pub mod summary;
