//! A real agent that has nothing to do: its memory and processor time, both halves together.

use crate::process::{Kernel, Talking};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fettle_domain::Timestamp;
use fettle_server::clock;
use fettle_server::identity::Identity;
use fettle_store::systems::enrolment_token::{self, EnrolmentToken};
use fettle_testkit::TestDatabase;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Until its first inventory is over, and the thread that took it.
const SETTLE: Duration = Duration::from_secs(25);
/// How long it is looked at.
const LOOK: Duration = Duration::from_secs(90);
/// Between two check-ins here: a third of that, so that three of them are in the figure.
const CHECK_IN: &str = "30";

/// A server with a token, and the program where every user may run it.
pub struct Enrolled {
    pub address: String,
    token: String,
    program: PathBuf,
    folder: tempfile::TempDir,
    _server: Talking,
}

/// One enrolled agent.
pub struct Agent<'a> {
    enrolled: &'a Enrolled,
    state: PathBuf,
    root: PathBuf,
}

impl Enrolled {
    pub fn new(program: &str, identity: &Identity, data: &Path) -> Self {
        let database = TestDatabase::sqlite();
        let secret = "only-for-this-benchmark";
        let token = EnrolmentToken {
            id: clock::fresh(),
            group: None,
            uses_left: 10,
            expires_at: Timestamp::from_unix_millis(i64::MAX),
            created_by: "bench".into(),
            created_at: clock::now(),
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref().to_vec();
        database
            .open()
            .write_blocking(move |connection| enrolment_token::enrolment_token_create(connection, &token, &digest))
            .unwrap();
        let mut server = Talking::start(&["server", data.to_str().unwrap(), &database.url_text(), "grouped", CHECK_IN]);
        let address = format!("https://{}", server.hear());
        // The folder of the database must outlive the server.
        std::mem::forget(database);
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let copy = folder.path().join("fettle");
        std::fs::copy(program, &copy).unwrap();
        let token = format!("fettle1.{}.{secret}", URL_SAFE_NO_PAD.encode(identity.authority_fingerprint()));
        Self { address, token, program: copy, folder, _server: server }
    }

    /// One more host, which looks at `root`.
    pub fn enrol(&self, server: &str, root: &Path) -> Agent<'_> {
        let number = std::fs::read_dir(self.folder.path()).unwrap().count();
        let state = self.folder.path().join(format!("state-{number}"));
        let enrolled = Command::new(&self.program)
            .args(["agent", "enrol", "--server", server, "--token", &self.token, "--state"])
            .arg(&state)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(enrolled.success(), "the agent could not be enrolled");
        Agent { enrolled: self, state, root: root.to_owned() }
    }
}

impl Agent<'_> {
    /// One round.
    pub fn once(&self) {
        let ended = Command::new(&self.enrolled.program)
            .args(["agent", "run", "--once", "--read-only", "--state"])
            .arg(&self.state)
            .arg("--root")
            .arg(&self.root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(ended.success());
    }

    /// The next inventory goes whole.
    pub fn forget_what_the_server_has(&self) {
        for name in ["acknowledged-digests", "acknowledged-packages"] {
            std::fs::remove_file(self.state.join("network").join(name)).unwrap();
        }
    }
}

/// What an idle agent takes.
pub struct Idle {
    resident: Vec<u64>,
    own: u64,
    processor: f64,
}

impl Idle {
    /// Looks at an agent of this very machine; with `dpkg`, as if that were its package database.
    pub fn measure(enrolled: &Enrolled, dpkg: Option<&Path>) -> Self {
        let agent = enrolled.enrol(&enrolled.address, Path::new("/"));
        let script = "[ -z \"$1\" ] || mount --bind \"$1\" /var/lib/dpkg; shift; exec \"$@\"";
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
            command.arg(dpkg.unwrap_or(Path::new(""))).arg(&enrolled.program);
            command
        } else {
            Command::new(&enrolled.program)
        };
        let mut running = command
            .args(["agent", "run", "--read-only", "--network-user", "nobody", "--state"])
            .arg(&agent.state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(SETTLE);
        let halves: Vec<Kernel> =
            std::iter::once(running.id()).chain(Kernel(running.id()).child_processes()).map(Kernel).collect();
        let processor = || halves.iter().map(|half| half.processor()).sum::<f64>();
        let before = processor();
        std::thread::sleep(LOOK);
        let measured = Self {
            resident: halves.iter().map(|half| half.resident()).collect(),
            own: halves.iter().map(|half| half.proportional()).sum(),
            processor: (processor() - before) / LOOK.as_secs_f64(),
        };
        running.kill().unwrap();
        running.wait().unwrap();
        measured
    }

    pub fn print(&self) {
        let halves: Vec<String> = self.resident.iter().map(|bytes| format!("{:.1}", *bytes as f64 / 1e6)).collect();
        println!(
            "\none idle agent: {:.1} MB in all (each page counted once), {:.2} % of a processor",
            self.own as f64 / 1e6,
            self.processor * 100.0
        );
        println!(
            "  resident {} MB ({})",
            halves.join(" and "),
            if halves.len() == 2 { "executor, network-facing half" } else { "one process" }
        );
        println!("  looked at for {} seconds, with a check-in every {CHECK_IN} seconds", LOOK.as_secs());
    }
}

/// Enrols an agent for this very machine, read-only, and looks at it.
pub fn measure(program: &str, identity: &Identity, data: &Path) {
    Idle::measure(&Enrolled::new(program, identity, data), None).print();
}
