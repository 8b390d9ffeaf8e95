//! How the agent keeps things on disk: whole files that are replaced in one step, append-only logs
//! whose torn end is tolerated, and the folder that holds both.

pub(crate) mod files;
pub(crate) mod log;
pub(crate) mod state;

pub(crate) use files::DiskError;
pub(crate) use log::{AppendLog, LogError};
pub(crate) use state::StateDir;
