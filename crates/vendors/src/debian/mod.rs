//! Debian and its derivatives.

pub mod provider;
