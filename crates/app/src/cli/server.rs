//! `fettle server`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

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
