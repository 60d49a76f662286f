//! Why a question has no answer. Each message names what is wrong, where, and what to ask instead; it knows no HTTP
//! status (`http/problem.rs` gives each its own).

use crate::store::StoreError;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text can never be an org's id.
    #[error("`{0}` cannot be an org id: an id is 1 to 128 of A-Z a-z 0-9 . _ : @ -")]
    BadOrg(String),
    /// The org's partition belongs to another instance, or to none at this moment.
    #[error(
        "org `{org}` stands in partition {partition}, which this instance does not serve now; ask the instance that \
         owns partition {partition}, or again when this one has taken it over"
    )]
    NotHere {
        /// The org asked for.
        org: String,
        /// Its partition.
        partition: i32,
    },
    /// The org's partition is here and knows nothing of it.
    #[error(
        "org `{org}` has no usage and no policy in partition {partition}; check its spelling, /v1/orgs lists the known"
    )]
    UnknownOrg {
        /// The org asked for.
        org: String,
        /// Its partition.
        partition: i32,
    },
    /// A parameter's value is not what it must be.
    #[error("parameter `{name}`: {problem}")]
    Parameter {
        /// Which parameter.
        name: &'static str,
        /// What is wrong and what is legal.
        problem: String,
    },
    /// A parameter that does not exist.
    #[error("there is no parameter `{name}`; {hint}")]
    UnknownParameter {
        /// Its name as given.
        name: String,
        /// The nearest known one, or all.
        hint: String,
    },
    /// The answer would not fit the bound (Law 6).
    #[error(
        "the answer takes more than {limit} {what}; ask for a coarser `bucket`, a shorter range, or a `filter`"
    )]
    TooLarge {
        /// Of what too many.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// What should not happen.
    #[error("{0}")]
    Internal(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl QueryError {
    /// A parameter that is not what it must be.
    #[must_use]
    pub fn parameter(name: &'static str, problem: impl Into<String>) -> Self {
        Self::Parameter { name, problem: problem.into() }
    }
}
