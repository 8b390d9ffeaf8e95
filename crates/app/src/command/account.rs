//! `fettle login`, `logout`, `whoami`, `password`, `user`, `token`.

use super::query;
use crate::cli::{Login, Output, Password, Token, User};
use crate::client::{Client, escape};
use crate::credentials::{self, Credentials};
use crate::failure::Failure;
use crate::output::{self, fixed, flexible};
use crate::trust;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

/// Runs `fettle login`.
pub async fn login(command: &Login) -> Result<(), Failure> {
    let server = server_of_login()?;
    let authority = authority(command, &server).await?;
    let client = Client::pinned(&server, &authority)?;
    let mut password = secret("Password", command.password_file.as_deref())?;
    let ask = |password: &str| json!({ "user": command.user, "password": password, "label": "fettle login", "hours": command.hours, "scopes": command.scopes });
    let answer = match client.post("/login", &ask(&password)).await {
        Err(failure) if failure.what.contains("must be changed") => {
            let label = "The one-time password must be changed. New password";
            let new = new_secret(label, command.new_password_file.as_deref())?;
            client.post("/password", &json!({ "user": command.user, "current": password, "new": new })).await?;
            password = new;
            client.post("/login", &ask(&password)).await?
        }
        other => other?,
    };
    let kept = Credentials {
        server,
        user: command.user.clone(),
        authority,
        token: field(&answer, "/secret")?,
        token_id: field(&answer, "/token/id")?,
    };
    let path = credentials::save(&kept)?;
    output::line(&format!(
        "signed in as {} until {} (kept in {})",
        command.user,
        output::cell(answer.pointer("/token/expires_at")),
        path.display()
    ))
}

fn field(answer: &Value, pointer: &str) -> Result<String, Failure> {
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Failure::failed(format!("the server's answer has no {pointer}")))
}

/// The server that was named, else the one signed in to before.
fn server_of_login() -> Result<String, Failure> {
    if let Some(server) = credentials::named() {
        return Ok(server);
    }
    credentials::load().map(|kept| kept.server).map_err(|_| {
        Failure::usage("where to sign in is not known yet")
            .advise("Name the server: --server https://HOST:PORT (fettle server run prints it).")
    })
}

/// The authority's fingerprint: named, read on the server's machine, kept from an earlier sign-in, or
/// shown by the server and trusted by the person.
async fn authority(command: &Login, server: &str) -> Result<String, Failure> {
    if let Some(fingerprint) = &command.ca_fingerprint {
        return Ok(fingerprint.clone());
    }
    if let Some(data) = &command.data {
        return fingerprint_in(data);
    }
    match credentials::load() {
        Ok(kept) if kept.server == server => Ok(kept.authority),
        _ => trust::ask(server).await,
    }
}

/// The fingerprint of the authority in a server's data directory.
pub(super) fn fingerprint_in(data: &Path) -> Result<String, Failure> {
    let path = data.join("authority.pem");
    let certificate = CertificateDer::from_pem_file(&path).map_err(|error| {
        Failure::usage(format!("cannot read {}: {error}", path.display()))
            .advise("Name the server's data directory, or use --ca-fingerprint.")
    })?;
    Ok(fettle_content::sha256_hex(&certificate))
}

