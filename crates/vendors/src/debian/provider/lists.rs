//! What the downloaded indexes offer for the packages that are installed: versions, source versions, origin.
//!
//! Debian's main alone has 63,000 entries in 50 MB, so only the installed names are kept, in memory, and
//! read again only when a list changed or a name is installed that was not asked for before.

use super::deb822::Stanzas;
use super::rooted::Rooted;
use super::status::{Database, source_of};
use super::{fail, text};
use fettle_domain::package::PackageVersion;
use fettle_domain::version::Scheme;
use fettle_plugin::{ErrorKind, PluginError};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

const LISTS: &str = "/var/lib/apt/lists";
/// Decompresses every form apt stores lists in. Used from the machine itself, so that another root needs no programs.
const CAT: &str = "/usr/lib/apt/apt-helper";
/// Most offers of one package name that are kept.
const OFFERS_CAP: usize = 64;

/// One version that a repository offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// Binary package version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// Source package version.
    pub source_version: String,
    /// Which release, in [`Index::releases`].
    release: usize,
}

/// A release of a repository, as its signed Release file describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Release {
    /// `Origin:Suite-or-Codename`.
    pub origin: String,
    /// Whether it is a security archive.
    pub security: bool,
}

/// All that is offered for a set of names.
#[derive(Debug, Default)]
pub(super) struct Index {
    root: PathBuf,
    native: String,
    fingerprint: Vec<(String, u64, i128)>,
    names: HashSet<String>,
    offers: HashMap<String, Vec<Offer>>,
    releases: Vec<Release>,
}

impl Index {
    /// Everything offered for this package's name and architecture, lowest version first; where two
    /// repositories offer one version, a security archive stands for both.
    pub fn of<'a>(&'a self, package: &PackageVersion) -> impl Iterator<Item = (&'a Offer, &'a Release)> + use<'a> {
        let offers = self.offers.get(&package.name).map(Vec::as_slice).unwrap_or_default();
        let wanted = package.architecture.clone();
        let here = |architecture: &str| architecture == "all" || architecture == self.native;
        offers
            .iter()
            .filter(move |offer| offer.architecture == wanted || (here(&wanted) && here(&offer.architecture)))
            .filter_map(|offer| Some((offer, self.releases.get(offer.release)?)))
    }

    /// The release that offers exactly this version.
    pub fn release_of(&self, package: &PackageVersion) -> Option<&Release> {
        self.of(package).find(|(offer, _)| offer.version == package.version).map(|(_, release)| release)
    }
}

/// The last index, kept while nothing it was made from changes.
#[derive(Debug, Default)]
pub(super) struct IndexCache {
    last: Mutex<Option<Arc<Index>>>,
}

