//! `fettle feed`.

use clap::Subcommand;

/// `fettle feed`.
#[derive(Debug, Subcommand)]
pub enum Feed {
    /// Load feeds and show how far it is
    Sync {
        /// URL, or a directory on the server [default: the publishers]
        #[arg(long, value_name = "URL|DIR")]
        from: Option<String>,
        /// Feeds [default: all]
        names: Vec<String>,
    },
    /// List feeds with the age of their data
    List,
}
