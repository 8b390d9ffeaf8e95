//! dpkg's own database: what is installed and how completely, holds, automatic marks, conffiles.
//!
//! Read directly, without a program and without a lock: dpkg replaces the file as a whole, and puts what
//! it is about to do into `updates/` first, which is read over it just as dpkg itself does.

use super::deb822::{Stanza, Stanzas};
use super::rooted::Rooted;
use super::{fail, text};
use fettle_domain::package::{Ecosystem, InstallState, PackageVersion};
use fettle_plugin::{ErrorKind, PluginError};
use ring::digest::{SHA256, digest};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader};

const STATUS: &str = "/var/lib/dpkg/status";
const UPDATES: &str = "/var/lib/dpkg/updates";
const EXTENDED: &str = "/var/lib/apt/extended_states";
/// More packages than any archive has: beyond it, the database is not one.
const PACKAGES_CAP: usize = 500_000;

/// One package dpkg knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// What it is.
    pub package: PackageVersion,
    /// How completely it is installed; `None` when only its configuration files or its name are left.
    pub state: Option<InstallState>,
    /// Removed, its configuration files are left.
    pub residual: bool,
    /// On hold.
    pub held: bool,
    /// Came as a dependency only.
    pub automatic: bool,
    /// Its configuration files and the MD5 of each as packaged.
    pub conffiles: Vec<Conffile>,
    /// Disk space as the package says, in KiB.
    pub installed_kib: u64,
}

/// One configuration file as the package brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conffile {
    /// Absolute path inside the root.
    pub path: String,
    /// MD5 as packaged (or `newconffile`).
    pub md5: String,
    /// No longer part of the package.
    pub obsolete: bool,
}

impl Entry {
    /// Name.
    pub fn name(&self) -> &str {
        &self.package.name
    }

    /// Its name as arguments want it: with the architecture when that is a foreign one.
    pub fn argument(&self, native: &str) -> String {
        argument(&self.package.name, &self.package.architecture, native)
    }
}

/// A package's name as arguments want it.
pub(super) fn argument(name: &str, architecture: &str, native: &str) -> String {
    if architecture == native || architecture == "all" || architecture.is_empty() {
        name.to_owned()
    } else {
        format!("{name}:{architecture}")
    }
}

/// The whole database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Database {
    entries: BTreeMap<(String, String), Entry>,
    /// The architecture of dpkg itself.
    pub native: String,
    /// dpkg was interrupted: `updates/` holds entries, and apt refuses to work until they are taken in.
    pub journal: bool,
}

