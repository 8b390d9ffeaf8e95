//! Real daemons in a root of their own whose program or library is replaced while they run, the way a
//! package manager does it: exactly those are found. Needs root, for chroot.

use super::{Holder, PackageOwner, uses};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Owner;

impl PackageOwner for Owner {
    fn owner_of(&self, _root: &Path, path: &Path) -> Option<String> {
        let name = path.file_name()?.to_str()?;
        ["tb-prog", "libtb"].iter().find(|owned| name.starts_with(**owned)).map(|owned| (*owned).to_owned())
    }
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Root(tempfile::TempDir);

impl Root {
    /// A root with what `sleep` needs, under three names, each with an init script.
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        let linked = Command::new("ldd").arg("/bin/sleep").output().unwrap();
        for word in String::from_utf8_lossy(&linked.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            root.copy(word, word);
        }
        let libc = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = libc
            .lines()
            .find_map(|line| line.find('/').map(|at| line[at..].to_owned()).filter(|path| path.contains("libc.so")))
            .unwrap();
        root.copy(&libc, "/usr/lib/libtb.so.1.2");
        for name in ["tb-prog", "tb-other", "tb-lib-user"] {
            root.copy("/bin/sleep", &format!("/usr/sbin/{name}"));
            let script = format!("#!/bin/sh\nstart-stop-daemon --exec /usr/sbin/{name}\n");
            root.write(&format!("/etc/init.d/{name}"), script.as_bytes());
        }
        root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn copy(&self, from: &str, to: &str) {
        std::fs::create_dir_all(self.at(to).parent().unwrap()).unwrap();
        std::fs::copy(from, self.at(to)).unwrap();
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), bytes).unwrap();
    }

    fn start(&self, name: &str, preload: &str) -> Daemon {
        let child = Command::new("chroot")
            .arg(self.0.path())
            .args([&format!("/usr/sbin/{name}"), "600"])
            .env_clear()
            .env("LD_PRELOAD", preload)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Daemon(child);
        // The library is a copy of the C library, which then takes its place.
        let library = if preload.is_empty() { "libc.so" } else { preload };
        let link = PathBuf::from(format!("/proc/{}/exe", daemon.0.id()));
        let maps = PathBuf::from(format!("/proc/{}/maps", daemon.0.id()));
        let started = Instant::now();
        // The program is there once it is mapped with all its libraries.
        while !(std::fs::read_link(&link).is_ok_and(|exe| exe == self.at(&format!("/usr/sbin/{name}")))
            && std::fs::read_to_string(&maps).is_ok_and(|maps| maps.contains(library)))
        {
            assert!(started.elapsed() < Duration::from_secs(20), "{name} does not start");
            std::thread::yield_now();
        }
        daemon
    }

    /// The way a package manager replaces a file: a new one beside it, renamed over it.
    fn replace(&self, path: &str) {
        let new = self.at(&format!("{path}.dpkg-new"));
        std::fs::copy(self.at(path), &new).unwrap();
        std::fs::rename(&new, self.at(path)).unwrap();
    }

    fn found(&self) -> Vec<String> {
        let found = uses(self.0.path(), Some(&Owner)).into_iter().map(|used| {
            assert_eq!(used.holder, Holder::Unit, "by its init script");
            assert!(!used.own);
            let files: Vec<String> =
                used.files.iter().map(|file| format!("{} of {}", file.path, file.package)).collect();
            format!("{}: {}", used.unit, files.join(", "))
        });
        found.collect()
    }
}

#[test]
fn exactly_who_uses_a_replaced_file_is_found() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let root = Root::new();
    let program = root.start("tb-prog", "");
    let _other = root.start("tb-other", "");
    let _user = root.start("tb-lib-user", "/usr/lib/libtb.so.1.2");
    assert_eq!(root.found(), Vec::<String>::new(), "nothing is replaced yet");
    root.replace("/usr/sbin/tb-prog");
    assert_eq!(root.found(), ["tb-prog: /usr/sbin/tb-prog of tb-prog"]);
    root.replace("/usr/lib/libtb.so.1.2");
    assert_eq!(root.found(), ["tb-lib-user: /usr/lib/libtb.so.1.2 of libtb", "tb-prog: /usr/sbin/tb-prog of tb-prog"]);
    drop(program);
    let _again = root.start("tb-prog", "");
    assert_eq!(root.found(), ["tb-lib-user: /usr/lib/libtb.so.1.2 of libtb"], "restarted, it uses the new file");
}
