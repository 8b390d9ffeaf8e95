//! `fettle agent`.

use clap::Subcommand;
use std::path::PathBuf;

/// `fettle agent`.
#[derive(Debug, Subcommand)]
pub enum Agent {
    /// Make this machine a host of a server
    Enrol {
        /// https://HOST:PORT
        #[arg(long)]
        server: String,
        /// What `fettle host token create` printed
        #[arg(long)]
        token: String,
        /// Where the agent keeps its identity and journal
        #[arg(long, value_name = "DIR", default_value = "/var/lib/fettle/agent")]
        state: PathBuf,
        /// Another root directory than /
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Say that the agent will never change the host
        #[arg(long)]
        read_only: bool,
        /// Replace an identity that is there
        #[arg(long)]
        force: bool,
    },
    /// Report, wait for work, do it
    Run {
        /// Where the agent keeps its identity and journal
        #[arg(long, value_name = "DIR", default_value = "/var/lib/fettle/agent")]
        state: PathBuf,
        /// Another root directory than /
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// This host's own policy: what it lets its server do; only root may be able to write it
        #[arg(long, value_name = "FILE", default_value = "/etc/fettle/policy.toml")]
        policy: PathBuf,
        /// The list of foreign providers; only root may be able to write it
        #[arg(long, value_name = "FILE", default_value = "/etc/fettle/plugins.toml")]
        plugins: PathBuf,
        /// As root: who the network-facing half runs as, in a process of its own
        #[arg(long, value_name = "USER", default_value = "fettle-agent")]
        network_user: String,
        /// Never change the host; needs no root
        #[arg(long)]
        read_only: bool,
        /// One check-in, the work that waits, and end
        #[arg(long)]
        once: bool,
        /// Seconds between check-ins instead of what the server asks for
        #[arg(long, value_name = "SECONDS")]
        check_in_seconds: Option<u64>,
        /// What the service manager runs, last on its command line: it starts a new version of the agent,
        /// and the former one again when the new one does not prove itself
        #[arg(long, value_name = "FILE", hide = true)]
        launcher: Option<PathBuf>,
    },
    /// Show that this version could do the agent's work here: read what it keeps, look at the host, and
    /// have a check-in answered
    Prove {
        /// Where the agent keeps its identity and journal
        #[arg(long, value_name = "DIR", default_value = "/var/lib/fettle/agent")]
        state: PathBuf,
        /// Another root directory than /
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// As root: who the part that talks to the server runs as
        #[arg(long, value_name = "USER", default_value = "fettle-agent")]
        network_user: String,
        /// Deployments whose journals it must be able to read
        #[arg(long, value_name = "ID")]
        journal: Vec<String>,
    },
    /// Watch a new version on trial; started by the launcher
    #[command(hide = true)]
    Watch {
        /// Where the agent keeps its identity and journal
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Process of the new version
        #[arg(long)]
        pid: i32,
    },
    /// Let a deployment begin that this host's policy lets wait for a person here
    Confirm {
        /// Its id, as `fettle agent status` shows it
        deployment: String,
        /// Where the agent keeps its identity and journal
        #[arg(long, value_name = "DIR", default_value = "/var/lib/fettle/agent")]
        state: PathBuf,
    },
    /// Say how the agent of this machine stands
    Status {
        /// Where the agent keeps its identity and journal
        #[arg(long, value_name = "DIR", default_value = "/var/lib/fettle/agent")]
        state: PathBuf,
    },
    /// Look once at this host's own health checks (docs/checks.md), without a server
    Checks {
        /// More checks, as a change would bring them: KIND=VALUE[,OPTION=VALUE]…
        #[arg(value_name = "CHECK")]
        checks: Vec<String>,
        /// Another root directory than /
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// The host's own policy; its checks.toml is beside it
        #[arg(long, value_name = "FILE", default_value = "/etc/fettle/policy.toml")]
        policy: PathBuf,
    },
    /// Print what the agent would report; needs no server
    Inventory {
        /// Another root directory than /
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// The list of foreign providers
        #[arg(long, value_name = "FILE", default_value = "/etc/fettle/plugins.toml")]
        plugins: PathBuf,
    },
    /// Say what exactly an update would do, and change nothing; needs no server
    Plan {
        /// NAME or NAME=VERSION [default: all for which something newer is offered]
        #[arg(value_name = "PACKAGE[=VERSION]")]
        packages: Vec<String>,
        /// Only what the security archives offer
        #[arg(long)]
        security: bool,
        /// Fetch the package indexes first; needs root
        #[arg(long)]
        refresh: bool,
        /// Another root directory than /
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// This host's own policy: what it lets its server do; only root may be able to write it
        #[arg(long, value_name = "FILE", default_value = "/etc/fettle/policy.toml")]
        policy: PathBuf,
        /// The list of foreign providers
        #[arg(long, value_name = "FILE", default_value = "/etc/fettle/plugins.toml")]
        plugins: PathBuf,
    },
    /// Print the whole log that is kept of a deployment; needs no server
    Log {
        /// deployment_… [default: the newest]
        deployment: Option<String>,
        /// Where the agent keeps its identity and journal
        #[arg(long, value_name = "DIR", default_value = "/var/lib/fettle/agent")]
        state: PathBuf,
    },
    /// Put back what a deployment replaced; needs root, and no server
    Undo {
        /// deployment_…, as `fettle agent status` lists it
        deployment: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Where the agent keeps its identity and journal
        #[arg(long, value_name = "DIR", default_value = "/var/lib/fettle/agent")]
        state: PathBuf,
        /// Another root directory than /
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// This host's own policy: what it lets its server do; only root may be able to write it
        #[arg(long, value_name = "FILE", default_value = "/etc/fettle/policy.toml")]
        policy: PathBuf,
        /// The list of foreign providers
        #[arg(long, value_name = "FILE", default_value = "/etc/fettle/plugins.toml")]
        plugins: PathBuf,
    },
    /// Write the inventory into a file, for a machine that reaches no server
    Scan {
        /// File to write, compressed; `-` for standard output
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Another root directory than /
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// The list of foreign providers
        #[arg(long, value_name = "FILE", default_value = "/etc/fettle/plugins.toml")]
        plugins: PathBuf,
    },
}
