//! Fixtures of a plug-in, in one folder: for a feed `NAME` with `NAME.expected.json`, for a provider `case.json`
//! (the job) and `root/` (the scratch root it is tried in, copied before).

use super::{Content, FeedCase, ProviderCase};
use crate::scratch::Scratch;
use fettle_domain::plan::Job;
use serde::Deserialize;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

const EXPECTED: &str = ".expected.json";

/// What a plug-in is tried with.
#[derive(Debug, Clone, Default)]
pub struct Fixtures {
    /// Documents of a feed.
    pub feed: Vec<FeedCase>,
    /// A root and a job for a provider.
    pub provider: Option<ProviderCase>,
}

#[derive(Deserialize)]
struct CaseFile {
    job: Job,
}

impl Fixtures {
    /// Reads a folder. A root in it is copied to a scratch folder, where the provider may do what it wants.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let mut fixtures = Self::default();
        let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "case.json" {
                let CaseFile { job } = parse(&entry.path())?;
                let scratch = Scratch::new(&std::env::temp_dir())?;
                let (root, deployment) = (scratch.path().join("root"), scratch.path().join("deployment"));
                copy(&folder.join("root"), &root)?;
                let kept = Some(Arc::new(scratch));
                fixtures.provider = Some(ProviderCase { root, folder: deployment, job, kept });
            } else if let Some(document) = name.strip_suffix(EXPECTED) {
                let bytes = fs::read(folder.join(document))?;
                let expected: Content = parse(&entry.path())?;
                fixtures.feed.push(FeedCase { name: document.to_owned(), bytes, expected });
            }
        }
        if fixtures.feed.is_empty() && fixtures.provider.is_none() {
            let message = format!("{} holds neither case.json nor a NAME{EXPECTED}", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        Ok(fixtures)
    }
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))
}

/// Copies a folder with modes and links.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
