//! What an org may use: the records of the policies topic, their history, and the periods and grants that follow from them.

pub mod book;
pub mod change;
pub mod grant;
pub mod notes;
pub mod period;
pub mod records;
