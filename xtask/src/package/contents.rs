//! Which files go into the packages, and where.

use super::About;
use super::deb::compress;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Who answers for the packages.
pub(super) const MAINTAINER: &str = "Fettle <packages@fettle.invalid>";
/// One line.
pub(super) const SUMMARY: &str = "patch management with proof and undo: server, agent and command line";
/// Some more.
pub(super) const DESCRIPTION: [&str; 4] = [
    "Fettle knows every machine and what is installed on it, tells which of it has",
    "known vulnerabilities, lets each machine install exactly what a second person",
    "approved, proves the result with a new inventory, and undoes it by itself when",
    "it fails. This package starts nothing: see /usr/share/doc/fettle/install.md.",
];

/// A file or folder, and in which package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Without a leading slash; empty for the root of an archive.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Permissions.
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
    Document,
}

impl Entry {
    pub(super) fn folder(path: &str, mode: u32) -> Self {
        Self { path: path.to_owned(), kind: Kind::Folder, mode, bytes: Vec::new() }
    }

    pub(super) fn file(path: &str, mode: u32, bytes: Vec<u8>) -> Self {
        Self { path: path.to_owned(), kind: Kind::File, mode, bytes }
    }

    fn document(path: &str, bytes: Vec<u8>) -> Self {
        Self { path: path.to_owned(), kind: Kind::Document, mode: 0o644, bytes }
    }

    /// Permissions with the type of the file.
    pub(super) fn full_mode(&self) -> u32 {
        self.mode | if self.kind == Kind::Folder { 0o040_000 } else { 0o100_000 }
    }
}

/// All files; those that lie elsewhere in each kind of package apart.
pub(super) struct Contents {
    common: Vec<Entry>,
    deb: Vec<Entry>,
    rpm: Vec<Entry>,
}

impl Contents {
    /// Files of the `.deb`, with all folders above them.
    pub(super) fn for_deb(&self) -> Result<Vec<Entry>> {
        let files: Vec<Entry> = self.common.iter().chain(&self.deb).cloned().collect();
        let mut folders = BTreeSet::from([String::new()]);
        for file in &files {
            let parts: Vec<&str> = file.path.split('/').collect();
            for length in 1..parts.len() {
                folders.insert(parts.get(..length).unwrap_or_default().join("/"));
            }
        }
        let mut all: Vec<Entry> = folders.iter().map(|path| Entry::folder(path, 0o755)).chain(files).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// Files of the `.rpm`, with the folders that are its own.
    pub(super) fn for_rpm(&self) -> Vec<Entry> {
        let own = ["etc/fettle", "usr/libexec/fettle", "usr/share/doc/fettle", "usr/share/fettle"];
        let folders = own.iter().map(|path| Entry::folder(path, 0o755));
        let mut all: Vec<Entry> = folders.chain(self.common.iter().chain(&self.rpm).cloned()).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }
}

/// A file of `packaging/`.
pub(super) fn asset(root: &Path, name: &str) -> Result<Vec<u8>> {
    read(&root.join("packaging").join(name))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Collects everything; `documented_by` writes man pages and completions.
pub(super) fn collect(root: &Path, program: Vec<u8>, documented_by: &Path, about: &About) -> Result<Contents> {
    let plain = |path: &str, name: &str| Ok::<_, anyhow::Error>(Entry::file(path, 0o644, asset(root, name)?));
    let script = |path: &str, name: &str| Ok::<_, anyhow::Error>(Entry::file(path, 0o755, asset(root, name)?));
    let doc = |path: &str, from: &str| Ok::<_, anyhow::Error>(Entry::document(path, read(&root.join(from))?));
    let mut common = vec![
        Entry::file("usr/bin/fettle", 0o755, program),
        script("usr/libexec/fettle/start-agent", "start-agent")?,
        plain("usr/lib/sysusers.d/fettle.conf", "systemd/sysusers.conf")?,
        plain("usr/lib/tmpfiles.d/fettle.conf", "systemd/tmpfiles.conf")?,
        // No init scripts in place: OpenRC's and rc.d's would be taken for the distribution's own kind.
        script("usr/share/fettle/openrc/fettle-agent", "openrc/fettle-agent")?,
        script("usr/share/fettle/openrc/fettle-server", "openrc/fettle-server")?,
        doc("usr/share/doc/fettle/install.md", "docs/install.md")?,
        doc("usr/share/doc/fettle/configuration.md", "docs/configuration.md")?,
        Entry::document("usr/share/doc/fettle/copyright", asset(root, "copyright")?),
    ];
    common.extend(manuals(documented_by)?);
    common.extend(completions(documented_by)?);
    let unit = |folder: &str, name: &str| plain(&format!("{folder}/systemd/system/{name}"), &format!("systemd/{name}"));
    let deb = vec![
        // Where Debian's helpers look for them until every release has /lib and /usr/lib in one.
        unit("lib", "fettle-agent.service")?,
        unit("lib", "fettle-server.service")?,
        Entry::document("usr/share/doc/fettle/changelog.gz", compress(&debian_changelog(about)?)?),
    ];
    let rpm = vec![
        unit("usr/lib", "fettle-agent.service")?,
        unit("usr/lib", "fettle-server.service")?,
        doc("usr/share/doc/fettle/CHANGELOG.md", "CHANGELOG.md")?,
    ];
    Ok(Contents { common, deb, rpm })
}

/// Debian's form of a changelog has only the release: what changed stands in CHANGELOG.md.
fn debian_changelog(about: &About) -> Result<Vec<u8>> {
    let date = Command::new("date").args(["-u", "-R", "-d", &format!("@{}", about.time)]).output();
    let date = date.context("cannot run date")?.stdout;
    let date = String::from_utf8_lossy(&date).trim().to_owned();
    let text = format!(
        "fettle ({}) unstable; urgency=medium\n\n  * This release; what changed stands in the project's CHANGELOG.md.\n\n -- {MAINTAINER}  {date}\n",
        about.version
    );
    Ok(text.into_bytes())
}

fn manuals(program: &Path) -> Result<Vec<Entry>> {
    let folder = tempfile::tempdir().context("cannot make a scratch folder")?;
    let mut command = Command::new(program);
    command.args(["man", "--dir"]).arg(folder.path());
    said_by(&mut command)?;
    let mut names: Vec<String> = std::fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    anyhow::ensure!(!names.is_empty(), "{} wrote no man pages", program.display());
    let page = |name: &String| {
        let bytes = compress(&read(&folder.path().join(name))?)?;
        Ok(Entry::document(&format!("usr/share/man/man1/{name}.gz"), bytes))
    };
    names.iter().map(page).collect()
}

fn completions(program: &Path) -> Result<Vec<Entry>> {
    let places = [
        ("bash", "usr/share/bash-completion/completions/fettle"),
        ("zsh", "usr/share/zsh/vendor-completions/_fettle"),
        ("fish", "usr/share/fish/vendor_completions.d/fettle.fish"),
    ];
    let one = |(shell, path): &(&str, &str)| {
        let script = said_by(Command::new(program).args(["completions", shell]))?;
        anyhow::ensure!(!script.is_empty(), "{} printed no completions for {shell}", program.display());
        Ok(Entry::file(path, 0o644, script))
    };
    places.iter().map(one).collect()
}

fn said_by(command: &mut Command) -> Result<Vec<u8>> {
    let said = command.output().with_context(|| format!("cannot run {command:?}"))?;
    anyhow::ensure!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
    Ok(said.stdout)
}
