//! The built-in plugins, one folder per vendor. They read what the host fetched and drive the host's own
//! package manager.
//!
//! Absent on purpose: the network (the host fetches), and the file system except for providers.

pub mod debian;
pub mod epss;
pub mod kev;
pub mod osv;

mod reading;

use fettle_plugin::{Feed, Provider};
use std::sync::Arc;

/// Every built-in feed, in the order in which a document is offered to them.
pub fn feeds() -> Vec<Box<dyn Feed>> {
    vec![Box::new(debian::feed::DebianTracker), Box::new(osv::OsvDebian), Box::new(kev::CisaKev), Box::new(epss::Epss)]
}

/// Every built-in provider; the agent takes those whose needs the host meets.
pub fn providers() -> Vec<Arc<dyn Provider>> {
    vec![Arc::new(debian::provider::AptProvider::default())]
}
