//! The built-in plugins, one folder per vendor. They read what the host fetched and drive the host's own
//! package manager.
//!
//! Absent on purpose: the network (the host fetches), and the file system except for providers.

pub mod debian;
