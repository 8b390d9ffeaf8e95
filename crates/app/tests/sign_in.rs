//! Signing in as people do it: the real binary at a pseudo-terminal, against real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse battery staple";

/// A server that ends with the test.
struct Server {
    process: Child,
    folder: PathBuf,
    announced: Value,
}

impl Server {
    fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let announce = folder.join("announce.json");
        let mut process = Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(["server", "run", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.join("data"))
            .arg("--announce-file")
            .arg(&announce)
            .stdout(File::create(folder.join("out")).unwrap())
            .stderr(File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let announced = loop {
            let text = std::fs::read_to_string(&announce).unwrap_or_default();
            if let Ok(announced) = serde_json::from_str(&text) {
                break announced;
            }
            assert_eq!(process.try_wait().unwrap(), None, "the server ended");
            assert!(started.elapsed() < PATIENCE, "waited for the server");
            std::thread::sleep(Duration::from_millis(50));
        };
        Self { process, folder: folder.to_path_buf(), announced }
    }

    fn address(&self) -> String {
        format!("https://{}", self.announced["listen"].as_str().unwrap())
    }

    fn fingerprint(&self) -> &str {
        self.announced["authority_fingerprint"].as_str().unwrap()
    }

    fn one_time_password(&self) -> &str {
        self.announced["one_time_password"].as_str().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command at a terminal of its own.
struct AtTerminal {
    process: Child,
    keys: File,
    screen: Receiver<String>,
    seen: String,
}

impl AtTerminal {
    fn start(mut command: Command) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let line = || File::options().read(true).write(true).open(&name).unwrap();
        let process = command.stdin(line()).stdout(line()).stderr(line()).spawn().unwrap();
        drop(command);
        let keys = File::from(terminal);
        let mut output = keys.try_clone().unwrap();
        let (sender, screen) = channel();
        // Ends when the command has closed its side.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { process, keys, screen, seen: String::new() }
    }

    /// Waits for words on the screen, then types a line.
    fn answer(&mut self, words: &str, line: &str) {
        let started = Instant::now();
        let from = self.seen.len();
        while !self.seen[from..].contains(words) {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let more = self.screen.recv_timeout(left);
            self.seen.push_str(&more.unwrap_or_else(|_| panic!("waited for `{words}`:\n{}", self.seen)));
        }
        writeln!(self.keys, "{line}").unwrap();
    }

    fn end(mut self) -> (ExitStatus, String) {
        while let Ok(more) = self.screen.recv_timeout(PATIENCE) {
            self.seen.push_str(&more);
        }
        (self.process.wait().unwrap(), self.seen.replace('\r', ""))
    }
}

struct Person {
    home: PathBuf,
}

impl Person {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fettle"));
        for name in ["FETTLE_SERVER", "FETTLE_AUTHORITY", "FETTLE_TOKEN"] {
            command.env_remove(name);
        }
        command.args(arguments).env("XDG_CONFIG_HOME", &self.home).env("COLUMNS", "200");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn say(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        error
    }

    fn kept(&self) -> PathBuf {
        self.home.join("fettle/credentials.toml")
    }
}

#[test]
fn an_unknown_authority_is_shown_compared_and_trusted_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("a"));
    let (address, one_time) = (server.address(), server.one_time_password());
    let person = Person { home: folder.path().join("person") };
    let login = ["login", "--server", &address, "--user", "admin"];

    // What is to be compared is what the server printed at its start.
    let printed = std::fs::read_to_string(server.folder.join("out")).unwrap();
    let line = printed.lines().find(|line| line.starts_with("Authority")).unwrap();
    assert_eq!(line.split_whitespace().last(), Some(server.fingerprint()));

    // Nobody there to be asked: refused, with the flag that pins.
    let refused = person.refused(&login, 2);
    assert!(refused.contains("is not known yet") && refused.contains("--ca-fingerprint"), "{refused}");
    assert!(!refused.contains(server.fingerprint()), "a script must not learn here whom to trust: {refused}");

    for answer in ["n", "", "sure"] {
        let mut terminal = AtTerminal::start(person.command(&login));
        terminal.answer("Trust this server? [y/N] ", answer);
        let (status, screen) = terminal.end();
        assert_eq!(status.code(), Some(1), "{screen}");
        assert!(screen.contains(server.fingerprint()) && screen.contains("nothing was sent to it"), "{screen}");
        assert!(!screen.contains("Password") && !person.kept().exists(), "{screen}");
    }

