//! `fettle finding` and `fettle vulnerability`.

use super::Page;
use clap::Subcommand;

/// `fettle finding`.
#[derive(Debug, Subcommand)]
pub enum Finding {
    /// List findings
    List {
        /// Which part
        #[command(flatten)]
        page: Page,
        /// Column to sort by: priority, vulnerability, source or first_seen; with `-` before it the greatest first [default: -priority]
        #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
        sort: Option<String>,
        /// Comma-separated states, or all [default: those that mean work]
        #[arg(long)]
        state: Option<String>,
        /// Comma-separated verdicts: affected, restart-needed, ignored, end-of-life, …
        #[arg(long)]
        verdict: Option<String>,
        /// Only on this host (id)
        #[arg(long)]
        host: Option<String>,
        /// Only of this vulnerability
        #[arg(long)]
        vulnerability: Option<String>,
        /// Only in this source package
        #[arg(long)]
        source: Option<String>,
        /// At least: negligible, low, medium, high, critical
        #[arg(long)]
        severity: Option<String>,
        /// Only those with a published fix
        #[arg(long)]
        fixable: bool,
        /// Only those exploited in the wild
        #[arg(long)]
        exploited: bool,
        /// Text in the vulnerability's or the source package's name
        #[arg(long)]
        text: Option<String>,
    },
    /// Show a finding with its reasons
    Show {
        /// finding_…
        id: String,
    },
}

/// `fettle vulnerability`.
#[derive(Debug, Subcommand)]
pub enum Vulnerability {
    /// Show facts and what each feed says
    Show {
        /// CVE-…
        id: String,
    },
}
