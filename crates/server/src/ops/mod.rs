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
pub mod host_import;
pub mod identity;
mod page;
pub mod token;
pub mod user;

pub use error::OpsError;
pub use page::{LONGEST_PAGE, PAGE, Part, columns, page_length};
