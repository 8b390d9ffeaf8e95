//! `fettle vercmp`.

use clap::Args;

/// `fettle vercmp`.
#[derive(Debug, Args)]
pub struct Vercmp {
    /// Check a table: NAME of the ordering and FILE.tsv
    #[arg(long, num_args = 2, value_names = ["NAME", "FILE"], conflicts_with_all = ["ecosystem", "a", "b"])]
    pub file: Option<Vec<String>>,
    /// Ordering: dpkg
    #[arg(required_unless_present = "file")]
    pub ecosystem: Option<String>,
    /// One version
    #[arg(required_unless_present = "file")]
    pub a: Option<String>,
    /// The other
    #[arg(required_unless_present = "file")]
    pub b: Option<String>,
}
