//! Which terms bind an org at an instant. Next to read: `book`.

use crate::domain::terms::book::PolicyHistory;
use crate::domain::terms::records::{DefaultTerms, OrgPolicy};
use crate::domain::time::Timestamp;

/// What binds an org at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce<'a> {
    /// Nothing: no policy, and `limits.default` allows.
    Nothing,
    /// No policy, and `limits.default` blocks.
    Block,
    /// A policy: its offset in the policies partition (`None` for that of `limits.default`) and itself.
    Policy(Option<i64>, &'a OrgPolicy),
}

/// What binds the org at `at`: its policy in force, else `limits.default`.
#[must_use]
pub fn in_force<'a>(policies: Option<&'a PolicyHistory>, default: &'a DefaultTerms, at: Timestamp) -> InForce<'a> {
    match (policies.and_then(|history| history.in_force(at)), default) {
        (Some((offset, policy)), _) => InForce::Policy(Some(offset), policy),
        (None, DefaultTerms::Policy(policy)) => InForce::Policy(None, policy),
        (None, DefaultTerms::Block) => InForce::Block,
        (None, DefaultTerms::Allow) => InForce::Nothing,
    }
}
