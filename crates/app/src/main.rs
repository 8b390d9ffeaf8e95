//! The one binary: server, agent, and the operator's commands. Wiring only: what it decides is who
//! is called.

mod cli;
#[cfg(feature = "full")]
mod client;
mod command;
#[cfg(feature = "full")]
mod config;
#[cfg(feature = "full")]
mod credentials;
#[cfg(feature = "full")]
mod duration;
mod environment;
mod failure;
mod output;
mod plugins;
mod signals;
#[cfg(feature = "full")]
mod trust;

use clap::{CommandFactory as _, Parser as _};
use cli::{Agent, Cli, Command};
use failure::Failure;
use std::future::Future;
use std::process::ExitCode;
use tokio::runtime::Builder;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // The only cryptography; chosen once for every TLS connection of the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = match (command::agent::network_half(), command::agent::Run::told()) {
        (Some((state, half)), _) => {
            log_to_stderr("info");
            run(Builder::new_current_thread(), async move { command::agent::run_network_half(&state, half).await })
        }
        (None, Some(told)) => {
            log_to_stderr("info");
            run(Builder::new_current_thread(), async move { told.now().await })
        }
        (None, None) => {
            let cli = Cli::parse();
            log_to_stderr(usual_log(&cli.command));
            // The server serves many at once; everything else is small and stays on one thread.
            let builder =
                if serves(&cli.command) { Builder::new_multi_thread() } else { Builder::new_current_thread() };
            run(builder, dispatch(cli))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn usual_log(command: &Command) -> &'static str {
    if serves(command) || matches!(command, Command::Agent(Agent::Run { .. })) { "info" } else { "warn" }
}

#[cfg(feature = "full")]
fn serves(command: &Command) -> bool {
    matches!(command, Command::Server(cli::Server::Run(_)))
}

#[cfg(not(feature = "full"))]
fn serves(_command: &Command) -> bool {
    false
}

fn log_to_stderr(usual: &str) {
    let filter = environment::variable("FETTLE_LOG").unwrap_or_else(|| usual.to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(usual)))
        .with_writer(std::io::stderr)
        .with_ansi(output::is_terminal())
        .init();
}

fn run(mut builder: Builder, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = builder.enable_all().build().map_err(Failure::failed)?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let form = if cli.json { cli::Output::Json } else { cli.output };
    #[cfg(feature = "full")]
    if let Some(server) = &cli.server {
        credentials::name(server);
    }
    match &cli.command {
        #[cfg(feature = "full")]
        Command::Server(command) => command::server::run(command, cli.config).await,
        #[cfg(feature = "full")]
        Command::Config(command) => command::server::config(command, cli.config),
        Command::Agent(command) => command::agent::run(command, form).await,
        #[cfg(feature = "full")]
        Command::Login(command) => command::account::login(command).await,
        #[cfg(feature = "full")]
        Command::Logout => command::account::logout().await,
        #[cfg(feature = "full")]
        Command::Whoami => command::account::whoami(form).await,
        #[cfg(feature = "full")]
        Command::Password(command) => command::account::password(command).await,
        #[cfg(feature = "full")]
        Command::User(command) => command::account::user(command, form).await,
        #[cfg(feature = "full")]
        Command::Token(command) => command::account::token(command, form).await,
        #[cfg(feature = "full")]
        Command::Host(command) => command::host::run(command, form).await,
        #[cfg(feature = "full")]
        Command::Group(command) => command::host::group(command, form).await,
        #[cfg(feature = "full")]
        Command::Feed(command) => command::feed::run(command, form).await,
        #[cfg(feature = "full")]
        Command::Finding(command) => command::finding::run(command, form).await,
        #[cfg(feature = "full")]
        Command::Vulnerability(command) => command::finding::vulnerability(command, form).await,
        #[cfg(feature = "full")]
        Command::Change(command) => command::change::run(command, form).await,
        #[cfg(feature = "full")]
        Command::Deployment(command) => command::change::deployment(command, form).await,
        #[cfg(feature = "full")]
        Command::Audit(command) => command::audit::run(command, form).await,
        #[cfg(feature = "full")]
        Command::Explain { id } => command::finding::explain(id, form).await,
        Command::Plugin(command) => command::plugin::run(command, form),
        #[cfg(feature = "full")]
        Command::Vercmp(command) => command::vercmp::run(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "fettle", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
        Command::Man { dir } => {
            std::fs::create_dir_all(dir)
                .map_err(|error| Failure::usage(format!("cannot make {}: {error}", dir.display())))?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(Failure::failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn help(command: &mut clap::Command, path: &str, text: &mut String) {
        text.push_str(&format!("## {path}\n\n```\n{}\n```\n\n", command.render_long_help().to_string().trim_end()));
        for child in command.get_subcommands_mut().filter(|child| child.get_name() != "help") {
            let path = format!("{path} {}", child.get_name());
            help(child, &path, text);
        }
    }

    #[test]
    fn golden_help_of_every_command() {
        let mut command = Cli::command();
        command.build();
        let mut text =
            String::from("# Commands\n\nThe `--help` of every command (`cargo xtask golden`); a test compares.\n\n");
        help(&mut command, "fettle", &mut text);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
        if std::env::var_os("FETTLE_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == text, "docs/cli.md is stale; run `cargo xtask golden` and read the difference");
    }

    /// The columns that help names are those the server takes, all of them and in its order.
    #[cfg(feature = "full")]
    #[test]
    fn help_names_every_column_that_a_list_can_be_sorted_by() {
        use fettle_server::ops::columns;
        use fettle_store::systems::{api_token, audit, change, finding, host, user};
        for (noun, columns) in [
            ("host", columns::<host::HostSort>()),
            ("finding", columns::<finding::FindingSort>()),
            ("change", columns::<change::ChangeSort>()),
            ("audit", columns::<audit::AuditSort>()),
            ("user", columns::<user::UserSort>()),
            ("token", columns::<api_token::ApiTokenSort>()),
        ] {
            let command = Cli::command();
            let list = command.find_subcommand(noun).and_then(|noun| noun.find_subcommand("list")).unwrap();
            let help = list.get_arguments().find(|argument| argument.get_id() == "sort").unwrap().get_help().unwrap();
            let help = help.to_string();
            let named = help.trim_start_matches("Column to sort by: ").split(';').next().unwrap();
            assert_eq!(named.replace(" or ", ", ").split(", ").collect::<Vec<_>>(), columns, "{noun}");
        }
    }

    #[test]
    fn the_tree_of_commands_is_sound() {
        Cli::command().debug_assert();
    }
}
