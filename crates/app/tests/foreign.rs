//! Both foreign examples in the real program, end to end: the server loads the feed, the agent inventories, changes
//! and undoes the provider's packages, and what is not as listed is told and left out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod process;

use fettle_plugin::conformance::Fixtures;
use fettle_plugin::digest::sha256_hex;
use process::Running;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PASSWORD: &str = "correct horse battery staple";

fn workspace(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(inside)
}

fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    process::until(what, 60, ask)
}

/// A folder everybody may look into, for feeds run as nobody, with a copy of the examples.
struct Place(tempfile::TempDir);

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["server.log", "agent.log"] {
                println!("== {log}\n{}", fs::read_to_string(self.path(log)).unwrap_or_default());
            }
        }
    }
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.mode("", 0o755);
        place.folder("plugins", 0o755);
        for name in ["ports", "usn"] {
            fs::copy(workspace("examples/plugins").join(name), place.path(&format!("plugins/{name}"))).unwrap();
            place.mode(&format!("plugins/{name}"), 0o755);
        }
        place
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    fn text(&self, inside: &str) -> String {
        self.path(inside).display().to_string()
    }

    fn mode(&self, inside: &str, mode: u32) {
        fs::set_permissions(self.path(inside), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn folder(&self, inside: &str, mode: u32) {
        fs::create_dir_all(self.path(inside)).unwrap();
        self.mode(inside, mode);
    }

    /// Lists one plug-in in a file.
    fn list(&self, file: &str, name: &str, kind: &str, executable: &str) {
        let path = self.path(&format!("plugins/{executable}"));
        let sha256 = sha256_hex(&fs::read(&path).unwrap());
        let text = format!(
            "folders = [{:?}]\n\n[[plugin]]\nname = {name:?}\nkind = {kind:?}\npath = {path:?}\nsha256 = {sha256:?}\n",
            self.path("plugins")
        );
        fs::write(self.path(file), text).unwrap();
        self.mode(file, 0o644);
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(arguments)
            .env("XDG_CONFIG_HOME", self.path("people"))
            .env("COLUMNS", "200")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed.
    fn say(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "fettle {}: {:?}\n{out}\n{error}", arguments.join(" "), output.status);
        out.into_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.say(&[arguments, &["--output", "json"]].concat())).unwrap()
    }

    fn start(&self, log: &str, arguments: &[&str]) -> Running {
        let log = fs::File::create(self.path(log)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fettle"));
        command.args(arguments).env("FETTLE_CHANGES_REQUESTER_MAY_APPROVE", "true");
        Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// A server, and its administrator signed in.
    fn serve(&self) -> Running {
        let (data, announce) = (self.text("data"), self.text("announce.json"));
        let server = self.start(
            "server.log",
            &["server", "run", "--data", &data, "--listen", "127.0.0.1:0", "--announce-file", &announce],
        );
        let said: Value =
            until("the server", || serde_json::from_str(&fs::read_to_string(self.path("announce.json")).ok()?).ok());
        fs::write(self.path("old"), said["one_time_password"].as_str().unwrap()).unwrap();
        fs::write(self.path("new"), PASSWORD).unwrap();
        let address = format!("https://{}", said["listen"].as_str().unwrap());
        let (old, new) = (self.text("old"), self.text("new"));
        let sign_in = ["login", "--server", &address, "--user", "admin", "--data", &data];
        self.say(&[&sign_in[..], &["--password-file", &old, "--new-password-file", &new]].concat());
        server
    }

    fn wait_for_change(&self, id: &str, state: &str) -> Value {
        until(&format!("change {id} to be {state}"), || {
            let change = self.json(&["change", "show", id]);
            (change["summary"]["state"] == state).then_some(change)
        })
    }
}

#[test]
fn a_foreign_feed_is_listed_loaded_and_left_out_when_it_changed() {
    let place = Place::new();
    place.folder("data", 0o700);
    place.list("data/plugins.toml", "ubuntu-usn", "feed", "usn");
    let shown = place.say(&["plugin", "list", "--plugins", "/nonexistent", "--data", &place.text("data")]);
    let line = shown.lines().find(|line| line.starts_with("ubuntu-usn")).unwrap();
    assert!(line.contains("feed") && line.ends_with("ready"), "{shown}");
    {
        let _server = place.serve();
        let feeds = place.say(&["feed", "list"]);
        assert!(feeds.contains("ubuntu-usn"), "{feeds}");
        let fixtures = workspace("examples/plugins/usn-fixtures").canonicalize().unwrap().display().to_string();
        let said = place.say(&["feed", "sync", "--from", &fixtures, "ubuntu-usn"]);
        assert_eq!(said.trim(), "ubuntu-usn: loaded  63 statements, 0 facts, 0 unreadable records");
        let known = place.json(&["vulnerability", "show", "CVE-2016-10745"]);
        assert!(known.to_string().contains("USN-4011-1"), "{known:#}");
    }
    let usn = place.path("plugins/usn");
    fs::write(&usn, fs::read_to_string(&usn).unwrap() + "\n").unwrap();
    let shown = place.say(&["plugin", "list", "--plugins", "/nonexistent", "--data", &place.text("data")]);
    assert!(shown.contains("refused: the plug-in") && shown.contains("list its new sha-256"), "{shown}");
    fs::remove_file(place.path("announce.json")).unwrap();
    let _server = place.start(
        "again.log",
        &[
            "server",
            "run",
            "--data",
            &place.text("data"),
            "--listen",
            "127.0.0.1:0",
            "--announce-file",
            &place.text("announce.json"),
        ],
    );
    until("the server again", || fs::read_to_string(place.path("announce.json")).ok());
    let log = fs::read_to_string(place.path("again.log")).unwrap();
    assert!(log.contains("a foreign plug-in is not used") && log.contains("plugins.toml lists"), "{log}");
}

#[test]
fn a_foreign_providers_packages_are_changed_and_undone_like_any_others() {
    let place = Place::new();
    let fixtures = Fixtures::load(&workspace("examples/plugins/ports-fixtures")).unwrap();
    let root = fixtures.provider.as_ref().unwrap().root.clone();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n").unwrap();
    place.list("plugins.toml", "ports", "provider", "ports");
    // This root has no dpkg: its policy lets in the foreign provider only.
    fs::write(place.path("policy.toml"), "providers = [\"ports\"]\n").unwrap();
    let _server = place.serve();

    let token = place.say(&["host", "token", "create"]);
    let (state, root_text) = (place.text("state"), root.display().to_string());
    let mut words: Vec<&str> = token.split_whitespace().skip(1).collect();
    words.extend(["--state", &state, "--root", &root_text]);
    place.say(&words);
    let (policy, plugins) = (place.text("policy.toml"), place.text("plugins.toml"));
    let mut agent = vec!["agent", "run", "--state", &state, "--root", &root_text, "--check-in-seconds", "1"];
    agent.extend(["--policy", &policy, "--plugins", &plugins]);
    let _agent = place.start("agent.log", &agent);
    let host = until("the first inventory", || {
        let list = place.json(&["host", "list", "--state", "managed"]);
        list["items"][0]["id"].as_str().map(str::to_owned)
    });
    let packages = until("its packages", || {
        let list = place.json(&["host", "packages", &host]);
        (list["items"].as_array().unwrap().len() == 2).then_some(list)
    });
    assert_eq!(packages["items"][0]["name"], "hello", "{packages:#}");

    let made = place.json(&[
        "change",
        "create",
        "--package",
        "hello",
        "--package",
        "libgreet",
        "--host",
        &host,
        "--reason",
        "a test",
    ]);
    let change = made["summary"]["id"].as_str().unwrap().to_owned();
    place.wait_for_change(&change, "proposed");
    place.say(&["change", "approve", &change]);
    place.say(&["change", "start", &change]);
    place.wait_for_change(&change, "completed");
    let hello = || fs::read_to_string(root.join("usr/local/bin/hello")).unwrap();
    assert_eq!(hello(), "#!/bin/sh\necho hello 1.10\n");
    assert!(!root.join("usr/local/share/hello/old.txt").exists());
    until("the new inventory", || place.json(&["host", "packages", &host]).to_string().contains("1.10").then_some(()));

    place.say(&["change", "undo", &change]);
    until("the undo", || hello().contains("hello 1.0").then_some(()));
    until("the inventory after it", || {
        let packages = place.json(&["host", "packages", &host]).to_string();
        (packages.contains("\"1.0\"") && packages.contains("\"2.1\"")).then_some(())
    });
    assert_eq!(fs::read_to_string(root.join("usr/local/share/hello/old.txt")).unwrap(), "gone in 1.10\n");
    assert!(!root.join("usr/local/share/hello/new.txt").exists());
}
