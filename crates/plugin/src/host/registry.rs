//! The administrator's list of foreign plug-ins (`plugins.toml`): which file, of which digest, is what. What is
//! not listed, is of another digest, or may be written by others is not started.

use super::{Isolation, Launch, Limits, fail, readers_are_nobody};
use crate::digest::{Hasher, is_sha256};
use crate::{ErrorKind, PluginError};
use serde::Deserialize;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Longest list that is read, in bytes.
const LIST: u64 = 1 << 20;
/// Largest executable.
const EXECUTABLE: u64 = 512 << 20;
/// Processes of a provider at once: what builds packages may start many.
const PROVIDER_PROCESSES: usize = 4096;
/// Most plug-ins of one list.
const MOST: usize = 100;

/// What a listed plug-in is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KindOf {
    /// Read by the server.
    Feed,
    /// Acts on a host, for the agent.
    Provider,
}

impl std::fmt::Display for KindOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            KindOf::Feed => "feed",
            KindOf::Provider => "provider",
        })
    }
}

/// One plug-in of the list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name, as it says itself.
    pub name: String,
    /// What it is.
    pub kind: KindOf,
    /// The executable, directly in one of the folders.
    pub path: PathBuf,
    /// Lowercase hex sha-256 of that file.
    pub sha256: String,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// The folders that executables may lie in.
    #[serde(default)]
    pub folders: Vec<PathBuf>,
    /// The plug-ins.
    #[serde(default, rename = "plugin")]
    pub plugins: Vec<Listed>,
}

/// Why the list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be read.
    #[error("cannot read {}: {cause}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Others may write it.
    #[error("{0}")]
    Unsafe(String),
    /// It is not of the right form.
    #[error("{}: {message}", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl Registry {
    /// Reads the list. Where there is none, there are no foreign plug-ins.
    pub fn load(path: &Path) -> Result<Self, RegistryError> {
        let cannot = |cause| RegistryError::Read { path: path.to_owned(), cause };
        let form = |message: String| RegistryError::Form { path: path.to_owned(), message };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(cannot)?,
        };
        nobody_else_writes(path).map_err(RegistryError::Unsafe)?;
        let mut text = String::new();
        file.take(LIST + 1).read_to_string(&mut text).map_err(cannot)?;
        if text.len() as u64 > LIST {
            return Err(form(format!("longer than {LIST} bytes")));
        }
        let registry: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text.bytes().take(span.start).filter(|b| *b == b'\n').count()) + 1;
            form(format!("line {line}: {}", error.message()))
        })?;
        registry.check().map_err(form)?;
        Ok(registry)
    }

    fn check(&self) -> Result<(), String> {
        if self.plugins.len() > MOST {
            return Err(format!("{} plug-ins, more than {MOST}", self.plugins.len()));
        }
        for folder in &self.folders {
            if !folder.is_absolute() {
                return Err(format!("the folder {} is not absolute", folder.display()));
            }
        }
        for (index, listed) in self.plugins.iter().enumerate() {
            let Listed { name, path, sha256, .. } = listed;
            if !is_sha256(sha256) {
                return Err(format!("plug-in {name}: `{sha256}` is no sha-256 (64 lowercase hexadecimal digits)"));
            }
            if !path.is_absolute() || path.parent().is_none_or(|parent| !self.folders.iter().any(|it| it == parent)) {
                let message = format!(
                    "plug-in {name}: {} does not lie directly in one of `folders`; plug-ins are started from there only",
                    path.display()
                );
                return Err(message);
            }
            if self.plugins.iter().take(index).any(|other| other.name == *name) {
                return Err(format!("plug-in {name} is listed twice"));
            }
        }
        Ok(())
    }

    /// The plug-ins of one kind.
    pub fn of_kind(&self, kind: KindOf) -> impl Iterator<Item = &Listed> {
        self.plugins.iter().filter(move |listed| listed.kind == kind)
    }
}

