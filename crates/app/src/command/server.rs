//! `fettle server` and `fettle config`.

use crate::cli::{Config, Server, ServerRun};
use crate::config::{self, Flags};
use crate::credentials::{self, Credentials, write_private};
use crate::failure::Failure;
use crate::output;
use fettle_server::{Announcement, ServerOptions};
use serde_json::json;
use std::path::PathBuf;

/// Runs `fettle server`.
pub async fn run(command: &Server, config: Option<PathBuf>) -> Result<(), Failure> {
    match command {
        Server::Run(options) => serve(options, config).await,
        Server::LocalToken { data, database_url, server } => {
            let flags = Flags { config, data: data.clone(), listen: None, database_url: database_url.clone() };
            let configuration = config::load(&flags)?;
            let authority = super::account::fingerprint_in(&configuration.data)?;
            let (data, url) = (configuration.data, configuration.database_url);
            let (token, id) = tokio::task::spawn_blocking(move || fettle_server::local_token(&data, url.as_deref()))
                .await
                .map_err(Failure::failed)?
                .map_err(Failure::failed)?;
            let kept = Credentials {
                server: server.trim_end_matches('/').to_owned(),
                user: fettle_server::LOCAL_OPERATOR.to_owned(),
                authority,
                token,
                token_id: id.to_string(),
            };
            let path = credentials::save(&kept)?;
            output::line(&format!("signed in as {} for 30 days (kept in {})", kept.user, path.display()))
        }
        Server::ResetPassword { data, database_url, user } => {
            let flags = Flags { config, data: data.clone(), listen: None, database_url: database_url.clone() };
            let configuration = config::load(&flags)?;
            let (data, url, name) = (configuration.data, configuration.database_url, user.clone());
            let password =
                tokio::task::spawn_blocking(move || fettle_server::reset_password(&data, url.as_deref(), &name))
                    .await
                    .map_err(Failure::failed)?
                    .map_err(Failure::failed)?;
            output::line(&format!("{user}: one-time password {password} (shown only now)"))
        }
    }
}

async fn serve(options: &ServerRun, config: Option<PathBuf>) -> Result<(), Failure> {
    let flags = Flags {
        config,
        data: options.data.clone(),
        listen: options.listen.clone(),
        database_url: options.database_url.clone(),
    };
    let configuration = config::load(&flags)?;
    let data = configuration.data.clone();
    // Each foreign feed is started once, to hear what it is.
    let feeds = tokio::task::spawn_blocking(move || crate::plugins::feeds(&data)).await.map_err(Failure::failed)??;
    let server = ServerOptions {
        data_dir: configuration.data,
        listen: configuration.listen,
        database_url: configuration.database_url,
        settings: configuration.settings,
        feeds,
    };
    let prepared = fettle_server::prepare(server).await.map_err(Failure::failed)?;
    announce(prepared.announcement(), options.announce_file.as_deref())?;
    prepared.run(crate::signals::stop()).await.map_err(Failure::failed)
}

fn announce(announcement: &Announcement, file: Option<&std::path::Path>) -> Result<(), Failure> {
    let mut pairs = vec![
        ("Address", announcement.address.clone()),
        ("Authority", format!("sha-256 {}", announcement.authority_fingerprint)),
        ("", format!("({}; trust it in your browser)", announcement.authority_path.display())),
    ];
    if let Some((name, password)) = &announcement.administrator {
        pairs.push(("Sign in", format!("{name}, one-time password {password} (shown only now)")));
    }
    output::print(&output::pairs(&pairs, output::width().max(120)))?;
    if let Some(file) = file {
        let text = json!({
            "address": announcement.address,
            "listen": announcement.listen.to_string(),
            "authority_fingerprint": announcement.authority_fingerprint,
            "administrator": announcement.administrator.as_ref().map(|(name, _)| name),
            "one_time_password": announcement.administrator.as_ref().map(|(_, password)| password),
        });
        write_private(file, format!("{text}\n").as_bytes())
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))?;
    }
    Ok(())
}

/// Runs `fettle config`.
pub fn config(command: &Config, named: Option<PathBuf>) -> Result<(), Failure> {
    match command {
        Config::Check { file } => {
            let flags = Flags { config: file.clone().or(named), ..Flags::default() };
            let configuration = config::load(&flags)?;
            output::line(&format!("fine: data {}, listen {}", configuration.data.display(), configuration.listen))
        }
        Config::Reference => output::print(&config::reference()),
    }
}
