//! `fettle audit`.

use super::Page;
use clap::Subcommand;

/// `fettle audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List entries, newest first
    List {
        /// Which part
        #[command(flatten)]
        page: Page,
        /// Only of this actor
        #[arg(long)]
        actor: Option<String>,
        /// Only this action, or with a trailing dot all that begin so
        #[arg(long)]
        action: Option<String>,
        /// Only about this object
        #[arg(long)]
        object: Option<String>,
    },
    /// Check the whole chain of entries
    Verify,
}
