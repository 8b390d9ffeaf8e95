//! `fettle agent checks`: the host's own checks, looked at once, without server and deployment, so that
//! an administrator sees at once whether they say what was meant.

use super::{Prober, Watched};
use crate::disk::files::{self, DiskError};
use fettle_domain::health::HealthCheck;
use fettle_domain::reason::Reason;
use serde::Serialize;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// One check as seen now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckSeen {
    /// What people call it.
    pub name: String,
    /// As it is written.
    pub text: String,
    /// Whether it holds. A log check cannot tell without a change: since now nothing was logged.
    pub holds: bool,
    /// What was seen.
    pub evidence: String,
    /// Who asks for it.
    pub source: String,
}

/// Why checks cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ChecksError {
    /// The file, or a check, is wrong or not carried out here.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Reason>),
    /// No place for the output of commands.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Looks once at the checks of the file beside `policy`, and at `more`, which count as a change's.
pub fn look_at_checks(root: &Path, policy: &Path, more: &[HealthCheck]) -> Result<Vec<CheckSeen>, ChecksError> {
    let etc = policy.parent().unwrap_or(Path::new("/"));
    let scratch = Scratch::new()?;
    let prober = Prober::new(root, etc, &scratch.0);
    let watched = prober.watch(more).map_err(ChecksError::Refused)?;
    let seen = |watched: &Watched| {
        let seen = prober.look(watched);
        CheckSeen {
            name: watched.check.name.clone(),
            text: watched.check.to_string(),
            holds: seen.holds,
            evidence: seen.evidence,
            source: watched.origin.as_str().to_owned(),
        }
    };
    Ok(watched.iter().map(seen).collect())
}

/// A folder that nobody else can enter, for a moment.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, DiskError> {
        let path = std::env::temp_dir().join(format!("fettle-checks-{}", std::process::id()));
        files::remove(&path)?;
        // Not recursive: a folder or link that somebody put there is an error.
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| DiskError::io("create", &path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = files::remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_and_given_checks_are_seen_and_nothing_is_left() {
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("checks.toml"), "checks = [\"disk=/,at-least=1K\"]").unwrap();
        let policy = etc.path().join("policy.toml");
        let look = |text: &str| look_at_checks(Path::new("/"), &policy, &[text.parse().unwrap()]);
        let seen = look("process=/no/such/daemon").unwrap();
        assert_eq!((seen[0].holds, seen[0].source.as_str()), (true, "checks.toml of the host"));
        assert_eq!((seen[1].holds, seen[1].text.as_str()), (false, "process=/no/such/daemon"));
        assert!(look("command=none").unwrap_err().to_string().contains("defines no command `none`"));
        assert!(!std::env::temp_dir().join(format!("fettle-checks-{}", std::process::id())).exists());
    }
}
