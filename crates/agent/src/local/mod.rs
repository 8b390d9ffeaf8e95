//! What the administrator of a host can do there while the server is away: see what would happen,
//! read the kept log, undo a deployment, write the inventory into a file.
//!
//! Absent on purpose: the network.

mod holder;
mod log;
mod plan;
mod scan;
mod undo;
mod who;

pub use log::{LogError as KeptLogError, kept_log};
pub use plan::{PlanError, PlanOptions, plan};
pub use scan::scan;
pub use undo::{UndoError, UndoOptions, Undone, undo, undoable};

pub(crate) use holder::holder;
