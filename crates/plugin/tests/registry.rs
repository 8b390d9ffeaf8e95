//! Which executables are started at all: those of the administrator's list, as listed, that nobody else may write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_plugin::digest::sha256_hex;
use fettle_plugin::host::{KindOf, Registry, StdioFeed};
use fettle_plugin::{ErrorKind, Feed};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const USN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/plugins/usn");

/// A folder with a plug-in and its list.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        place.mode("", 0o755);
        fs::create_dir(place.path("plugins")).unwrap();
        fs::copy(USN, place.path("plugins/usn")).unwrap();
        place.mode("plugins", 0o755);
        place.mode("plugins/usn", 0o755);
        place.list(&place.entry("plugins/usn", &sha256_hex(&fs::read(USN).unwrap())));
        place
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside)
    }

    fn mode(&self, inside: &str, mode: u32) {
        fs::set_permissions(self.path(inside), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn entry(&self, path: &str, sha256: &str) -> String {
        format!(
            "folders = [{:?}]\n[[plugin]]\nname = \"ubuntu-usn\"\nkind = \"feed\"\npath = {:?}\nsha256 = \"{sha256}\"\n",
            self.path("plugins"),
            self.path(path)
        )
    }

    fn list(&self, text: &str) {
        fs::write(self.path("plugins.toml"), text).unwrap();
        self.mode("plugins.toml", 0o644);
    }

    fn load(&self) -> Result<Registry, String> {
        Registry::load(&self.path("plugins.toml"))
            .map_err(|error| error.to_string().replace(&self.folder.path().display().to_string(), "DIR"))
    }

    /// Starts the listed feed, or says why not.
    fn start(&self) -> Result<StdioFeed, String> {
        let registry = self.load()?;
        let listed = registry.of_kind(KindOf::Feed).next().unwrap();
        let started = listed.launch(&self.path("scratch")).and_then(StdioFeed::connect);
        started.map_err(|error| {
            assert_eq!(error.kind, ErrorKind::Denied);
            error.message.replace(&self.folder.path().display().to_string(), "DIR")
        })
    }
}

#[test]
fn what_is_listed_is_started_until_it_is_another() {
    let place = Place::new();
    let feed = place.start().unwrap();
    assert_eq!(feed.name().0, "ubuntu-usn");
    let document = fettle_plugin::Document { name: "x", bytes: b"{}" };
    assert!(feed.read(document).unwrap_err().message.contains("is no USN database"));
    let mut text = fs::read_to_string(place.path("plugins/usn")).unwrap();
    text.push_str("# changed\n");
    fs::write(place.path("plugins/usn"), &text).unwrap();
    let (found, listed) = (sha256_hex(text.as_bytes()), sha256_hex(&fs::read(USN).unwrap()));
    let wanted =
        format!("the plug-in DIR/plugins/usn has the sha-256 {found}, plugins.toml lists {listed}: not started");
    assert_eq!(place.start().unwrap_err(), wanted);
    // Also one that was taken in before: the file is looked at before every start.
    let error = feed.read(document).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.message.contains(&found), "{error}");
}

#[test]
fn what_others_may_write_is_not_started() {
    let refusal = |inside: &str, mode: u32| {
        let place = Place::new();
        place.mode(inside, mode);
        place.start().unwrap_err()
    };
    assert_eq!(
        refusal("plugins/usn", 0o775),
        "DIR/plugins/usn may be written by others (mode 0775): chmod go-w DIR/plugins/usn"
    );
    assert_eq!(refusal("plugins", 0o757), "DIR/plugins may be written by others (mode 0757): chmod go-w DIR/plugins");
    assert_eq!(refusal("plugins", 0o1777), "DIR/plugins may be written by others (mode 1777): chmod go-w DIR/plugins");
    assert_eq!(
        refusal("plugins.toml", 0o666),
        "DIR/plugins.toml may be written by others (mode 0666): chmod go-w DIR/plugins.toml"
    );
    assert_eq!(refusal("plugins/usn", 0o644), "the plug-in DIR/plugins/usn is no executable file");
}

#[test]
fn what_belongs_to_another_user_is_not_started() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: only root can give a file away");
        return;
    }
    let place = Place::new();
    std::os::unix::fs::chown(place.path("plugins/usn"), Some(12_345), None).unwrap();
    assert_eq!(
        place.start().unwrap_err(),
        "DIR/plugins/usn belongs to user 12345, who could change the plug-ins: it must belong to root"
    );
    // Feeds run as nobody, who must be able to read them.
    let place = Place::new();
    place.mode("plugins", 0o700);
    assert_eq!(
        place.start().unwrap_err(),
        "feeds run as nobody, who may not reach DIR/plugins/usn: DIR/plugins is closed to others"
    );
}

#[test]
fn a_link_is_judged_by_where_it_leads() {
    let place = Place::new();
    fs::create_dir(place.path("open")).unwrap();
    fs::rename(place.path("plugins/usn"), place.path("open/usn")).unwrap();
    place.mode("open", 0o777);
    std::os::unix::fs::symlink(place.path("open/usn"), place.path("plugins/usn")).unwrap();
    assert_eq!(place.start().unwrap_err(), "DIR/open may be written by others (mode 0777): chmod go-w DIR/open");
}

#[test]
fn a_list_that_is_wrong_says_where() {
    let place = Place::new();
    let good = sha256_hex(b"");
    let complaint = |text: &str| {
        place.list(text);
        place.load().unwrap_err()
    };
    assert_eq!(
        complaint(&place.entry("elsewhere/usn", &good)),
        "DIR/plugins.toml: plug-in ubuntu-usn: DIR/elsewhere/usn does not lie directly in one of `folders`; plug-ins are started from there only"
    );
    assert_eq!(
        complaint(&place.entry("plugins/../plugins/usn", &good)),
        "DIR/plugins.toml: plug-in ubuntu-usn: DIR/plugins/../plugins/usn does not lie directly in one of `folders`; plug-ins are started from there only"
    );
    assert_eq!(
        complaint(&place.entry("plugins/usn", "ABC")),
        "DIR/plugins.toml: plug-in ubuntu-usn: `ABC` is no sha-256 (64 lowercase hexadecimal digits)"
    );
    let twice = place.entry("plugins/usn", &good);
    let again = twice.split_once('\n').unwrap().1;
    assert_eq!(complaint(&format!("{twice}{again}")), "DIR/plugins.toml: plug-in ubuntu-usn is listed twice");
    assert!(complaint("folders = []\nmode = 1\n").starts_with("DIR/plugins.toml: line 2: unknown field `mode`"));
    assert_eq!(Registry::load(Path::new("/nonexistent/plugins.toml")).unwrap(), Registry::default());
}
