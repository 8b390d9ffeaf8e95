//! `fettle audit`.

use super::Page;
use clap::Subcommand;

/// `fettle audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List entries
    List {
        /// Which part
        #[command(flatten)]
        page: Page,
        /// Column to sort by: sequence, actor, action or object; with `-` before it the greatest first [default: -sequence]
        #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
        sort: Option<String>,
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
