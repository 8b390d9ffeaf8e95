//! The administrator's file `agent.toml`: what the host says of itself and how often it checks in.

use crate::disk::files::{self, DiskError};
use crate::report::Patterns;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Cap of the file.
const LONGEST: u64 = 64 << 10;

/// The agent's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the host stands, as people call it.
    #[serde(default)]
    pub(crate) location: String,
    /// Words by which groups select hosts.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// Seconds between check-ins, in place of what the server says.
    pub(crate) check_in_seconds: Option<u64>,
    /// How long a new version of the agent may take to prove itself, in seconds.
    pub(crate) self_update_seconds: Option<u64>,
    /// Never change this host.
    #[serde(default)]
    pub(crate) read_only: bool,
    /// Patterns of secrets that are masked in output, besides those that the agent knows.
    #[serde(default)]
    pub(crate) mask: Vec<String>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Not what such a file may hold.
    #[error("{}: {why}\nknown keys: location = \"text\", tags = [\"text\"], check_in_seconds = number (5 to 86400), self_update_seconds = number (10 to 3600), read_only = true or false, mask = [\"CORP-*-KEY\"]", .path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Which line, and what is wrong with it.
        why: String,
    },
}

impl Config {
    /// Reads the file; without one, the defaults.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let wrong = |why: String| ConfigError::Wrong { path: path.to_owned(), why };
        let Some(bytes) = files::read(path, LONGEST)? else { return Ok(Self::default()) };
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))?;
        let config: Config = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        config.masks().map_err(&wrong)?;
        let numbers = [
            ("check_in_seconds", config.check_in_seconds, 5..=86_400),
            ("self_update_seconds", config.self_update_seconds, 10..=3600),
        ];
        for (key, value, bounds) in numbers {
            if let Some(seconds) = value.filter(|seconds| !bounds.contains(seconds)) {
                let (least, most) = bounds.into_inner();
                return Err(wrong(format!("{key} = {seconds} is not between {least} and {most}")));
            }
        }
        Ok(config)
    }

    /// The patterns of secrets, made ready.
    pub(crate) fn masks(&self) -> Result<Patterns, String> {
        Patterns::parse(&self.mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_names_the_line_and_what_would_be_right() {
        let config = load("location = \"Rack 3\"\ntags = [\"web\", \"dmz\"]\n").unwrap();
        assert_eq!((config.location.as_str(), config.tags.len()), ("Rack 3", 2));
        let error = load("location = \"x\"\nlocaton = 3\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("locaton"), "{error}");
        assert!(load("tags = \"web\"").unwrap_err().contains("line 1"));
        assert!(load("mask = [\"a*\"]").unwrap_err().contains("mask pattern \"a*\""));
        assert_eq!(load("mask = [\"CORP-*\"]").unwrap().mask, ["CORP-*"]);
        assert!(load("check_in_seconds = 1").unwrap_err().contains("between 5 and 86400"));
        assert_eq!(Config::load(Path::new("/nonexistent/agent.toml")).unwrap(), Config::default());
    }
}
