//! `fettle config`.

use clap::Subcommand;
use std::path::PathBuf;

/// `fettle config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Name the wrong key, its line, and what would be right
    Check {
        /// File to check [default: the one in use]
        file: Option<PathBuf>,
    },
    /// Print every key with its default, its environment variable and what it is for
    Reference,
}
