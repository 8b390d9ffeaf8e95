//! `fettle change` and `fettle deployment`.

use super::Page;
use clap::{Args, Subcommand};

/// `fettle change`.
#[derive(Debug, Subcommand)]
pub enum Change {
    /// Ask for a change: every host tries it dry, then a plan is proposed
    Create(ChangeCreate),
    /// List changes
    List {
        /// Which part
        #[command(flatten)]
        page: Page,
        /// Column to sort by: number, title or requester; with `-` before it the greatest first [default: -number]
        #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
        sort: Option<String>,
        /// Only in this state
        #[arg(long)]
        state: Option<String>,
    },
    /// Show what, where, why, back-out, acceptance, approvals
    Show {
        /// change_…
        id: String,
    },
    /// Approve the proposed plan
    Approve {
        /// change_…
        id: String,
        /// Digest of the plan you read [default: the one proposed now]
        #[arg(long)]
        digest: Option<String>,
    },
    /// Refuse the proposed plan
    Reject {
        /// change_…
        id: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Start the approved plan
    Start {
        /// change_…
        id: String,
    },
    /// End a change that has not finished
    Cancel {
        /// change_…
        id: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Put back what the change replaced
    Undo {
        /// change_…
        id: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Print what a host said, live lines or the whole log that it keeps
    Log {
        /// change_…
        id: String,
        /// Which host, by id or name [default: the only one]
        #[arg(long)]
        host: Option<String>,
        /// Fetch the whole log from the host; the server has only the live lines
        #[arg(long)]
        whole: bool,
        /// Go on with what the host says from now on, until it is done
        #[arg(long)]
        follow: bool,
        /// Seconds to wait for the host with --whole
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u64,
    },
    /// Follow a change live until it ends
    Watch {
        /// change_…
        id: String,
    },
}

/// `fettle change create`.
#[derive(Debug, Args)]
pub struct ChangeCreate {
    /// One line for people
    #[arg(long)]
    pub title: Option<String>,
    /// Why
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Findings to close
    #[arg(long = "finding", value_name = "ID")]
    pub findings: Vec<String>,
    /// Vulnerabilities to close wherever they are open on the chosen hosts
    #[arg(long = "vulnerability", value_name = "CVE")]
    pub vulnerabilities: Vec<String>,
    /// Packages to update: NAME (the preferred version) or NAME=VERSION
    #[arg(long = "package", value_name = "NAME[=VERSION]")]
    pub packages: Vec<String>,
    /// Hosts, by id or unique name
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
    /// All hosts of this group
    #[arg(long)]
    pub group: Option<String>,
    /// Other packages may be removed to get there
    #[arg(long)]
    pub allow_removals: bool,
    /// Reboot hosts when the change needs it
    #[arg(long)]
    pub reboot: bool,
    /// Leave services running that use replaced files
    #[arg(long)]
    pub no_restart: bool,
    /// What must hold on every host before and after: KIND=VALUE[,OPTION=VALUE]… (docs/checks.md), such as
    /// unit=nginx.service, port=443, http=http://127.0.0.1:8080/health,within=30s
    #[arg(long = "check", value_name = "CHECK")]
    pub checks: Vec<String>,
    /// Least share of hosts that must succeed, in per cent
    #[arg(long, value_name = "PERCENT")]
    pub success: Option<u8>,
}

/// `fettle deployment`.
#[derive(Debug, Subcommand)]
pub enum Deployment {
    /// Show tasks, reasons and the log of one change on one host
    Show {
        /// deployment_…
        id: String,
    },
}
