//! Signing in, people, API tokens: `fettle login`, `password`, `user`, `token`.

use super::Page;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `fettle login`.
#[derive(Debug, Args)]
pub struct Login {
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
    /// [default: the one trusted before, else you are asked]
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
    List {
        /// Which part
        #[command(flatten)]
        page: Page,
        /// Column to sort by: name, role, created_at or last_sign_in; with `-` before it the greatest first [default: name]
        #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
        sort: Option<String>,
    },
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
    List {
        /// Which part
        #[command(flatten)]
        page: Page,
        /// Column to sort by: created_at, label, expires_at or last_used; with `-` before it the greatest first [default: -created_at]
        #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
        sort: Option<String>,
    },
    /// Revoke one
    Revoke {
        /// token_…
        id: String,
    },
}
