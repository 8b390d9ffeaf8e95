//! What the agent has to tell: lines with their secrets masked, the whole log kept on this host,
//! entries that wait on disk until the server has acknowledged them.

pub(crate) mod keep;
pub(crate) mod mask;
pub(crate) mod output;
pub(crate) mod spool;

pub(crate) use mask::{Masker, Patterns};
pub(crate) use output::OutputSink;
pub(crate) use spool::{Origin, Spool};