impl Listed {
    /// How it is started. Its file is looked at now, and again before every start.
    pub fn launch(&self, scratch: &Path) -> Result<Launch, PluginError> {
        look_again(&self.path, &self.sha256)?;
        let isolation = match self.kind {
            KindOf::Feed => Isolation::Reader,
            KindOf::Provider => Isolation::Host,
        };
        if isolation == Isolation::Reader && readers_are_nobody() {
            everybody_reads(&self.path)?;
        }
        let processes = if isolation == Isolation::Host { PROVIDER_PROCESSES } else { Limits::default().processes };
        Ok(Launch {
            name: self.name.clone(),
            program: self.path.clone(),
            arguments: Vec::new(),
            sha256: Some(self.sha256.clone()),
            scratch: scratch.to_owned(),
            isolation,
            limits: Limits { processes, ..Limits::default() },
        })
    }
}

/// Refuses an executable that others may write, or that is not the listed one.
pub(super) fn look_again(path: &Path, sha256: &str) -> Result<(), PluginError> {
    let shown = path.display();
    let denied = |message: String| fail(ErrorKind::Denied, message);
    nobody_else_writes(path).map_err(denied)?;
    let cannot = |error: io::Error| denied(format!("cannot read the plug-in {shown}: {error}"));
    let file = File::open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(denied(format!("the plug-in {shown} is no executable file")).advise("chmod 0755 makes it one."));
    }
    if meta.len() > EXECUTABLE {
        return Err(denied(format!("the plug-in {shown} has more than {} MiB", EXECUTABLE >> 20)));
    }
    let found = digest_of(file).map_err(cannot)?;
    if found != sha256 {
        let message = format!("the plug-in {shown} has the sha-256 {found}, plugins.toml lists {sha256}: not started");
        return Err(denied(message).advise(
            "If you changed the plug-in on purpose, list its new sha-256 (`sha256sum FILE`); if not, somebody else did.",
        ));
    }
    Ok(())
}

fn digest_of(mut file: File) -> io::Result<String> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// Whether the file and all folders above it can be changed by root and the host's own user only. Links are
/// followed first: what is judged is where the file really lies.
fn nobody_else_writes(path: &Path) -> Result<(), String> {
    let real = fs::canonicalize(path).map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
    for (height, place) in real.ancestors().enumerate() {
        let shown = place.display();
        let meta = fs::metadata(place).map_err(|error| format!("cannot look at {shown}: {error}"))?;
        let user = rustix::process::geteuid().as_raw();
        if meta.uid() != 0 && meta.uid() != user {
            return Err(format!(
                "{shown} belongs to user {}, who could change the plug-ins: it must belong to root{}",
                meta.uid(),
                if user == 0 { String::new() } else { format!(" or user {user}") }
            ));
        }
        // In a folder like /tmp, the sticky bit keeps others from what is not theirs; a plug-in's own folder is none.
        let sticky = height > 1 && meta.permissions().mode() & 0o1000 != 0;
        if others_write(&meta) && !sticky {
            return Err(format!("{shown} may be written by others (mode {:04o}): chmod go-w {shown}", mode(&meta)));
        }
    }
    Ok(())
}

fn mode(meta: &Metadata) -> u32 {
    meta.permissions().mode() & 0o7777
}

fn others_write(meta: &Metadata) -> bool {
    mode(meta) & 0o022 != 0
}

/// Feeds run as nobody where the host is root.
fn everybody_reads(path: &Path) -> Result<(), PluginError> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    for place in real.ancestors() {
        let wanted = if place == real { 0o005 } else { 0o001 };
        let meta = fs::metadata(place)
            .map_err(|error| fail(ErrorKind::Denied, format!("cannot look at {}: {error}", place.display())))?;
        if mode(&meta) & wanted != wanted {
            let message = format!(
                "feeds run as nobody, who may not reach {}: {} is closed to others",
                path.display(),
                place.display()
            );
            return Err(fail(ErrorKind::Denied, message)
                .advise("Put the plug-in into a folder that everybody may read, such as /usr/local/lib/fettle."));
        }
    }
    Ok(())
}
