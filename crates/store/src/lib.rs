//! The two databases behind one face: embedded SQLite by default, PostgreSQL for scale, the very
//! same SQL texts and code for both. `systems` holds what is ours (hosts, findings, plans, rollouts,
//! people, audit); `patches` what may be shared with the world (advisories, vulnerabilities, feeds)
//! and never mentions a host. No query joins the two.
//!
//! Absent on purpose: decisions, HTTP, clocks (times come in as values). SQL stands nowhere else.
//!
//! # How to use it
//! [`Store::read`] runs a closure on one of the reader connections, [`Store::write`] hands one to
//! the single writer, which commits many closures in one transaction and answers after the commit.

mod body;
mod connection;
mod error;
mod migrations;
pub mod page;
pub mod patches;
mod store;
pub mod systems;
mod value;
mod writer;

pub use connection::{Connection, Dialect};
pub use error::StoreError;
pub use migrations::{MIGRATIONS, Migration, schema_text};
pub use store::{DatabaseUrl, Store};
pub use value::{Row, Value};

/// Result of everything here.
pub type Result<T> = std::result::Result<T, StoreError>;
