//! The agent: one small process on each host. It reports what is installed and running, checks the
//! server's signed orders by itself, carries them out as do/undo tasks with a journal on disk, and
//! reports until the server has acknowledged.
//!
//! Absent on purpose: the store, the server, every vendor (package managers are handed in as
//! [`fettle_plugin::Provider`]s), HTTP serving, shells.

mod channel;
mod clock;
mod config;
mod deploy;
mod disk;
mod executor;
mod facts;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod inventory;
mod link;
mod local;
mod policy;
mod report;
mod run;
mod selfupdate;
mod services;
mod status;

pub use channel::ChannelError;
pub use config::ConfigError;
pub use deploy::probe::{CheckSeen, ChecksError, look_at_checks};
pub use disk::files::DiskError;
pub use disk::log::LogError;
pub use disk::state::StateError;
pub use inventory::{Inventory, inventory};
pub use link::client::ClientError;
pub use link::enrol::{EnrolError, EnrolOptions, Enrolled, enrol};
pub use link::tls::{TlsError, pinned as pinned_tls};
pub use link::token::TokenError;
pub use local::{
    KeptLogError, PlanError, PlanOptions, UndoError, UndoOptions, Undone, kept_log, plan, scan, undo, undoable,
};
pub use policy::PolicyError;
pub use run::{Exit, NetworkProcess, NetworkUser, RunError, RunOptions, run, run_network};
pub use selfupdate::prove::{Proof, ProveOptions, prove, prove_network};
pub use selfupdate::{Launcher, WatchError, watch};
pub use services::PackageOwner;
pub use status::{AgentStatus, ConfirmError, DeploymentStatus, LastContact, StatusError, TaskStatus, confirm, status};
