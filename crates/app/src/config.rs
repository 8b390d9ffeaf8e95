//! Configuration: file, environment, flags, in that rising order. Every key has one place in one
//! table; from it come the environment's names, the checks and the reference.

use crate::environment;
use crate::failure::Failure;
use fettle_server::Settings;
use fettle_server::settings::{ChangeSettings, FeedSettings, HostSettings, ServerSettings, SignInSettings};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Longest configuration file.
const LONGEST: u64 = 1 << 20;

/// The file as it may be written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    database_url: Option<String>,
    server: ServerSettings,
    sign_in: SignInSettings,
    hosts: HostSettings,
    feeds: FeedSettings,
    changes: ChangeSettings,
}

/// What it all comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// Data directory.
    pub data: PathBuf,
    /// Address and port.
    pub listen: SocketAddr,
    /// PostgreSQL instead of the embedded database.
    pub database_url: Option<String>,
    /// The server's settings.
    pub settings: Settings,
}

/// What flags say.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--database-url`.
    pub database_url: Option<String>,
}

const DATA: &str = "/var/lib/fettle/server";
const LISTEN: &str = "127.0.0.1:8443";

/// Reads file and environment and puts the flags on top.
pub fn load(flags: &Flags) -> Result<Configuration, Failure> {
    let from_environment = environment::variable("FETTLE_DATA").map(PathBuf::from);
    let data_hint = flags.data.clone().or(from_environment);
    let named = flags.config.clone().or_else(|| environment::variable("FETTLE_CONFIG").map(PathBuf::from));
    let implied = data_hint.clone().unwrap_or_else(|| PathBuf::from(DATA)).join("fettle.toml");
    let path = named.clone().or_else(|| implied.exists().then_some(implied));
    let mut table = match &path {
        Some(path) => read(path)?,
        None => Table::new(),
    };
    overlay(&mut table, environment::variable)?;
    let file: File = Value::Table(table).try_into().map_err(|error: toml::de::Error| {
        Failure::usage(format!("environment: {}", error.message()))
            .advise("fettle config reference lists every key and its variable.")
    })?;
    let listen = match &flags.listen {
        Some(text) => text.parse().map_err(|_| {
            Failure::usage(format!("--listen: `{text}` is no address and port"))
                .advise("Use for example 0.0.0.0:8443 or [::]:8443.")
        })?,
        None => match file.listen {
            Some(listen) => listen,
            None => LISTEN.parse().map_err(Failure::usage)?,
        },
    };
    let settings = Settings {
        server: file.server,
        sign_in: file.sign_in,
        hosts: file.hosts,
        feeds: file.feeds,
        changes: file.changes,
    };
    bounds(&settings)?;
    Ok(Configuration {
        data: flags.data.clone().or(file.data).unwrap_or_else(|| PathBuf::from(DATA)),
        listen,
        database_url: flags.database_url.clone().or(file.database_url),
        settings,
    })
}

/// Refuses values that have the right type and still cannot be used; names every one of them.
fn bounds(settings: &Settings) -> Result<(), Failure> {
    let complaints = settings.complaints();
    let Some(first) = complaints.first() else { return Ok(()) };
    let all: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    let variable = key(first.key, "", String::new(), "").variable;
    Err(Failure::usage(all.join("; ")).advise(format!("It stands in the configuration file or in ${variable}.")))
}

/// Reads and checks a file; the error names the key, the line and what would be right.
pub fn read(path: &Path) -> Result<Table, Failure> {
    let shown = path.display();
    let length = fs::metadata(path).map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?.len();
    if length > LONGEST {
        return Err(Failure::usage(format!("{shown} has {length} bytes: no configuration is longer than {LONGEST}")));
    }
    let text = fs::read_to_string(path).map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?;
    check(&shown.to_string(), &text)?;
    toml::from_str(&text).map_err(|error| Failure::usage(format!("{shown}: {}", error.message())))
}

