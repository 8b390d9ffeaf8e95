//! `fettle plugin`.

use clap::Subcommand;
use std::path::PathBuf;

/// `fettle plugin`.
#[derive(Debug, Subcommand)]
pub enum Plugin {
    /// List built-in plug-ins, and the foreign ones that plugins.toml lists
    List {
        /// The list of a host's foreign providers
        #[arg(long, value_name = "FILE", default_value = "/etc/fettle/plugins.toml")]
        plugins: PathBuf,
        /// Data directory of a server, whose plugins.toml lists its foreign feeds
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Serve a built-in plug-in on standard input and output (docs/protocol.md)
    Serve {
        /// Its name, as `fettle plugin list` shows it
        name: String,
    },
}
