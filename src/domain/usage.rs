//! What happened: records of the usage topic after decoding, their ids, and which partition is their org's.

pub mod content;
pub mod dedupe;
pub mod dimension;
pub mod event;
pub mod murmur2;
pub mod reject;