/// A secret from a file, or asked for without echo.
fn secret(label: &str, file: Option<&Path>) -> Result<String, Failure> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    let stdin = std::io::stdin();
    let silent = stdin.is_terminal().then(|| Echo::off(&stdin)).transpose()?;
    if silent.is_some() {
        let mut error = std::io::stderr();
        write!(error, "{label}: ")?;
        error.flush()?;
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    if silent.is_some() {
        writeln!(std::io::stderr())?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A new secret; a person types it twice.
fn new_secret(label: &str, file: Option<&Path>) -> Result<String, Failure> {
    let new = secret(label, file)?;
    if file.is_none() && std::io::stdin().is_terminal() && secret("Once more", None)? != new {
        return Err(Failure::usage("the two differ; nothing was changed"));
    }
    Ok(new)
}

/// The terminal's echo, off while this lives.
struct Echo(rustix::termios::Termios);

impl Echo {
    fn off(stdin: &std::io::Stdin) -> Result<Self, Failure> {
        let before = rustix::termios::tcgetattr(stdin).map_err(Failure::failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(stdin, rustix::termios::OptionalActions::Flush, &silent).map_err(Failure::failed)?;
        Ok(Self(before))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Nothing better can be done about a terminal that is gone.
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Flush, &self.0);
    }
}

/// Runs `fettle logout`.
pub async fn logout() -> Result<(), Failure> {
    let kept = credentials::load()?;
    if !kept.token_id.is_empty() {
        let client = Client::signed_in()?;
        if let Err(failure) = client.delete(&format!("/tokens/{}", escape(&kept.token_id))).await {
            credentials::forget(&kept.server)?;
            return Err(Failure::new(failure.code, format!("forgotten here, but not revoked: {}", failure.what)));
        }
    }
    credentials::forget(&kept.server)?;
    output::line(&format!("signed out of {}", kept.server))
}

/// Runs `fettle whoami`.
pub async fn whoami(form: Output) -> Result<(), Failure> {
    let answer = Client::signed_in()?.get("/whoami", &[]).await?;
    if form == Output::Json {
        return output::json(&answer);
    }
    let of = |pointer: &str| output::cell(answer.pointer(pointer));
    let server = credentials::load()?.server;
    let mut pairs = vec![("User", of("/user")), ("Role", of("/role")), ("May", of("/permissions"))];
    let others = credentials::others(&server);
    pairs.push(("Server", server));
    if !others.is_empty() {
        pairs.push(("Signed in also at", others.join(" ")));
    }
    output::print(&output::pairs(&pairs, output::width()))
}

/// Runs `fettle password`.
pub async fn password(command: &Password) -> Result<(), Failure> {
    let kept = credentials::load()?;
    let user = command.user.clone().unwrap_or(kept.user);
    let current = secret("Present password", command.current_file.as_deref())?;
    let new = new_secret("New password", command.new_file.as_deref())?;
    let client = Client::signed_in()?;
    client.post("/password", &json!({ "user": user, "current": current, "new": new })).await?;
    output::line("the password is changed; sessions and tokens made with the old one may have ended")
}

/// Runs `fettle user`.
pub async fn user(command: &User, form: Output) -> Result<(), Failure> {
    let client = Client::signed_in()?;
    match command {
        User::Create { name, role } => {
            let answer = client.post("/users", &json!({ "name": name, "role": role })).await?;
            one_time(&answer, name, form)
        }
        User::List { page, sort } => {
            let answer = client.get("/users", &query(page, &[("sort", sort.clone())])).await?;
            if form == Output::Json {
                return output::json(&answer);
            }
            let columns = [
                flexible("USER", "/name"),
                fixed("ROLE", "/role"),
                fixed("DISABLED", "/disabled"),
                fixed("LAST SIGN-IN", "/last_sign_in"),
            ];
            output::print(&output::table(&answer, &columns, output::width(), "No user."))
        }
        User::Change { name, role, disable, enable, reset_password } => {
            let disabled = if *disable { Some(true) } else { enable.then_some(false) };
            let body = json!({ "role": role, "disabled": disabled, "reset_password": reset_password });
            let answer = client.patch(&format!("/users/{}", escape(name)), &body).await?;
            one_time(&answer, name, form)
        }
    }
}

fn one_time(answer: &Value, name: &str, form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        return output::json(answer);
    }
    match answer.get("one_time_password").and_then(Value::as_str) {
        Some(password) => output::line(&format!(
            "{name}: one-time password {password} (shown only now; to be changed at the first sign-in)"
        )),
        None => output::line(&format!("{name} is changed")),
    }
}

/// Runs `fettle token`.
pub async fn token(command: &Token, form: Output) -> Result<(), Failure> {
    let client = Client::signed_in()?;
    match command {
        Token::Create { label, hours, scopes } => {
            let answer = client.post("/tokens", &json!({ "label": label, "hours": hours, "scopes": scopes })).await?;
            match form {
                Output::Json => output::json(&answer),
                Output::Table => output::line(&field(&answer, "/secret")?),
            }
        }
        Token::List { page, sort } => {
            let answer = client.get("/tokens", &query(page, &[("sort", sort.clone())])).await?;
            if form == Output::Json {
                return output::json(&answer);
            }
            let columns = [
                fixed("TOKEN", "/id"),
                flexible("FOR", "/label"),
                fixed("EXPIRES", "/expires_at"),
                flexible("SCOPES", "/scopes"),
            ];
            output::print(&output::table(&answer, &columns, output::width(), "No token."))
        }
        Token::Revoke { id } => {
            client.delete(&format!("/tokens/{}", escape(id))).await?;
            output::line(&format!("{id} is revoked"))
        }
    }
}
