//! Deployments on this host: orders are checked ([`offer`], [`desk`]), carried out as do/undo tasks
//! ([`tasks`]) whose every beginning and end stands in a journal on disk first ([`record`],
//! [`engine`]), and finished or undone after any interruption ([`decide`]).

pub(crate) mod command;
pub(crate) mod decide;
pub(crate) mod desk;
pub(crate) mod engine;
pub(crate) mod local_order;
pub(crate) mod needrestart;
pub(crate) mod offer;
pub(crate) mod probe;
pub(crate) mod record;
pub(crate) mod rehearse;
pub(crate) mod system;
pub(crate) mod tasks;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod health_tests;