impl IndexCache {
    /// The index for everything installed in this root.
    pub fn index(&self, root: &Rooted, database: &Database) -> Result<Arc<Index>, PluginError> {
        let fingerprint = fingerprint(root).map_err(|error| {
            fail(ErrorKind::Failed, format!("cannot read apt's lists in {}{LISTS}: {error}", root.path.display()))
        })?;
        let names: HashSet<String> = database.installed().map(|entry| entry.name().to_owned()).collect();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = last.as_ref()
            && index.root == root.path
            && index.fingerprint == fingerprint
            && names.is_subset(&index.names)
        {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(build(root, &database.native, fingerprint, names));
        *last = Some(Arc::clone(&index));
        Ok(index)
    }
}

/// Name, size and time of every list: what the index depends on.
fn fingerprint(root: &Rooted) -> io::Result<Vec<(String, u64, i128)>> {
    use std::os::unix::fs::MetadataExt;
    let mut files = Vec::new();
    for name in root.names(LISTS)? {
        let interesting = packages_stem(&name).is_some() || name.ends_with("Release");
        if let Some(meta) =
            interesting.then(|| root.real(&format!("{LISTS}/{name}")).and_then(std::fs::metadata).ok()).flatten()
            && meta.is_file()
        {
            let changed = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            files.push((name, meta.len(), changed.wrapping_add(i128::from(meta.ino()) << 64)));
        }
    }
    Ok(files)
}

/// `…_Packages` of a list's name, and whether it is compressed.
fn packages_stem(name: &str) -> Option<(&str, bool)> {
    if name.ends_with("_Packages") {
        return Some((name, false));
    }
    let (stem, extension) = name.rsplit_once('.')?;
    let known = matches!(extension, "lz4" | "gz" | "xz" | "zst" | "bz2" | "lzma");
    (known && stem.ends_with("_Packages")).then_some((stem, true))
}

fn build(root: &Rooted, native: &str, fingerprint: Vec<(String, u64, i128)>, names: HashSet<String>) -> Index {
    let mut index = Index { root: root.path.clone(), native: native.to_owned(), names, ..Index::default() };
    for (name, _, _) in &fingerprint {
        let Some((stem, compressed)) = packages_stem(name) else { continue };
        let release = release_file(&fingerprint, stem)
            .and_then(|file| root.open(&format!("{LISTS}/{file}")).ok())
            .map(|file| read_release(BufReader::new(file), stem))
            .unwrap_or_else(|| Release { origin: site(stem), security: false });
        let number = index.releases.iter().position(|known| *known == release).unwrap_or_else(|| {
            index.releases.push(release);
            index.releases.len() - 1
        });
        // One list that cannot be read takes nothing from the others.
        if let Err(error) = read_list(root, name, compressed, &mut index, number) {
            tracing::warn!(list = %name, %error, "a list of apt cannot be read: what it offers is not known");
        }
    }
    let Index { offers, releases, .. } = &mut index;
    for offers in offers.values_mut() {
        arrange(offers, releases);
    }
    index.fingerprint = fingerprint;
    index
}

/// Sorts by version and leaves one entry a version and architecture.
fn arrange(offers: &mut Vec<Offer>, releases: &[Release]) {
    let security = |offer: &Offer| releases.get(offer.release).is_some_and(|release| release.security);
    offers.sort_by(|a, b| {
        let order = Scheme::Dpkg.compare(&a.version, &b.version).unwrap_or(Ordering::Equal);
        order.then_with(|| a.architecture.cmp(&b.architecture)).then_with(|| security(b).cmp(&security(a)))
    });
    offers.dedup_by(|b, a| a.version == b.version && a.architecture == b.architecture);
    if let Some(over) = offers.len().checked_sub(OFFERS_CAP) {
        offers.drain(..over);
    }
}

/// The Release file of a list: the one with the longest common beginning, signed inside before beside.
fn release_file<'a>(files: &'a [(String, u64, i128)], stem: &str) -> Option<&'a str> {
    let beginning = |name: &'a str| {
        let start = name.strip_suffix("InRelease").or_else(|| name.strip_suffix("Release"))?;
        stem.starts_with(start).then_some((start.len(), name.ends_with("InRelease"), name))
    };
    files.iter().filter_map(|(name, _, _)| beginning(name)).max().map(|(_, _, name)| name)
}

fn site(stem: &str) -> String {
    stem.split('_').next().unwrap_or_default().to_owned()
}

/// The head of a Release file, up to its digests.
fn read_release(file: impl BufRead, stem: &str) -> Release {
    let (mut origin, mut label, mut suite, mut codename) = Default::default();
    for line in file
        .take(64 * 1024)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.starts_with("SHA") && !line.starts_with("MD5Sum:"))
    {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = text::printable(value.trim().as_bytes());
        match name {
            "Origin" => origin = value,
            "Label" => label = value,
            "Suite" => suite = value,
            "Codename" => codename = value,
            _ => {}
        }
    }
    let security = [&origin, &label, &suite, &codename]
        .iter()
        .any(|word: &&String| word.to_ascii_lowercase().contains("security"));
    let who = [origin, label].into_iter().find(|word| !word.is_empty()).unwrap_or_else(|| site(stem));
    let which = if codename.is_empty() { suite } else { codename };
    Release { origin: if which.is_empty() { who } else { format!("{who}:{which}") }, security }
}

fn read_list(root: &Rooted, name: &str, compressed: bool, index: &mut Index, release: usize) -> io::Result<()> {
    let path = format!("{LISTS}/{name}");
    if !compressed {
        return take(BufReader::with_capacity(256 * 1024, root.open(&path)?), index, release);
    }
    let mut cat = Cat::start(&root.real(&path)?)?;
    take(BufReader::with_capacity(256 * 1024, &mut cat), index, release)?;
    cat.finish()
}

