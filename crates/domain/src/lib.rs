//! The words of Fettle: ids, hosts, packages, versions, advisories, findings, plans, rollouts and
//! the state machines they pass through. Values only.
//!
//! Absent on purpose: async, I/O, a clock, randomness, SQL, HTTP. What time it is and which random
//! bytes to use come in as arguments (`docs/glossary.md` carries every word with its source term).

pub mod access;
pub mod advisory;
pub mod finding;
pub mod health;
pub mod host;
pub mod id;
pub mod machine;
pub mod package;
pub mod plan;
pub mod reason;
pub mod time;
pub mod version;

pub use id::*;
pub use time::Timestamp;
