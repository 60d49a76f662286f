//! Views as data: the dimensions and the bucket size of each, the built-in ones, and what makes a declaration legal.

use super::dimension::Dimension;
use super::time::BucketSize;

/// The most dimensions of one view.
pub const DIMENSIONS_MAX: usize = 4;
/// The most views of one store.
pub const VIEWS_MAX: usize = 64;

/// One declared view at one bucket size. Its rows are keyed by org, bucket and the values of its dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its name; rows of several bucket sizes share it (`product` by hour and by day).
    pub name: String,
    /// At most [`DIMENSIONS_MAX`] dimensions, in the order of the row's values.
    pub dimensions: Vec<Dimension>,
    /// How much time a row holds.
    pub bucket: BucketSize,
}

impl View {
    /// A view.
    #[must_use]
    pub fn new(name: &str, dimensions: &[Dimension], bucket: BucketSize) -> Self {
        Self { name: name.to_owned(), dimensions: dimensions.to_vec(), bucket }
    }

    /// Whether its rows tell all of `dimensions` apart.
    #[must_use]
    pub fn covers(&self, dimensions: &[Dimension]) -> bool {
        dimensions.iter().all(|dimension| self.dimensions.contains(dimension))
    }
}

/// The built-in views (CONTRACT.md, Meaning: Views).
#[must_use]
pub fn built_in() -> Vec<View> {
    use BucketSize::{Day, Hour};
    let mut views = vec![View::new("org", &[], Hour), View::new("org", &[], Day)];
    for dimension in Dimension::ALL {
        views.push(View::new(dimension.name(), &[dimension], Hour));
        views.push(View::new(dimension.name(), &[dimension], Day));
    }
    views.push(View::new("cell", &[Dimension::Product, Dimension::Model, Dimension::User], Day));
    views.push(View::new("work", &[Dimension::Category, Dimension::Operation, Dimension::Model], Day));
    views.push(View::new("product_operation", &[Dimension::Product, Dimension::Operation], Day));
    views
}

/// Why a list of views cannot be folded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// `org` by hour is what decisions are made of.
    #[error("the view `org` by hour is missing: decisions are made of it; add \"org\" to store.builtin_views")]
    NoOrg,
    /// More views than a store holds.
    #[error("{0} views are declared, at most {VIEWS_MAX} can be")]
    TooMany(usize),
    /// More dimensions than a row holds, or one twice.
    #[error("view `{0}`: name one to {DIMENSIONS_MAX} different dimensions")]
    Dimensions(String),
    /// Two views of one name and bucket size.
    #[error("view `{0}` by {1} is declared twice; give one of them another name")]
    Twice(String, &'static str),
}

/// Checks a whole list of views.
///
/// # Errors
/// When there is no org view by hour, a view is declared twice or has too many dimensions, or there are too many.
pub fn check(views: &[View]) -> Result<(), ViewError> {
    if views.len() > VIEWS_MAX {
        return Err(ViewError::TooMany(views.len()));
    }
    if !views.iter().any(|view| view.dimensions.is_empty() && view.bucket == BucketSize::Hour) {
        return Err(ViewError::NoOrg);
    }
    for (place, view) in views.iter().enumerate() {
        let twice = |place: usize| view.dimensions[..place].contains(&view.dimensions[place]);
        if view.dimensions.len() > DIMENSIONS_MAX || (1..view.dimensions.len()).any(twice) {
            return Err(ViewError::Dimensions(view.name.clone()));
        }
        if views[..place].iter().any(|other| other.name == view.name && other.bucket == view.bucket) {
            return Err(ViewError::Twice(view.name.clone(), view.bucket.name()));
        }
    }
    Ok(())
}