fn take(reader: impl BufRead, index: &mut Index, release: usize) -> io::Result<()> {
    let mut stanzas = Stanzas::new(reader);
    let Index { names, offers, .. } = index;
    while let Some(stanza) = stanzas.next_of(|name| names.contains(name))? {
        let (version, architecture) = (stanza.text("Version"), stanza.text("Architecture"));
        if !text::is_version(version) || !text::is_architecture(architecture) {
            continue;
        }
        let offer = Offer {
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            source_version: source_of(&stanza).1,
            release,
        };
        let all = offers.entry(stanza.text("Package").to_owned()).or_default();
        // A hostile list of one name with a million versions ends here; sorting leaves the newest.
        if all.len() < OFFERS_CAP * 64 {
            all.push(offer);
        }
    }
    Ok(())
}

/// The decompressed bytes of a list, from `apt-helper cat-file`; ended when dropped.
struct Cat {
    child: Child,
}

impl Cat {
    fn start(path: &Path) -> io::Result<Self> {
        File::open(path)?;
        let child = Command::new(CAT)
            .arg("cat-file")
            .arg(path)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::other(format!("cannot start {CAT} to decompress it: {error}")))?;
        Ok(Self { child })
    }

    fn finish(mut self) -> io::Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("it is cut or damaged")) }
    }
}

impl Read for Cat {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.child.stdout.as_mut() {
            Some(stdout) => stdout.read(buffer),
            None => Ok(0),
        }
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_release_of_each_list() {
        let files: Vec<_> = [
            "deb.example_debian_dists_bookworm-updates_InRelease",
            "deb.example_debian_dists_bookworm_InRelease",
            "deb.example_debian_dists_bookworm_Release",
            "flat.example_._Release",
        ]
        .map(|name| (name.to_owned(), 1, 1))
        .to_vec();
        for (list, release) in [
            (
                "deb.example_debian_dists_bookworm_main_binary-amd64_Packages",
                Some("deb.example_debian_dists_bookworm_InRelease"),
            ),
            (
                "deb.example_debian_dists_bookworm-updates_main_binary-amd64_Packages",
                Some("deb.example_debian_dists_bookworm-updates_InRelease"),
            ),
            ("flat.example_._Packages", Some("flat.example_._Release")),
            ("other.example_._Packages", None),
        ] {
            assert_eq!(release_file(&files, list), release, "{list}");
        }
        assert_eq!(packages_stem("x_Packages.lz4"), Some(("x_Packages", true)));
        assert_eq!(packages_stem("x_Translation-en.lz4"), None);
    }

    #[test]
    fn describes_releases() {
        let read = |text: &str| read_release(text.as_bytes(), "deb.example_dists_x_Packages");
        let signed = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nLabel: Debian-Security\nSuite: oldstable-security\nCodename: bookworm-security\nSHA256:\n";
        assert_eq!(read(signed), Release { origin: "Debian:bookworm-security".into(), security: true });
        assert_eq!(read("Label: Own\nSuite: stable\n"), Release { origin: "Own:stable".into(), security: false });
        assert_eq!(read("Date: x\n"), Release { origin: "deb.example".into(), security: false });
        assert_eq!(read("Origin: X\nMD5Sum:\nLabel: Security\n"), Release { origin: "X".into(), security: false });
    }

    #[test]
    fn keeps_the_newest_offers_and_prefers_the_security_archive() {
        let releases = [Release::default(), Release { origin: "S".into(), security: true }];
        let offer = |version: &str, release| Offer {
            version: version.into(),
            architecture: "all".into(),
            source_version: version.into(),
            release,
        };
        let mut offers: Vec<_> = (0..100).map(|n| offer(&format!("0.{n}"), 0)).collect();
        offers.extend([offer("1.0-1", 0), offer("1.0-1", 1), offer("1.0~rc1-1", 0)]);
        arrange(&mut offers, &releases);
        assert_eq!(offers.len(), OFFERS_CAP);
        assert_eq!(offers.last().unwrap(), &offer("1.0-1", 1));
    }
}
