//! A signed apt repository with versions of the package `fettle`, each made by `cargo xtask package`.

use crate::support;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The real program, for versions that are half broken.
pub const REAL: &str = "/usr/lib/fettle-real";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The folder of this test's repository and logs.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("self-update")
}

/// The repository, made once.
pub fn repository(testbed: &support::Testbed) -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = folder();
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        publish(&folder, &testbed.folder, &versions(&stripped(&folder)))
    })
    .clone()
}

/// The program under test without its debug symbols.
fn stripped(folder: &Path) -> Vec<u8> {
    let path = folder.join("stripped");
    support::run(Command::new("strip").arg("-o").arg(&path).arg(env!("CARGO_BIN_EXE_fettle")));
    std::fs::read(path).unwrap()
}

/// The version under test, good ones (6 and 7), and broken ones.
fn versions(program: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let no_network = format!("exec unshare --net {REAL} \"$@\"");
    vec![
        (env!("CARGO_PKG_VERSION"), program.to_vec()),
        ("0.1.1", b"#!/bin/sh\necho 'this version is broken' >&2\nexit 1\n".to_vec()),
        ("0.1.2", half_broken("0.1.2", "exec sleep 1000", "exec sleep 1000")),
        ("0.1.3", half_broken("0.1.3", &no_network, &no_network)),
        ("0.1.4", half_broken("0.1.4", "", "exit 7")),
        ("0.1.5", half_broken("0.1.5", "", "exec sleep 1000")),
        ("0.1.6", as_version(program, "0.1.6")),
        ("0.1.7", as_version(program, "0.1.7")),
        ("0.1.8", half_broken("0.1.8", "", "exit 7")),
    ]
}

/// The same program with another version in all of its texts.
fn as_version(program: &[u8], version: &str) -> Vec<u8> {
    let (own, other) = (env!("CARGO_PKG_VERSION").as_bytes(), version.as_bytes());
    assert_eq!(own.len(), other.len(), "a text of the same length");
    let mut program = program.to_vec();
    let places: Vec<usize> =
        program.windows(own.len()).enumerate().filter(|(_, window)| *window == own).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        program[at..at + other.len()].copy_from_slice(other);
    }
    program
}

/// A version that does `prove` and `run` as told and everything else as the real program.
fn half_broken(version: &str, prove: &str, run: &str) -> Vec<u8> {
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in\n    --version) echo 'fettle {version}'; exit 0 ;;\n    'agent prove'*) {prove} ;;\n    \
         'agent run'*) {run} ;;\nesac\nexec {REAL} \"$@\"\n"
    );
    text.into_bytes()
}

fn publish(folder: &Path, testbed: &Path, versions: &[(&str, Vec<u8>)]) -> PathBuf {
    let repository = folder.join("repo");
    let pool = repository.join("pool");
    std::fs::create_dir_all(&pool).unwrap();
    for (version, program) in versions {
        let path = folder.join(format!("fettle-{version}"));
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(workspace()).args(["xtask", "package", "--version", version]);
        command.arg("--binary").arg(&path).arg("--documented-by").arg(env!("CARGO_BIN_EXE_fettle"));
        support::run(command.arg("--output").arg(&pool));
        std::fs::remove_file(path).unwrap();
    }
    let lists = repository.join("dists/own/main/binary-amd64");
    std::fs::create_dir_all(&lists).unwrap();
    let packages = support::run(Command::new("apt-ftparchive").current_dir(&repository).args(["packages", "pool"]));
    std::fs::write(lists.join("Packages"), packages.stdout).unwrap();
    let suite = repository.join("dists/own");
    let field = |name: &str, value: &str| ["-o".to_owned(), format!("APT::FTPArchive::Release::{name}={value}")];
    let fields =
        [("Origin", "Own"), ("Suite", "own"), ("Codename", "own"), ("Architectures", "amd64"), ("Components", "main")];
    let release = support::run(
        Command::new("apt-ftparchive")
            .current_dir(&suite)
            .args(fields.iter().flat_map(|(name, value)| field(name, value)))
            .args(["release", "."]),
    );
    std::fs::write(suite.join("Release"), release.stdout).unwrap();
    let sign = ["--batch", "--yes", "--quiet", "-u", "fettle-demo", "--clearsign", "-o", "InRelease", "Release"];
    support::run(Command::new("gpg").current_dir(&suite).arg("--homedir").arg(testbed.join("keys")).args(sign));
    repository
}

/// A host whose apt knows only this repository, with the version under test installed.
pub fn installed(testbed: &support::Testbed) -> (support::Host, support::server::Server) {
    let host = support::Host::without_indexes(testbed);
    let served = support::server::Server::start(repository(testbed));
    for entry in std::fs::read_dir(host.path("/etc/apt/sources.list.d")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let key = "/usr/share/keyrings/fettle-demo.gpg";
    host.write(
        "/etc/apt/sources.list.d/own.list",
        &format!("deb [signed-by={key}] http://{} own main\n", served.address()),
    );
    host.inside(&["/usr/bin/apt-get", "update", "-qq"]);
    install(&host, env!("CARGO_PKG_VERSION"));
    (host, served)
}

/// As an administrator does it.
pub fn install(host: &support::Host, version: &str) {
    host.inside(&["/usr/bin/apt-get", "install", "-y", "-qq", "--allow-downgrades", &format!("fettle={version}")]);
}
