//! The command line: `fettle NOUN VERB`. What was said, not what it means; one file a noun or two.

#[cfg(feature = "full")]
mod account;
mod agent;
#[cfg(feature = "full")]
mod audit;
#[cfg(feature = "full")]
mod change;
#[cfg(feature = "full")]
mod config;
#[cfg(feature = "full")]
mod feed;
#[cfg(feature = "full")]
mod finding;
#[cfg(feature = "full")]
mod host;
mod plugin;
#[cfg(feature = "full")]
mod server;
#[cfg(feature = "full")]
mod vercmp;

#[cfg(feature = "full")]
pub use account::{Login, Password, Token, User};
pub use agent::Agent;
#[cfg(feature = "full")]
pub use audit::Audit;
#[cfg(feature = "full")]
pub use change::{Change, ChangeCreate, Deployment};
#[cfg(feature = "full")]
pub use config::Config;
#[cfg(feature = "full")]
pub use feed::Feed;
#[cfg(feature = "full")]
pub use finding::{Finding, Vulnerability};
#[cfg(feature = "full")]
pub use host::{Group, Host, HostToken};
pub use plugin::Plugin;
#[cfg(feature = "full")]
pub use server::{Server, ServerRun};
#[cfg(feature = "full")]
pub use vercmp::Vercmp;

#[cfg(feature = "full")]
use clap::Args;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Exit codes, told in every help text.
pub const EXIT_CODES: &str = "Exit codes:
  0  done, or the answer is yes
  1  failed, or the answer is no
  2  wrong usage, wrong value, wrong configuration
  3  not signed in, or not allowed
  4  not there
  5  refused by the present state
  6  the server cannot be reached";

/// Open patch management: every hole, every patch, with proof and undo.
#[derive(Debug, Parser)]
#[command(name = "fettle", version, max_term_width = 80, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// Configuration file [default: $FETTLE_CONFIG, else fettle.toml in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which server, of those signed in to [default: $FETTLE_SERVER, else the one signed in to last]
    #[cfg(feature = "full")]
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// Form of the answer
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The same as --output json
    #[arg(long, global = true, conflicts_with = "output")]
    pub json: bool,
    /// What is asked for
    #[command(subcommand)]
    pub command: Command,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people, in 80 columns
    Table,
    /// For programs: the API's own form
    Json,
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server, look after its data
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Server(Server),
    /// Run and look after the agent of this machine
    #[command(subcommand)]
    Agent(Agent),
    /// Check the configuration
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Config(Config),
    /// Sign in and keep an API token (mode 0600)
    #[cfg(feature = "full")]
    Login(Login),
    /// Forget the kept API token and revoke it
    #[cfg(feature = "full")]
    Logout,
    /// Say who is signed in
    #[cfg(feature = "full")]
    Whoami,
    /// Change your own password
    #[cfg(feature = "full")]
    Password(Password),
    /// People who may sign in
    #[command(subcommand)]
    #[cfg(feature = "full")]
    User(User),
    /// Your own API tokens
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Token(Token),
    /// Machines
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Host(Host),
    /// Named hosts
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Group(Group),
    /// Vulnerability feeds
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Feed(Feed),
    /// Vulnerabilities that are present on hosts
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Finding(Finding),
    /// What is known of a vulnerability
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Vulnerability(Vulnerability),
    /// Requests for change: plan, approve, roll out, undo
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Change(Change),
    /// One change on one host
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Deployment(Deployment),
    /// Who did what
    #[command(subcommand)]
    #[cfg(feature = "full")]
    Audit(Audit),
    /// Say in words why something is as it is
    #[cfg(feature = "full")]
    Explain {
        /// finding_…, host_…, change_… or deployment_…
        id: String,
    },
    /// Plug-ins: built-in feeds and providers, and foreign executables
    #[command(subcommand)]
    Plugin(Plugin),
    /// Compare two versions, or check a table of comparisons
    #[cfg(feature = "full")]
    Vercmp(Vercmp),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write man pages
    Man {
        /// Folder to write into
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Which part of a list.
#[cfg(feature = "full")]
#[derive(Debug, Clone, Args)]
pub struct Page {
    /// Items at most
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
    /// What the page before named as next
    #[arg(long, value_name = "NEXT")]
    pub after: Option<String>,
}
