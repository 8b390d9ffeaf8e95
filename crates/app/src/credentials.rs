//! What `fettle login` keeps: one sign-in a server, with the authority's fingerprint and an API token, and
//! which of them is used where none is named. Mode 0600, written whole or not at all.

use crate::environment;
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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

/// All that is kept.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Server that is meant where none is named: the one signed in to last.
    current: String,
    /// One for each server.
    sign_in: Vec<Credentials>,
}

impl Kept {
    fn of(&self, server: &str) -> Option<&Credentials> {
        self.sign_in.iter().find(|kept| kept.server == server)
    }

    fn servers(&self) -> String {
        self.sign_in.iter().map(|kept| kept.server.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The one that is meant.
    fn choose(&self, named: Option<&str>) -> Result<Credentials, Failure> {
        let wanted = named.unwrap_or(&self.current);
        match self.of(wanted) {
            Some(found) => Ok(found.clone()),
            None if self.sign_in.is_empty() => Err(Failure::new(3, "nobody is signed in")
                .advise("Sign in: fettle login --server https://HOST:PORT --user NAME")),
            None => Err(Failure::new(3, format!("nobody is signed in at {wanted}")).advise(format!(
                "Sign in (fettle login --server {wanted} --user NAME), or name one of the kept sign-ins with --server: {}",
                self.servers()
            ))),
        }
    }

    fn keep(&mut self, fresh: Credentials) {
        self.current.clone_from(&fresh.server);
        self.sign_in.retain(|kept| kept.server != fresh.server);
        self.sign_in.push(fresh);
    }

    /// Without this one; where none is named, the one signed in to last of the others is meant then.
    fn drop(&mut self, server: &str) {
        self.sign_in.retain(|kept| kept.server != server);
        if self.current == server {
            self.current = self.sign_in.last().map(|kept| kept.server.clone()).unwrap_or_default();
        }
    }
}

/// What `--server` said, for the whole run.
static NAMED: OnceLock<String> = OnceLock::new();

/// Notes what `--server` said; once, before anything asks for a sign-in.
pub fn name(server: &str) {
    // It is called once; a second call would change nothing.
    let _ = NAMED.set(address(server));
}

/// The server that was named: `--server`, else $FETTLE_SERVER.
pub fn named() -> Option<String> {
    NAMED.get().cloned().or_else(|| environment::variable("FETTLE_SERVER").map(|server| address(&server)))
}

/// `HOST:PORT` and `https://HOST:PORT/` mean the same server.
fn address(text: &str) -> String {
    let text = text.trim().trim_end_matches('/');
    if text.contains("://") { text.to_owned() } else { format!("https://{text}") }
}

fn path() -> Result<PathBuf, Failure> {
    environment::config_home()
        .map(|folder| folder.join("credentials.toml"))
        .ok_or_else(|| Failure::failed("neither HOME nor XDG_CONFIG_HOME is set: there is no place to keep a sign-in"))
}

/// The sign-in that is meant. $FETTLE_SERVER, $FETTLE_AUTHORITY and $FETTLE_TOKEN together take the
/// place of the kept ones (for scripts), unless `--server` names another server.
pub fn load() -> Result<Credentials, Failure> {
    let named = named();
    let from_environment = (
        environment::variable("FETTLE_SERVER").map(|server| address(&server)),
        environment::variable("FETTLE_AUTHORITY"),
        environment::variable("FETTLE_TOKEN"),
    );
    if let (Some(server), Some(authority), Some(token)) = from_environment
        && named.as_ref() == Some(&server)
    {
        return Ok(Credentials { server, user: String::new(), authority, token, token_id: String::new() });
    }
    read(&path()?)?.choose(named.as_deref())
}

/// Servers beside this one that a sign-in is kept for.
pub fn others(server: &str) -> Vec<String> {
    let kept = path().and_then(|path| read(&path)).unwrap_or_default();
    kept.sign_in.into_iter().map(|kept| kept.server).filter(|other| other != server).collect()
}

fn read(path: &Path) -> Result<Kept, Failure> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Kept::default()),
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
            .advise(format!("Remove it and sign in again: rm {}; fettle login", path.display()))
    })
}

/// Keeps a sign-in, in the place of an earlier one to the same server.
pub fn save(credentials: &Credentials) -> Result<PathBuf, Failure> {
    let path = path()?;
    let mut kept = read(&path)?;
    kept.keep(credentials.clone());
    write(&path, &kept)?;
    Ok(path)
}

fn write(path: &Path, kept: &Kept) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("cannot write {shown}: {error}"));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    let text = toml::to_string(kept).map_err(|error| failed(&error))?;
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

/// Forgets the sign-in to a server.
pub fn forget(server: &str) -> Result<(), Failure> {
    let path = path()?;
    let mut kept = read(&path)?;
    kept.drop(server);
    if !kept.sign_in.is_empty() {
        return write(&path, &kept);
    }
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

    fn of(server: &str) -> Credentials {
        Credentials {
            server: server.into(),
            user: "o'br\"ien\u{7f}".into(),
            authority: "00".repeat(32),
            token: format!("secret of {server}"),
            token_id: "token_1".into(),
        }
    }

    #[test]
    fn a_sign_in_is_kept_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fettle/credentials.toml");
        let nobody = |kept: Kept| kept.choose(None).err().unwrap();
        assert_eq!(nobody(read(&path).unwrap_or_default()).code, 3);
        let mut kept = Kept::default();
        kept.keep(of("https://localhost:8443"));
        write(&path, &kept).unwrap();
        write(&path, &kept).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = read(&path).and_then(|kept| kept.choose(None));
        assert!(again.is_ok_and(|read| read == of("https://localhost:8443")));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = read(&path).err().unwrap();
        assert_eq!(refused.code, 3);
        assert!(refused.what.contains("can be read by others") && refused.advice.contains("chmod 600"), "{refused}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "server = 1").unwrap();
        assert!(read(&path).err().unwrap().what.contains("is damaged"));
    }

    #[test]
    fn one_of_several_sign_ins_is_chosen_by_its_server() {
        let mut kept = Kept::default();
        kept.keep(of("https://a:8443"));
        kept.keep(of("https://b:8443"));
        let chosen = |kept: &Kept, named: Option<&str>| kept.choose(named).map(|found| found.server);
        assert_eq!(chosen(&kept, None).as_deref(), Ok("https://b:8443"), "the last one");
        assert_eq!(chosen(&kept, Some(&address("a:8443/"))).as_deref(), Ok("https://a:8443"));
        let refused = chosen(&kept, Some("https://c:1")).unwrap_err();
        assert_eq!((refused.code, refused.what.as_str()), (3, "nobody is signed in at https://c:1"));
        assert!(refused.advice.ends_with("https://a:8443, https://b:8443"), "{refused}");
        // Another sign-in to the same server takes the place of the former.
        kept.keep(Credentials { token: "newer".into(), ..of("https://a:8443") });
        assert_eq!((kept.sign_in.len(), kept.choose(None).map(|found| found.token)), (2, Ok("newer".into())));
        kept.drop("https://a:8443");
        assert_eq!(chosen(&kept, None).as_deref(), Ok("https://b:8443"));
        kept.drop("https://b:8443");
        assert!(chosen(&kept, None).is_err() && kept.current.is_empty());
    }
}
