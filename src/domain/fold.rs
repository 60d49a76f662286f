//! The fold: events into rows of the declared views.

use super::content::Content;
use super::tally::Tally;
use super::view::DIMENSIONS_MAX;

/// The place of a row: view number, org, bucket, and the values of the view's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowKey<'a> {
    /// Number of the view in the store's list.
    pub view: u8,
    /// The org.
    pub org: &'a str,
    /// Number of the hour or day.
    pub bucket: i32,
    /// Values of the view's dimensions in its order, `None` where absent; beyond `dimensions` meaningless.
    pub values: [Option<&'a str>; DIMENSIONS_MAX],
    /// How many dimensions the view has.
    pub dimensions: u8,
}

/// The place of a content row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentKey<'a> {
    /// The org.
    pub org: &'a str,
    /// Whether `id` is a content id, else it is the id of an event without content.
    pub is_content: bool,
    /// The id.
    pub id: &'a str,
}

/// Rows that are not in the working set: the store.
pub trait Rows {
    /// Why a row cannot be read.
    type Error;
    /// The stored row.
    ///
    /// # Errors
    /// When the store cannot be read or holds other bytes than were written.
    fn row(&self, key: &RowKey<'_>) -> Result<Option<Tally>, Self::Error>;
    /// The stored content row.
    ///
    /// # Errors
    /// As `row`.
    fn content(&self, key: &ContentKey<'_>) -> Result<Option<Content>, Self::Error>;
}
