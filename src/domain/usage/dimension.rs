//! The dimensions by which usage is told apart (CONTRACT.md, Records: Dimensions).

use std::fmt;

/// One dimension of usage. The order is CONTRACT.md's and is part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each variant is the dimension of its name")]
pub enum Dimension {
    User = 0,
    Product = 1,
    Model = 2,
    Provider = 3,
    Operation = 4,
    OperationDetail = 5,
    Category = 6,
    Tier = 7,
    Workspace = 8,
    WorkspaceKind = 9,
    Project = 10,
    Department = 11,
}

impl Dimension {
    /// Of scopes that are equally blocked and have equally much left, the first of these is told; the org last
    /// (CONTRACT.md, Meaning: Decision).
    pub const TOLD_FIRST: [Self; Self::COUNT] = [
        Self::User,
        Self::Project,
        Self::Workspace,
        Self::Department,
        Self::OperationDetail,
        Self::Operation,
        Self::Model,
        Self::Provider,
        Self::Product,
        Self::Category,
        Self::Tier,
        Self::WorkspaceKind,
    ];

    /// How many dimensions there are.
    pub const COUNT: usize = 12;

    /// Every dimension, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::User,
        Self::Product,
        Self::Model,
        Self::Provider,
        Self::Operation,
        Self::OperationDetail,
        Self::Category,
        Self::Tier,
        Self::Workspace,
        Self::WorkspaceKind,
        Self::Project,
        Self::Department,
    ];

    /// Its name in queries, budgets, checks and rows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Product => "product",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Operation => "operation",
            Self::OperationDetail => "operation_detail",
            Self::Category => "category",
            Self::Tier => "tier",
            Self::Workspace => "workspace",
            Self::WorkspaceKind => "workspace_kind",
            Self::Project => "project",
            Self::Department => "department",
        }
    }

    /// The name of its field in a record: `user_id` for `user`.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::User => "user_id",
            Self::Workspace => "workspace_id",
            Self::Project => "project_id",
            other => other.name(),
        }
    }

    /// The dimension of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.name() == name)
    }

    /// Its number: its place in [`Dimension::ALL`].
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
