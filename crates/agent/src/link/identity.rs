//! Who this host is to its server. All parts stand in one folder that appears, or is exchanged, in
//! one step: there is never half an identity.

use crate::disk::StateDir;
use crate::disk::files::{self, DiskError};
use crate::disk::state::{self, StateError};
use fettle_domain::{HostId, Timestamp};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Cap of each file of the folder.
const LONGEST: u64 = 1 << 20;

/// The identity of an enrolled host. The key is left out of `Debug`.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) about: About,
    /// Client certificate, PEM.
    pub(crate) certificate: String,
    /// The server's authority, PEM.
    pub(crate) authority: String,
    /// Private key, PEM. Never leaves this host, is never logged.
    pub(crate) key: String,
}

/// The part that is no PEM.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct About {
    /// Form of the folder.
    pub(crate) version: u32,
    pub(crate) host: HostId,
    /// `https://NAME:PORT` without path.
    pub(crate) server: String,
    pub(crate) enrolled_at: Timestamp,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads it; `None` when this host is not enrolled.
    pub(crate) fn load(state: &StateDir) -> Result<Option<Self>, StateError> {
        Self::load_from(&state.identity())
    }

    /// Reads the one that stands in this folder.
    pub(crate) fn load_from(folder: &Path) -> Result<Option<Self>, StateError> {
        let folder = folder.to_owned();
        let Some(about) = state::read_json::<About>(&folder.join("about.json"), LONGEST)? else {
            return Ok(None);
        };
        if about.version > 1 {
            return Err(StateError::Unreadable {
                path: folder,
                why: format!("it is version {} of its form, this agent knows 1", about.version),
            });
        }
        let text = |name: &str| -> Result<String, StateError> {
            let path = folder.join(name);
            let bytes = files::read(&path, LONGEST)?.ok_or_else(|| StateError::Unreadable {
                path: path.clone(),
                why: "it is missing; enrol again with --force".to_owned(),
            })?;
            String::from_utf8(bytes)
                .map_err(|_| StateError::Unreadable { path: path.clone(), why: "it is not text".to_owned() })
        };
        Ok(Some(Self {
            certificate: text("certificate.pem")?,
            authority: text("authority.pem")?,
            key: text("key.pem")?,
            about,
        }))
    }

    /// Writes it, in place of an earlier one.
    pub(crate) fn store(&self, state: &StateDir) -> Result<(), StateError> {
        self.store_in(&state.identity())
    }

    /// Writes it into this folder, which appears or is exchanged in one step.
    pub(crate) fn store_in(&self, folder: &Path) -> Result<(), StateError> {
        let folder = folder.to_owned();
        let scratch = files::beside(&folder, ".new");
        files::remove(&scratch)?;
        files::make_folder(&scratch, 0o700)?;
        files::replace(&scratch.join("key.pem"), self.key.as_bytes(), 0o600)?;
        files::replace(&scratch.join("certificate.pem"), self.certificate.as_bytes(), 0o600)?;
        files::replace(&scratch.join("authority.pem"), self.authority.as_bytes(), 0o600)?;
        state::write_json(&scratch.join("about.json"), &self.about)?;
        let flags = if folder.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, &scratch, CWD, &folder, flags)
            .map_err(|error| DiskError::io("put in place", &folder, error.into()))?;
        files::sync_parent(&folder)?;
        Ok(files::remove(&scratch)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn identity(host: u64) -> Identity {
        Identity {
            about: About {
                version: 1,
                host: HostId::new(host, [0; 10]),
                server: "https://patch.example:8443".to_owned(),
                enrolled_at: Timestamp::from_unix_millis(0),
            },
            certificate: "c".to_owned(),
            authority: "a".to_owned(),
            key: "SECRET".to_owned(),
        }
    }

    #[test]
    fn is_stored_whole_replaced_whole_and_the_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        assert!(Identity::load(&state).unwrap().is_none());
        for host in [1, 2] {
            identity(host).store(&state).unwrap();
            let read = Identity::load(&state).unwrap().unwrap();
            assert_eq!(read.about.host, HostId::new(host, [0; 10]));
            assert_eq!(read.key, "SECRET");
            assert!(!format!("{read:?}").contains("SECRET"));
        }
        let mode = std::fs::metadata(state.identity().join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!state.network().join("identity.new").exists(), "the former identity stays nowhere");
    }
}