impl Database {
    /// Reads it.
    pub fn read(root: &Rooted) -> Result<Self, PluginError> {
        let cannot = |path: &str, error: io::Error| {
            fail(ErrorKind::Failed, format!("cannot read dpkg's database {}{path}: {error}", shown_root(root))).advise(
                "If the file is damaged, dpkg keeps earlier versions as /var/lib/dpkg/status-old and /var/backups/dpkg.status.*",
            )
        };
        let file = match root.open(STATUS) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = format!("{} has no dpkg database ({STATUS})", root.path.display());
                return Err(fail(ErrorKind::Unsupported, message)
                    .advise("The apt provider works on Debian and its derivatives only."));
            }
            Err(error) => return Err(cannot(STATUS, error)),
        };
        let mut database = Database::default();
        database.take(file).map_err(|error| cannot(STATUS, error))?;
        let updates = root.names(UPDATES).map_err(|error| cannot(UPDATES, error))?;
        for name in updates.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
            database.journal = true;
            let path = format!("{UPDATES}/{name}");
            // The last one may be cut by the very interruption: dpkg will tell, the rest stands.
            if let Err(error) = root.open(&path).and_then(|file| database.take(file)) {
                tracing::debug!(%path, %error, "an entry of dpkg's journal cannot be read");
            }
        }
        database.native = database.native_architecture(root);
        let automatic = read_automatic(root).map_err(|error| cannot(EXTENDED, error))?;
        let native = database.native.clone();
        for entry in database.entries.values_mut() {
            let architecture = &entry.package.architecture;
            let architecture = if architecture == "all" { &native } else { architecture };
            entry.automatic = automatic.contains(&(entry.package.name.clone(), architecture.clone()));
        }
        Ok(database)
    }

    fn take(&mut self, file: File) -> io::Result<()> {
        let mut stanzas = Stanzas::new(BufReader::with_capacity(64 * 1024, file));
        while let Some(stanza) = stanzas.next()? {
            if let Some(entry) = entry(&stanza) {
                let key = (entry.package.name.clone(), entry.package.architecture.clone());
                self.entries.insert(key, entry);
            }
            if self.entries.len() > PACKAGES_CAP {
                return Err(io::Error::other(format!("it has more than {PACKAGES_CAP} packages")));
            }
        }
        Ok(())
    }

    fn native_architecture(&self, root: &Rooted) -> String {
        let file = root.read("/var/lib/dpkg/arch", 4096).ok().flatten().unwrap_or_default();
        let first = String::from_utf8_lossy(&file).lines().next().unwrap_or_default().trim().to_owned();
        if text::is_architecture(&first) {
            return first;
        }
        let dpkg = self.entries.values().find(|entry| entry.package.name == "dpkg" && entry.state.is_some());
        dpkg.map(|entry| entry.package.architecture.clone()).unwrap_or_default()
    }

    /// All that is installed, in whatever state, sorted by name and architecture.
    pub fn installed(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.state.is_some())
    }

    /// Removed packages whose configuration files are left.
    pub fn residual(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.residual)
    }

    /// Everything installed under this name, one entry an architecture.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Entry> {
        let name = name.to_owned();
        self.entries
            .range((name.clone(), String::new())..)
            .take_while(move |((key, _), _)| *key == name)
            .map(|(_, entry)| entry)
            .filter(|entry| entry.state.is_some())
    }

    /// The installed package of this name and architecture; `all` and the native one stand for each
    /// other, because a package may change from one to the other between versions.
    pub fn find(&self, name: &str, architecture: &str) -> Option<&Entry> {
        let here = |arch: &str| arch == "all" || arch == self.native;
        self.named(name).find(|entry| {
            let found = entry.package.architecture.as_str();
            found == architecture || (here(found) && here(architecture))
        })
    }

    /// Packages whose installation is not complete.
    pub fn unfinished(&self) -> impl Iterator<Item = &Entry> {
        self.installed().filter(|entry| entry.state != Some(InstallState::Installed))
    }

    /// Lowercase hex sha-256 over sorted `name\tarchitecture\tversion\tstate` lines.
    pub fn digest(&self) -> String {
        let mut text = String::new();
        for entry in self.installed() {
            let package = &entry.package;
            for part in [&package.name, &package.architecture, &package.version] {
                text.push_str(part);
                text.push('\t');
            }
            text.push_str(state_word(entry.state));
            text.push('\n');
        }
        super::files::hex(digest(&SHA256, text.as_bytes()).as_ref())
    }
}

/// A state in one stable word.
pub(super) fn state_word(state: Option<InstallState>) -> &'static str {
    match state {
        Some(InstallState::Installed) => "installed",
        Some(InstallState::Unpacked) => "unpacked",
        Some(InstallState::HalfConfigured) => "half-configured",
        Some(InstallState::HalfInstalled) => "half-installed",
        None => "not-installed",
    }
}

/// The path of the root before a path in it, for messages.
pub(super) fn shown_root(root: &Rooted) -> String {
    if root.is_host() { String::new() } else { root.path.display().to_string() }
}

fn entry(stanza: &Stanza) -> Option<Entry> {
    let (name, version) = (stanza.get("Package")?, stanza.text("Version"));
    let architecture = stanza.text("Architecture");
    let mut words = stanza.text("Status").split_ascii_whitespace();
    let (want, flag, state) = (words.next()?, words.next()?, words.next()?);
    let state = match state {
        "not-installed" | "config-files" => None,
        // A package that must be reinstalled is not whole, whatever else is said of it.
        _ if flag == "reinstreq" => Some(InstallState::HalfInstalled),
        // Triggers that are pending or awaited are no failure.
        "installed" | "triggers-pending" | "triggers-awaited" => Some(InstallState::Installed),
        "unpacked" => Some(InstallState::Unpacked),
        "half-configured" => Some(InstallState::HalfConfigured),
        _ => Some(InstallState::HalfInstalled),
    };
    if !text::is_name(name) || (state.is_some() && (version.is_empty() || !text::is_architecture(architecture))) {
        return None;
    }
    let (source, source_version) = source_of(stanza);
    Some(Entry {
        package: PackageVersion {
            ecosystem: Ecosystem::Debian,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            source,
            source_version,
        },
        residual: words_end(stanza, "config-files"),
        state,
        held: want == "hold",
        automatic: false,
        conffiles: conffiles(stanza.text("Conffiles")),
        installed_kib: stanza.text("Installed-Size").parse().unwrap_or(0),
    })
}

