//! One file a noun.

pub mod account;
pub mod audit;
pub mod change;
pub mod feed;
pub mod finding;
pub mod host;
pub mod identity;
pub mod log;
pub mod overview;
pub mod sign_in;
pub mod user;
