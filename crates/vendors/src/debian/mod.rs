//! Debian and its derivatives.

pub mod feed;
pub mod provider;