/// Checks the text of a file.
pub fn check(name: &str, text: &str) -> Result<(), Failure> {
    let Err(error) = toml::from_str::<File>(text) else { return Ok(()) };
    let start = error.span().map_or(0, |span| span.start);
    let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
    let source = text.lines().nth(line - 1).unwrap_or_default().trim();
    let message = error.message().lines().next().unwrap_or_default();
    let mut failure = Failure::usage(format!("{name}:{line}: {message}: `{source}`"));
    if let Some(wrong) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        failure.advice = match nearest(wrong) {
            Some(key) => format!("Did you mean `{key}`? fettle config reference lists every key."),
            None => "fettle config reference lists every key.".to_owned(),
        };
    } else if let Some(key) = key_of_line(text, line) {
        failure.advice = format!("`{}` is {}; the default is {}.", key.path, key.kind, key.default);
    }
    Err(failure)
}

/// One key of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// `hosts.check-in-seconds`.
    pub path: String,
    /// `FETTLE_HOSTS_CHECK_IN_SECONDS`.
    pub variable: String,
    /// In words: a whole number, a text, …
    pub kind: &'static str,
    /// As it would be written.
    pub default: String,
    /// What it is for.
    pub help: String,
}

/// Every key, in the order of the file.
pub fn keys() -> Vec<Key> {
    let mut keys = vec![
        key("data", "a path", format!("{DATA:?}"), "Keys, certificates and the embedded database."),
        key(
            "listen",
            "an address and port",
            format!("{LISTEN:?}"),
            "Where the API, the pages and the agents are served.",
        ),
        key(
            "database-url",
            "a text",
            "the embedded database".to_owned(),
            "`postgres://…` to use a PostgreSQL instead.",
        ),
    ];
    let schema = schemars::schema_for!(Settings).to_value();
    let defaults = Table::try_from(Settings::default()).unwrap_or_default();
    for (section, values) in &defaults {
        let Some(values) = values.as_table() else { continue };
        for (name, value) in values {
            let kind = match value {
                Value::Integer(_) => "a whole number",
                Value::Boolean(_) => "true or false",
                Value::Array(_) => "a list of texts",
                _ => "a text",
            };
            keys.push(key(&format!("{section}.{name}"), kind, value.to_string(), &help(&schema, section, name)));
        }
    }
    keys
}

fn key(path: &str, kind: &'static str, default: String, help: &str) -> Key {
    let variable = format!("FETTLE_{}", path.to_uppercase().replace(['.', '-'], "_"));
    Key { path: path.to_owned(), variable, kind, default, help: help.to_owned() }
}

/// The docstring of a key, from the JSON schema of the settings.
fn help(schema: &serde_json::Value, section: &str, name: &str) -> String {
    let reference =
        schema.pointer(&format!("/properties/{section}/$ref")).and_then(serde_json::Value::as_str).unwrap_or_default();
    let definition = reference.trim_start_matches('#');
    schema
        .pointer(&format!("{definition}/properties/{name}/description"))
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
        .replace('\n', " ")
}

fn key_of_line(text: &str, line: usize) -> Option<Key> {
    let name = text.lines().nth(line - 1)?.split('=').next()?.trim();
    let section = text.lines().take(line).filter_map(|line| line.trim().strip_prefix('[')?.strip_suffix(']')).last();
    let path = section.map_or_else(|| name.to_owned(), |section| format!("{section}.{name}"));
    keys().into_iter().find(|key| key.path == path)
}