fn words_end(stanza: &Stanza, word: &str) -> bool {
    stanza.text("Status").split_ascii_whitespace().next_back() == Some(word)
}

/// Source package and its version: the field `Source` where it differs from the binary package's own.
///
/// Debian builds its signed kernels from source packages of their own (`linux-signed-amd64`, version
/// `6.1.1+2`) out of the binaries of `linux`; vulnerability data speaks of `linux` only, with the
/// version that the signed binary packages carry.
pub(super) fn source_of(stanza: &Stanza) -> (String, String) {
    let (name, version) = (stanza.text("Package"), stanza.text("Version"));
    let (source, source_version) = match stanza.text("Source").split_once('(') {
        Some((source, rest)) => (source.trim(), rest.trim_end_matches(')').trim()),
        None => (stanza.text("Source").trim(), ""),
    };
    let source = if source.is_empty() { name } else { source };
    if source == "linux-signed" || source.starts_with("linux-signed-") {
        return ("linux".to_owned(), version.to_owned());
    }
    (source.to_owned(), if source_version.is_empty() { version } else { source_version }.to_owned())
}

fn conffiles(field: &str) -> Vec<Conffile> {
    field.lines().filter_map(conffile).collect()
}

/// A line ` /etc/path MD5 [obsolete] [remove-on-upgrade]`; the path may hold spaces.
fn conffile(line: &str) -> Option<Conffile> {
    let mut rest = line.trim();
    let mut obsolete = false;
    while let Some((before, word)) = rest.rsplit_once(' ') {
        match word {
            "obsolete" => obsolete = true,
            "remove-on-upgrade" => {}
            md5 => {
                let path = before.trim_end();
                return path.starts_with('/').then(|| Conffile {
                    path: path.to_owned(),
                    md5: md5.to_owned(),
                    obsolete,
                });
            }
        }
        rest = before;
    }
    None
}

/// Names and architectures that apt marked as automatically installed.
fn read_automatic(root: &Rooted) -> io::Result<HashSet<(String, String)>> {
    let mut marked = HashSet::new();
    let file = match root.open(EXTENDED) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(marked),
        Err(error) => return Err(error),
    };
    let mut stanzas = Stanzas::new(BufReader::new(file));
    while let Some(stanza) = stanzas.next()? {
        if stanza.text("Auto-Installed") == "1" && marked.len() < PACKAGES_CAP {
            marked.insert((stanza.text("Package").to_owned(), stanza.text("Architecture").to_owned()));
        }
    }
    Ok(marked)
}

