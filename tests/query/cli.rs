//! The command line against a real listener.
