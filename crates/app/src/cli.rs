//! The command line: `fettle NOUN VERB`. What was said, not what it means.

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

/// `fettle server`.
#[derive(Debug, Subcommand)]
pub enum Server {
    /// Serve the API, the pages and the agents on one port
    Run(ServerRun),
    /// Sign in as the local operator, without a password, on the server's own machine
    LocalToken {
        /// Data directory
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// postgres://… when the server uses one
        #[arg(long, value_name = "URL")]
        database_url: Option<String>,
        /// Address of the server
        #[arg(long, default_value = "https://localhost:8443")]
        server: String,
    },
    /// Make a new one-time password for a user, on the server's own machine
    ResetPassword {
        /// Data directory
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// postgres://… when the server uses one
        #[arg(long, value_name = "URL")]
        database_url: Option<String>,
        /// User
        user: String,
    },
}

/// `fettle server run`.
#[derive(Debug, Args)]
pub struct ServerRun {
    /// Data directory: keys, certificates, the embedded database; made when empty
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address and port [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Use this PostgreSQL instead of the embedded database
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Also write what is printed once (address, fingerprint, one-time password) here as JSON, mode 0600
    #[arg(long, value_name = "FILE")]
    pub announce_file: Option<PathBuf>,
}

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
        /// Never change the host; needs no root
        #[arg(long)]
        read_only: bool,
        /// One check-in, the work that waits, and end
        #[arg(long)]
        once: bool,
        /// Seconds between check-ins instead of what the server asks for
        #[arg(long, value_name = "SECONDS")]
        check_in_seconds: Option<u64>,
    },
    /// Say how the agent of this machine stands
    Status {
        /// Where the agent keeps its identity and journal
        #[arg(long, value_name = "DIR", default_value = "/var/lib/fettle/agent")]
        state: PathBuf,
    },
    /// Print what the agent would report
    Inventory {
        /// Another root directory than /
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
}

/// `fettle config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Name the wrong key, its line, and what would be right
    Check {
        /// File to check [default: the one in use]
        file: Option<PathBuf>,
    },
    /// Print every key with its default, its environment variable and what it is for
    Reference,
}

/// `fettle login`.
#[derive(Debug, Args)]
pub struct Login {
    /// https://HOST:PORT
    #[arg(long)]
    pub server: String,
    /// User name
    #[arg(long)]
    pub user: String,
    /// File with the password [default: ask]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// File with a new password, for the first sign-in with a one-time password [default: ask]
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
    /// sha-256 of the server's authority, as the server prints it at its start
    #[arg(long, value_name = "HEX")]
    pub ca_fingerprint: Option<String>,
    /// On the server's own machine: read the authority from its data directory
    #[arg(long, value_name = "DIR", conflicts_with = "ca_fingerprint")]
    pub data: Option<PathBuf>,
    /// Hours the token lives [default: the server's session length]
    #[arg(long)]
    pub hours: Option<u64>,
    /// Permissions the token carries, comma-separated [default: all of the role]
    #[arg(long, value_delimiter = ',')]
    pub scopes: Option<Vec<String>>,
}

/// `fettle password`.
#[derive(Debug, Args)]
pub struct Password {
    /// User name [default: who is signed in]
    #[arg(long)]
    pub user: Option<String>,
    /// File with the present password [default: ask]
    #[arg(long, value_name = "FILE")]
    pub current_file: Option<PathBuf>,
    /// File with the new password [default: ask]
    #[arg(long, value_name = "FILE")]
    pub new_file: Option<PathBuf>,
}

/// `fettle user`.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Make a user with a one-time password
    Create {
        /// User name
        name: String,
        /// administrator, operator, approver or viewer
        #[arg(long)]
        role: String,
    },
    /// List users
    List(Page),
    /// Change a user
    Change {
        /// User name
        name: String,
        /// New role
        #[arg(long)]
        role: Option<String>,
        /// Shut out
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Let in again
        #[arg(long)]
        enable: bool,
        /// Make a new one-time password
        #[arg(long)]
        reset_password: bool,
    },
}

/// `fettle token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a further API token
    Create {
        /// What it is for
        #[arg(long)]
        label: String,
        /// Hours until it expires
        #[arg(long, default_value_t = 24)]
        hours: u64,
        /// Permissions, comma-separated [default: all of your role]
        #[arg(long, value_delimiter = ',')]
        scopes: Option<Vec<String>>,
    },
    /// List your tokens
    List(Page),
    /// Revoke one
    Revoke {
        /// token_…
        id: String,
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

/// `fettle host`.
#[derive(Debug, Subcommand)]
pub enum Host {
    /// Enrolment tokens
    #[command(subcommand)]
    Token(HostToken),
    /// List hosts by name
    List {
        /// Which part
        #[command(flatten)]
        page: Page,
        /// enrolling, managed, silent or retired [default: all but the retired]
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
        #[arg(long)]
        server: Option<String>,
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

/// `fettle finding`.
#[derive(Debug, Subcommand)]
pub enum Finding {
    /// List findings, most urgent first
    List {
        /// Which part
        #[command(flatten)]
        page: Page,
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

/// `fettle change`.
#[derive(Debug, Subcommand)]
pub enum Change {
    /// Ask for a change: every host tries it dry, then a plan is proposed
    Create(ChangeCreate),
    /// List changes, newest first
    List {
        /// Which part
        #[command(flatten)]
        page: Page,
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

/// `fettle vercmp`.
#[derive(Debug, Args)]
pub struct Vercmp {
    /// Check a table: NAME of the ordering and FILE.tsv
    #[arg(long, num_args = 2, value_names = ["NAME", "FILE"], conflicts_with_all = ["ecosystem", "a", "b"])]
    pub file: Option<Vec<String>>,
    /// Ordering: dpkg
    #[arg(required_unless_present = "file")]
    pub ecosystem: Option<String>,
    /// One version
    #[arg(required_unless_present = "file")]
    pub a: Option<String>,
    /// The other
    #[arg(required_unless_present = "file")]
    pub b: Option<String>,
}
