//! The numbers of the summary.
