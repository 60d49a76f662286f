//! What an org may use: the records of the policies topic, their history, and the periods and grants that follow from them.

pub mod book;
pub mod change;
pub mod grant;
pub mod in_force;
pub mod notes;
pub mod period;
pub mod purchase_id;
pub mod records;
