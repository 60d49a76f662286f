//! HTTP on a real listener.
