//! `fettle host` and `fettle group`.

use super::Page;
use clap::Subcommand;
use std::path::PathBuf;

/// `fettle host`.
#[derive(Debug, Subcommand)]
pub enum Host {
    /// Enrolment tokens
    #[command(subcommand)]
    Token(HostToken),
    /// List hosts
    List {
        /// Which part
        #[command(flatten)]
        page: Page,
        /// Column to sort by: name, state, os or last_seen; with `-` before it the greatest first [default: name]
        #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
        sort: Option<String>,
        /// discovered, enrolling, managed, silent, imported or retired [default: all but the retired]
        #[arg(long)]
        state: Option<String>,
        /// Only in this group
        #[arg(long)]
        group: Option<String>,
        /// Only of this release (bookworm)
        #[arg(long)]
        codename: Option<String>,
        /// Only those that need a restart of services or a reboot
        #[arg(long)]
        restart_needed: bool,
        /// Text in the name
        #[arg(long)]
        text: Option<String>,
    },
    /// Show a host
    Show {
        /// Id or unique name
        host: String,
    },
    /// List a host's packages
    Packages {
        /// Id or unique name
        host: String,
        /// Which part
        #[command(flatten)]
        page: Page,
        /// Text in the package's or its source's name
        #[arg(long)]
        text: Option<String>,
    },
    /// Take in the inventories of machines without network, as `fettle agent scan` wrote them
    Import {
        /// Files, compressed or not
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Accept the copy of a host (state discovered) as a host of its own
    Accept {
        /// Id or unique name
        host: String,
    },
    /// Say that a host is an older one, installed anew: groups and history go over
    Merge {
        /// The newer host: id or unique name
        host: String,
        /// The older host, which is revoked: id or unique name
        #[arg(long)]
        with: String,
    },
    /// Say that a host is none of those it resembles
    Dismiss {
        /// Id or unique name
        host: String,
    },
    /// Revoke a host: its certificate is refused from now on
    Revoke {
        /// Id or unique name
        host: String,
        /// Why, for the audit log
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// `fettle host token`.
#[derive(Debug, Subcommand)]
pub enum HostToken {
    /// Print one line to paste on the machine
    Create {
        /// Hosts join this group; made when it is not there
        #[arg(long)]
        group: Option<String>,
        /// Machines that may use it
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// Until when: 30m, 1h, 7d
        #[arg(long, default_value = "1h", value_parser = crate::duration::parse)]
        expires: u64,
        /// Address the machines reach the server at [default: the one you use]
        #[arg(long, value_name = "URL")]
        address: Option<String>,
    },
    /// List tokens that still work
    List,
    /// Take a token back
    Revoke {
        /// enrol_…
        id: String,
    },
}

/// `fettle group`.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// Make a group
    Create {
        /// Letters, digits, `.`, `_`, `-`
        name: String,
    },
    /// List groups
    List,
    /// Let hosts join
    Add {
        /// Group
        name: String,
        /// Hosts, by id or unique name
        #[arg(required = true)]
        hosts: Vec<String>,
    },
    /// Let hosts leave
    Remove {
        /// Group
        name: String,
        /// Hosts, by id or unique name
        #[arg(required = true)]
        hosts: Vec<String>,
    },
}
