//! One real agent that has nothing to do: its memory and processor time.

use crate::process::{Kernel, Talking};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fettle_domain::Timestamp;
use fettle_server::clock;
use fettle_server::identity::Identity;
use fettle_store::systems::enrolment_token::{self, EnrolmentToken};
use fettle_testkit::TestDatabase;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Until its first inventory is over.
const SETTLE: Duration = Duration::from_secs(20);
/// How long it is looked at.
const LOOK: Duration = Duration::from_secs(90);
/// Between two check-ins here: a third of that, so that three of them are in the figure.
const CHECK_IN: &str = "30";

/// Enrols an agent for this very machine, read-only, and looks at it.
pub fn measure(program: &str, identity: &Identity, data: &Path) {
    let database = TestDatabase::sqlite();
    let secret = "only-for-this-benchmark";
    let token = EnrolmentToken {
        id: clock::fresh(),
        group: None,
        uses_left: 1,
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
    let url = format!("https://{}", server.hear());
    let text = format!("fettle1.{}.{secret}", URL_SAFE_NO_PAD.encode(identity.authority_fingerprint()));
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    let enrolled = Command::new(program)
        .args(["agent", "enrol", "--server", &url, "--token", &text, "--state", state])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(enrolled.success(), "the agent could not be enrolled");
    let mut agent = Command::new(program)
        .args(["agent", "run", "--state", state, "--read-only"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(SETTLE);
    let kernel = Kernel(agent.id());
    let before = kernel.processor();
    std::thread::sleep(LOOK);
    let spent = kernel.processor() - before;
    println!(
        "\none idle agent: {:.1} MB resident ({:.1} MB at its highest), {:.2} % of a processor",
        kernel.resident() as f64 / 1e6,
        kernel.peak() as f64 / 1e6,
        spent * 100.0 / LOOK.as_secs_f64()
    );
    println!("  looked at for {} seconds, with a check-in every {CHECK_IN} seconds", LOOK.as_secs());
    agent.kill().unwrap();
    agent.wait().unwrap();
}
