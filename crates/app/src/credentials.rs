//! What `fettle login` keeps: server, authority's fingerprint, API token. Mode 0600, written whole or not at all.

use crate::environment;
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A kept sign-in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// `https://HOST:PORT`.
    pub server: String,
    /// User name.
    pub user: String,
    /// sha-256 of the authority's certificate, lowercase hex.
    pub authority: String,
    /// API token.
    pub token: String,
    /// Its id, to revoke it.
    pub token_id: String,
}

fn path() -> Result<PathBuf, Failure> {
    environment::config_home()
        .map(|folder| folder.join("credentials.toml"))
        .ok_or_else(|| Failure::failed("neither HOME nor XDG_CONFIG_HOME is set: there is no place to keep a sign-in"))
}

/// The kept sign-in. $FETTLE_SERVER, $FETTLE_AUTHORITY and $FETTLE_TOKEN together replace it (for scripts).
pub fn load() -> Result<Credentials, Failure> {
    let from_environment = (
        environment::variable("FETTLE_SERVER"),
        environment::variable("FETTLE_AUTHORITY"),
        environment::variable("FETTLE_TOKEN"),
    );
    if let (Some(server), Some(authority), Some(token)) = from_environment {
        return Ok(Credentials { server, user: String::new(), authority, token, token_id: String::new() });
    }
    load_from(&path()?)
}

fn load_from(path: &Path) -> Result<Credentials, Failure> {
    let signed_out = || {
        Failure::new(3, "nobody is signed in").advise("Sign in: fettle login --server https://HOST:PORT --user NAME")
    };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(signed_out()),
        other => other.map_err(|error| Failure::failed(format!("cannot look at {}: {error}", path.display())))?,
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(Failure::new(3, format!("{} can be read by others: it is not used", path.display())).advise(
            format!(
                "chmod 600 {}, and revoke its token if somebody may have seen it (fettle token list)",
                path.display()
            ),
        ));
    }
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| {
        Failure::failed(format!("{} is damaged: {}", path.display(), error.message()))
            .advise("Sign in again: fettle login")
    })
}

/// Keeps a sign-in.
pub fn save(credentials: &Credentials) -> Result<PathBuf, Failure> {
    let path = path()?;
    save_to(&path, credentials)?;
    Ok(path)
}

fn save_to(path: &Path, credentials: &Credentials) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("cannot write {shown}: {error}"));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    let text = toml::to_string(credentials).map_err(|error| failed(&error))?;
    write_private(path, text.as_bytes()).map_err(|error| failed(&error))
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    // A left-over of an earlier, interrupted write may have any mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// Forgets the kept sign-in.
pub fn forget() -> Result<(), Failure> {
    let path = path()?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::failed(format!("cannot remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_kept_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fettle/credentials.toml");
        assert_eq!(load_from(&path).err().unwrap().code, 3);
        let kept = Credentials {
            server: "https://localhost:8443".into(),
            user: "o'br\"ien\u{7f}".into(),
            authority: "00".repeat(32),
            token: "secret".into(),
            token_id: "token_1".into(),
        };
        save_to(&path, &kept).unwrap();
        save_to(&path, &kept).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(load_from(&path).is_ok_and(|read| read == kept));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = load_from(&path).err().unwrap();
        assert_eq!(refused.code, 3);
        assert!(refused.what.contains("can be read by others") && refused.advice.contains("chmod 600"), "{refused}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "server = 1").unwrap();
        assert!(load_from(&path).err().unwrap().what.contains("is damaged"));
    }
}