/// The key whose name is nearest to a wrong one, when it is near at all.
fn nearest(wrong: &str) -> Option<String> {
    keys()
        .into_iter()
        .flat_map(|key| {
            let last = key.path.rsplit('.').next().unwrap_or_default().to_owned();
            let section = key.path.split_once('.').map(|(section, _)| section.to_owned());
            [Some((last, key.path.clone())), section.map(|section| (section.clone(), format!("[{section}]")))]
        })
        .flatten()
        .map(|(name, path)| (distance(wrong, &name), path))
        .filter(|(distance, _)| *distance <= wrong.len().max(3) / 3)
        .min()
        .map(|(_, path)| path)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let replace = row.get(j).copied().unwrap_or(0) + usize::from(left != *right);
            let insert = next.last().copied().unwrap_or(0) + 1;
            let delete = row.get(j + 1).copied().unwrap_or(0) + 1;
            next.push(replace.min(insert).min(delete));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Puts the environment over the file.
fn overlay(table: &mut Table, variable: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    for key in keys() {
        let Some(text) = variable(&key.variable) else { continue };
        let wrong = || {
            Failure::usage(format!("{}: `{text}` is not {}", key.variable, key.kind))
                .advise(format!("The default is {}.", key.default))
        };
        let value = match key.kind {
            "a whole number" => Value::Integer(text.parse().map_err(|_| wrong())?),
            "true or false" => Value::Boolean(text.parse().map_err(|_| wrong())?),
            "a list of texts" => {
                Value::Array(text.split(',').map(|part| Value::String(part.trim().to_owned())).collect())
            }
            _ => Value::String(text.clone()),
        };
        match key.path.split_once('.') {
            None => {
                table.insert(key.path.clone(), value);
            }
            Some((section, name)) => {
                let section = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
                if let Some(section) = section.as_table_mut() {
                    section.insert(name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

/// The reference as Markdown.
pub fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\nFile (TOML: `--config FILE`, `$FETTLE_CONFIG`, or `fettle.toml` in the data directory), then environment, then flags: what comes later wins. `fettle config check` names what is wrong.\n\n| key | variable | is | default | what it is for |\n|---|---|---|---|---|\n",
    );
    for key in keys() {
        text.push_str(&format!(
            "| `{}` | `{}` | {} | `{}` | {} |\n",
            key.path, key.variable, key.kind, key.default, key.help
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        check("fettle.toml", text).map_or_else(|failure| failure.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn errors_name_the_key_the_line_and_what_would_be_right() {
        insta::assert_snapshot!(complaint("listen = \"127.0.0.1:1\"\n[hosts]\ncheck-in-secnds = 5\n"), @"
        fettle: fettle.toml:3: unknown field `check-in-secnds`, expected one of `check-in-seconds`, `silent-after`, `certificate-days`, `certificate-grace-days`, `clones`: `check-in-secnds = 5`
                Did you mean `hosts.check-in-seconds`? fettle config reference lists every key.
        ");
        insta::assert_snapshot!(complaint("[hosts]\ncheck-in-seconds = \"five\"\n"), @r#"
        fettle: fettle.toml:2: invalid type: string "five", expected u64: `check-in-seconds = "five"`
                `hosts.check-in-seconds` is a whole number; the default is 300.
        "#);
        insta::assert_snapshot!(complaint("[hosts\n"), @"fettle: fettle.toml:1: unclosed table, expected `]`: `[hosts`");
        assert_eq!(complaint("[changes]\napprovals = 2\n"), "fine");
    }

    #[test]
    fn values_out_of_bounds_are_refused_with_what_would_be_right() {
        assert_eq!(bounds(&Settings::default()), Ok(()));
        let mut settings = Settings::default();
        settings.hosts.check_in_seconds = 0;
        settings.changes.success_percent = 250;
        let failure = bounds(&settings).unwrap_err();
        assert_eq!(failure.code, 2);
        insta::assert_snapshot!(failure, @r"
        fettle: `hosts.check-in-seconds` is 0: use 1 to 86400; `changes.success-percent` is 250: use 1 to 100
                It stands in the configuration file or in $FETTLE_HOSTS_CHECK_IN_SECONDS.
        ");
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let mut table: Table = toml::from_str("[hosts]\ncheck-in-seconds = 60\n").unwrap();
        let variable = |name: &str| (name == "FETTLE_HOSTS_CHECK_IN_SECONDS").then(|| "90".to_owned());
        overlay(&mut table, variable).unwrap();
        assert_eq!(table["hosts"]["check-in-seconds"].as_integer(), Some(90));
        let wrong = |name: &str| (name == "FETTLE_HOSTS_CHECK_IN_SECONDS").then(|| "soon".to_owned());
        let failure = overlay(&mut table, wrong).unwrap_err();
        assert!(failure.what.contains("FETTLE_HOSTS_CHECK_IN_SECONDS: `soon` is not a whole number"), "{failure}");
    }

    #[test]
    fn golden_configuration_reference() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        if std::env::var_os("FETTLE_UPDATE_GOLDEN").is_some() {
            fs::write(&path, reference()).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            golden,
            reference(),
            "docs/configuration.md is stale; run `cargo xtask golden` and read the difference"
        );
        assert!(keys().iter().all(|key| !key.help.is_empty()), "a key without help: {:?}", keys());
    }
}
