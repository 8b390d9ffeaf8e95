//! The command line: `fettle NOUN VERB`. What was said, not what it means; one file a noun or two.

mod account;
mod agent;
mod audit;
mod change;
mod config;
mod feed;
mod finding;
mod host;
mod server;
mod vercmp;

pub use account::{Login, Password, Token, User};
pub use agent::Agent;
pub use audit::Audit;
pub use change::{Change, ChangeCreate, Deployment};
pub use config::Config;
pub use feed::Feed;
pub use finding::{Finding, Vulnerability};
pub use host::{Group, Host, HostToken};
pub use server::{Server, ServerRun};
pub use vercmp::Vercmp;

use clap::{Args, Parser, Subcommand, ValueEnum};
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
    /// Form of the answer
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
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
    Server(Server),
    /// Run and look after the agent of this machine
    #[command(subcommand)]
    Agent(Agent),
    /// Check the configuration
    #[command(subcommand)]
    Config(Config),
    /// Sign in and keep an API token (mode 0600)
    Login(Login),
    /// Forget the kept API token and revoke it
    Logout,
    /// Say who is signed in
    Whoami,
    /// Change your own password
    Password(Password),
    /// People who may sign in
    #[command(subcommand)]
    User(User),
    /// Your own API tokens
    #[command(subcommand)]
    Token(Token),
    /// Machines
    #[command(subcommand)]
    Host(Host),
    /// Named hosts
    #[command(subcommand)]
    Group(Group),
    /// Vulnerability feeds
    #[command(subcommand)]
    Feed(Feed),
    /// Vulnerabilities that are present on hosts
    #[command(subcommand)]
    Finding(Finding),
    /// What is known of a vulnerability
    #[command(subcommand)]
    Vulnerability(Vulnerability),
    /// Requests for change: plan, approve, roll out, undo
    #[command(subcommand)]
    Change(Change),
    /// One change on one host
    #[command(subcommand)]
    Deployment(Deployment),
    /// Who did what
    #[command(subcommand)]
    Audit(Audit),
    /// Say in words why something is as it is
    Explain {
        /// finding_…, host_…, change_… or deployment_…
        id: String,
    },
    /// Compare two versions, or check a table of comparisons
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
#[derive(Debug, Clone, Args)]
pub struct Page {
    /// Items at most
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
    /// What the page before named as next
    #[arg(long, value_name = "NEXT")]
    pub after: Option<String>,
}
