//! What the agent costs a host: memory and processor time while nothing happens, the processor time
//! of an inventory of 3,000 packages, and the bytes sent when one package changed, beside the naive
//! form (the whole inventory each time) in the same run. Run by `./bench agent`, as root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod counting;
#[allow(dead_code, reason = "the other bench needs the rest")]
#[path = "../checkin/agent.rs"]
mod idle;
#[allow(dead_code, reason = "the other bench needs the rest")]
#[path = "../checkin/process.rs"]
mod process;
mod root;
#[path = "../checkin/server.rs"]
mod server;

use counting::Counting;
use fettle_server::identity::{self, Identity};
use idle::{Enrolled, Idle};
use process::Kernel;
use std::process::{Command, Stdio};

/// Inventories whose processor time is taken together: the kernel counts in hundredths of a second.
const INVENTORIES: u32 = 20;
/// Packages of the measured host.
const PACKAGES: usize = 3_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["server", data, url, grouped, seconds] => {
            server::run(data.into(), (*url).to_owned(), *grouped == "grouped", seconds.parse().unwrap());
        }
        ["--agent", program] => conduct(program),
        _ => {
            eprintln!("usage: ./bench agent");
            std::process::exit(2);
        }
    }
}

fn conduct(program: &str) {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "run it as root: the two halves of the agent are two users, and the host of 3,000 packages is mounted"
        );
        std::process::exit(2);
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    identity::prepare_data_dir(&data).unwrap();
    let identity =
        Identity::load_or_create(&data, &identity::server_names("127.0.0.1:0".parse().unwrap(), &[])).unwrap();
    let host = root::Root::new(PACKAGES);
    println!("the agent alone ({}), a host of {PACKAGES} packages", size(std::fs::metadata(program).unwrap().len()));

    inventory(program, &host);
    let enrolled = Enrolled::new(program, &identity, &data);
    bytes(&enrolled, &host);
    let measured = Idle::measure(&enrolled, Some(&host.dpkg()));
    measured.print();
    println!(
        "\nquoted for comparison: Nessus Agent, about 50 MB of memory while it does not scan, about 8 MB a day over the"
    );
    println!("network (docs.tenable.com, Software Footprint); not measured here");
}

/// Processor time of one inventory.
fn inventory(program: &str, host: &root::Root) {
    let root = host.path().to_str().unwrap().to_owned();
    let run = || {
        let mut command = Command::new(program);
        let ended = command.args(["agent", "inventory", "--root", &root]).stdout(Stdio::null()).status().unwrap();
        assert!(ended.success());
    };
    run();
    let own = Kernel(std::process::id());
    let before = own.children();
    for _ in 0..INVENTORIES {
        run();
    }
    let each = (own.children() - before) / f64::from(INVENTORIES) * 1000.0;
    println!("\none whole inventory, program start and output included: {each:.0} ms of processor time (goal 300)");
}

/// Bytes over TLS, both ways, for one round of `agent run --once`: connection, check-ins, a look for work.
fn bytes(enrolled: &Enrolled, host: &root::Root) {
    let counting = Counting::before(&enrolled.address);
    let agent = enrolled.enrol(&counting.address(), host.path());
    let round = |what: &dyn Fn()| {
        what();
        let before = counting.sent();
        agent.once();
        counting.sent() - before
    };
    let first = round(&|| {});
    let nothing = round(&|| {});
    let changed = round(&|| host.upgrade(7));
    let naive = round(&|| {
        host.upgrade(8);
        agent.forget_what_the_server_has();
    });
    println!("\nbytes from the host to the server in one round (a new connection with its handshake each time):");
    println!("  first inventory                         {:>10}", first);
    println!("  nothing changed                         {:>10}", nothing);
    println!("  one package changed                     {:>10}", changed);
    println!("  the same, whole inventory each time     {:>10}   {:.0} times", naive, naive as f64 / changed as f64);
    let (difference, whole) = (changed.saturating_sub(nothing), naive.saturating_sub(nothing));
    println!(
        "  without what a round costs anyway: {difference} and {whole} bytes, {:.0} times",
        whole as f64 / difference.max(1) as f64
    );
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
