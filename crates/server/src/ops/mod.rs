//! What a person may ask. Both faces, `api` and `ui`, call these and nothing else. An operation
//! checks the permission, reads or writes the store, leaves its audit entry in the same write, and
//! nudges whoever has to act.

pub mod account;
pub mod audit;
pub mod change;
mod error;
pub mod feed;
pub mod finding;
pub mod group;
pub mod host;
pub mod identity;
pub mod token;
pub mod user;

pub use error::OpsError;

/// Items of a list's page when the caller names no number.
pub const PAGE: u32 = 100;
/// Items of a list's page at most.
pub const LONGEST_PAGE: u32 = 1000;

/// The wanted number of items, brought into bounds.
pub fn page_length(limit: Option<u32>) -> u32 {
    limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE)
}