    let mut terminal = AtTerminal::start(person.command(&login));
    terminal.answer("Trust this server? [y/N] ", "y");
    terminal.answer("Password: ", one_time);
    terminal.answer("New password: ", PASSWORD);
    terminal.answer("Once more: ", PASSWORD);
    let (status, screen) = terminal.end();
    assert!(status.success() && screen.contains("signed in as admin until"), "{screen}");
    assert!(!screen.contains(one_time) && !screen.contains(PASSWORD), "a password was echoed: {screen}");
    assert_eq!(std::fs::metadata(person.kept()).unwrap().permissions().mode() & 0o777, 0o600);

    // Refusing sent nothing: the log knows of the one sign-in only.
    let log: Value = serde_json::from_str(&person.say(&["audit", "list", "--sort", "sequence", "-o", "json"])).unwrap();
    let actions: Vec<&str> = log["items"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert!(!actions.contains(&"session.refuse"), "{actions:?}");
    assert_eq!(actions.iter().filter(|action| **action == "token.create").count(), 1, "{actions:?}");

    // The authority is known from now on, and another one in its place is not believed.
    let file = folder.path().join("password");
    std::fs::write(&file, PASSWORD).unwrap();
    let file = file.display().to_string();
    person.say(&["login", "--user", "admin", "--password-file", &file]);
    let wrong = "00".repeat(32);
    let refused = person.refused(
        &["login", "--server", &address, "--user", "admin", "--password-file", &file, "--ca-fingerprint", &wrong],
        6,
    );
    assert!(refused.contains("another certificate authority than the one you trust"), "{refused}");

    several_servers(&person, &server, &Server::start(&folder.path().join("b")), folder.path());
    lists(&person);
}

/// Each has its sign-in; the last one is meant where none is named.
fn several_servers(person: &Person, first: &Server, second: &Server, folder: &Path) {
    let (a, b) = (first.address(), second.address());
    let old = folder.join("one-time");
    let new = folder.join("new");
    std::fs::write(&old, second.one_time_password()).unwrap();
    std::fs::write(&new, PASSWORD).unwrap();
    let mut pinned = vec!["login", "--server", &b, "--user", "admin", "--ca-fingerprint", second.fingerprint()];
    let (old, new) = (old.display().to_string(), new.display().to_string());
    pinned.extend(["--password-file", &old, "--new-password-file", &new]);
    person.say(&pinned);
    let server_of = |arguments: &[&str]| {
        let told = person.say(arguments);
        let line = told.lines().find(|line| line.starts_with("Server")).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(server_of(&["whoami"]), b);
    assert_eq!(server_of(&["whoami", "--server", &a]), a);
    assert_eq!(server_of(&["--server", a.trim_start_matches("https://"), "whoami"]), a);
    let named = person.command(&["whoami"]).env("FETTLE_SERVER", &a).stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8(named.stdout).unwrap();
    assert!(
        told.contains(&format!("Server             {a}")) && told.contains(&format!("Signed in also at  {b}")),
        "{told}"
    );
    let refused = person.refused(&["whoami", "--server", "https://127.0.0.1:1"], 3);
    assert!(refused.contains("nobody is signed in at https://127.0.0.1:1") && refused.contains(&a), "{refused}");

    // What machines are told to reach the server at has a word of its own.
    let line = person.say(&["host", "token", "create", "--server", &a, "--address", "https://patch.example:8443"]);
    assert!(line.contains("--server https://patch.example:8443"), "{line}");

    assert_eq!(person.say(&["logout"]), format!("signed out of {b}\n"));
    assert_eq!(server_of(&["whoami"]), a, "the other one is left");
    person.refused(&["whoami", "--server", &b], 3);
}

/// The order of a list is the server's; a column that is none is answered with those there are.
fn lists(person: &Person) {
    for (name, role) in [("olga", "operator"), ("anna", "approver")] {
        person.say(&["user", "create", name, "--role", role]);
    }
    let names = |sort: &str| {
        let list: Value =
            serde_json::from_str(&person.say(&["user", "list", "--sort", sort, "--output", "json"])).unwrap();
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("-name"), ["olga", "anna", "admin"]);
    assert_eq!(names("role"), ["admin", "anna", "olga"]);
    assert_eq!(names("-created_at"), ["anna", "olga", "admin"]);
    for (noun, columns) in [
        ("host", "name, state, os, last_seen"),
        ("finding", "priority, vulnerability, source, first_seen"),
        ("change", "number, title, requester"),
        ("audit", "sequence, actor, action, object"),
        ("token", "created_at, label, expires_at, last_used"),
    ] {
        let refused = person.refused(&[noun, "list", "--sort", "-nonsense"], 2);
        assert!(refused.contains("cannot be sorted by `-nonsense`") && refused.contains(columns), "{refused}");
        let first = columns.split(',').next().unwrap();
        person.say(&[noun, "list", "--sort", &format!("-{first}")]);
    }
}
