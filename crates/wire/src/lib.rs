//! Every message that crosses a process border, versioned, each with a golden example in
//! `tests/golden`. Types only: no behaviour.
//!
//! `agent` is what hosts and server say to each other (`/agent/v1`), `api` what the REST API says
//! (`/api/v1`), `offer` the signed documents that hosts obey, `log` the log that a host keeps, `scan` the
//! inventory as a file.

pub mod agent;
pub mod api;
pub mod log;
pub mod offer;
pub mod scan;