/// The stanza of one package as dpkg keeps it.
pub(super) fn stanza_of(root: &Rooted, name: &str, architecture: &str) -> io::Result<Option<Stanza>> {
    let mut stanzas = Stanzas::new(BufReader::new(root.open(STATUS)?));
    while let Some(stanza) = stanzas.next_of(|found| found == name)? {
        if stanza.text("Architecture") == architecture {
            return Ok(Some(stanza));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// A root with the given status file; the folder is removed at the end.
    fn root(status: &str) -> (tempfile::TempDir, Rooted) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("var/lib/dpkg/updates")).unwrap();
        std::fs::create_dir_all(folder.path().join("var/lib/apt")).unwrap();
        std::fs::write(folder.path().join("var/lib/dpkg/status"), status).unwrap();
        let rooted = Rooted::new(folder.path()).unwrap();
        (folder, rooted)
    }

    fn stanza(name: &str, version: &str, status: &str, more: &str) -> String {
        format!("Package: {name}\nStatus: {status}\nArchitecture: amd64\nVersion: {version}\n{more}\n")
    }

    #[test]
    fn reads_states_sources_holds_and_marks() {
        let mut text = stanza("dpkg", "1.21", "install ok installed", "");
        text +=
            &stanza("libssl3", "3.0.1-1+b1", "hold ok installed", "Source: openssl (3.0.1-1)\nInstalled-Size: 6000\n");
        text += &stanza("failed", "1", "install ok half-configured", "");
        text += &stanza("triggered", "1", "install ok triggers-pending", "");
        text += &stanza("again", "1", "install reinstreq installed", "");
        text += &stanza("gone", "1", "deinstall ok config-files", "");
        text += &stanza(
            "linux-image-6.1.0-40-amd64",
            "6.1.153-1",
            "install ok installed",
            "Source: linux-signed-amd64 (6.1.153+1)\n",
        );
        text += &stanza("conf", "1", "install ok installed", "Conffiles:\n /etc/a b.cfg 0cc1\n /etc/old 11 obsolete\n");
        let (folder, rooted) = root(&text);
        let marks = "Package: libssl3\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: conf\nArchitecture: amd64\nAuto-Installed: 0\n";
        std::fs::write(folder.path().join("var/lib/apt/extended_states"), marks).unwrap();
        let database = Database::read(&rooted).unwrap();
        let mut seen = String::new();
        for entry in database.installed() {
            let p = &entry.package;
            let marks =
                format!("{}{}", if entry.held { " held" } else { "" }, if entry.automatic { " auto" } else { "" });
            writeln!(
                seen,
                "{} {} <{} {}> {}{marks}",
                p.name,
                p.version,
                p.source,
                p.source_version,
                state_word(entry.state)
            )
            .unwrap();
        }
        insta::assert_snapshot!(seen, @r"
        again 1 <again 1> half-installed
        conf 1 <conf 1> installed
        dpkg 1.21 <dpkg 1.21> installed
        failed 1 <failed 1> half-configured
        libssl3 3.0.1-1+b1 <openssl 3.0.1-1> installed held auto
        linux-image-6.1.0-40-amd64 6.1.153-1 <linux 6.1.153-1> installed
        triggered 1 <triggered 1> installed
        ");
        assert_eq!(database.native, "amd64");
        assert_eq!(database.residual().map(Entry::name).collect::<Vec<_>>(), ["gone"]);
        let conffiles = &database.find("conf", "all").unwrap().conffiles;
        assert_eq!((conffiles[0].path.as_str(), conffiles[0].obsolete), ("/etc/a b.cfg", false));
        assert_eq!((conffiles[1].path.as_str(), conffiles[1].obsolete), ("/etc/old", true));
        assert!(!database.journal);
    }

    #[test]
    fn an_interrupted_run_stands_over_the_status_file() {
        let (folder, rooted) =
            root(&(stanza("dpkg", "1", "install ok installed", "") + &stanza("a", "1", "install ok installed", "")));
        let before = Database::read(&rooted).unwrap().digest();
        let updates = folder.path().join("var/lib/dpkg/updates");
        std::fs::write(updates.join("0000"), stanza("a", "2", "install ok unpacked", "")).unwrap();
        std::fs::write(updates.join("0001"), stanza("a", "2", "install ok half-configured", "")).unwrap();
        std::fs::write(updates.join("tmp.i"), "rubbish").unwrap();
        let database = Database::read(&rooted).unwrap();
        assert!(database.journal);
        assert_eq!(database.find("a", "amd64").unwrap().state, Some(InstallState::HalfConfigured));
        assert_eq!(database.find("a", "amd64").unwrap().package.version, "2");
        assert_ne!(database.digest(), before);
    }

    #[test]
    fn a_root_without_dpkg_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Database::read(&Rooted::new(folder.path()).unwrap()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains("has no dpkg database"), "{error}");
        let (_folder, rooted) = root("Package: a\nthis is cut");
        assert_eq!(Database::read(&rooted).unwrap_err().kind, ErrorKind::Failed);
    }

    #[test]
    fn three_thousand_packages_are_read_quickly() {
        let text: String = (0..3000)
            .map(|n| {
                stanza(&format!("package-{n}"), "1.0-1", "install ok installed", "Description: one\n two\n three\n")
            })
            .collect();
        let (_folder, rooted) = root(&text);
        let start = std::time::Instant::now();
        assert_eq!(Database::read(&rooted).unwrap().installed().count(), 3000);
        assert!(start.elapsed() < std::time::Duration::from_millis(300), "{:?}", start.elapsed());
    }
}
