//! How fast hosts check in, and what that costs: a fleet of protocol-level hosts over real TLS with
//! certificates of their own against the real server, first inventories, then digests, then
//! differences, on both databases, and the same with one transaction each. Run by `./bench checkin`.
//!
//! Server, clients and this conductor are three processes: each has its own descriptors and memory.

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

#[allow(dead_code, reason = "the other bench needs the rest")]
mod agent;
mod clients;
mod fleet;
#[allow(dead_code, reason = "the other bench needs the rest")]
mod process;
mod server;
mod table;

use fettle_domain::HostId;
use fettle_server::clock;
use fettle_server::identity::{self, Identity};
use fettle_store::Store;
use fettle_store::systems::host::{self, HostFactsColumns};
use fettle_testkit::TestDatabase;
use process::Talking;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Descriptors that a server needs beside its connections.
const SPARE: u64 = 200;
/// Client keys; making one for each host would only warm the machine.
const KEYS: usize = 16;
/// Passes of the digests.
const ROUNDS: usize = 3;

/// Hosts with their certificates, for the clients.
#[derive(Serialize, Deserialize)]
pub struct Fleet {
    authority: String,
    keys: Vec<String>,
    hosts: Vec<(HostId, String)>,
}

/// One pass over the fleet, by the clients' clocks.
#[derive(Serialize, Deserialize, Clone, Default)]
pub struct Measured {
    requests: usize,
    seconds: f64,
    middle_ms: f64,
    slow_ms: f64,
    reconnects: usize,
}

/// One pass with what it cost the server.
#[derive(Clone, Default)]
pub struct Pass {
    clients: Measured,
    server_cpu: f64,
    resident: u64,
}

/// One database, written in one way.
pub struct Run {
    kind: &'static str,
    grouped: bool,
    passes: Vec<(&'static str, Pass)>,
    peak: u64,
    sizes: Sizes,
    waiting: Option<Waiting>,
}

/// Bytes in the database.
#[derive(Default)]
pub struct Sizes {
    total: i64,
    empty: i64,
    sets: i64,
    set_bytes: i64,
    versions: i64,
    facts: i64,
}

/// What waiting agents cost.
pub struct Waiting {
    before: u64,
    connected: u64,
    after: u64,
    agents: usize,
}

struct Options {
    hosts: usize,
    in_flight: usize,
    databases: String,
    agent: Option<String>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["server", data, url, grouped, seconds] => {
            raise_limit();
            server::run(data.into(), (*url).to_owned(), *grouped == "grouped", seconds.parse().unwrap());
        }
        ["clients", server, fleet, in_flight] => {
            raise_limit();
            let fleet = serde_json::from_slice(&std::fs::read(fleet).unwrap()).unwrap();
            clients::run(server.parse().unwrap(), fleet, in_flight.parse().unwrap());
        }
        words => conduct(options(words)),
    }
}

fn options(words: &[&str]) -> Options {
    let mut options = Options { hosts: 20_000, in_flight: 512, databases: "both".into(), agent: None };
    for pair in words.chunks(2) {
        match pair {
            ["--hosts", number] => options.hosts = number.parse().expect("--hosts takes a number"),
            ["--in-flight", number] => options.in_flight = number.parse().expect("--in-flight takes a number"),
            ["--database", name @ ("sqlite" | "postgres" | "both")] => options.databases = (*name).to_owned(),
            ["--agent", path] => options.agent = Some((*path).to_owned()),
            _ => {
                eprintln!(
                    "usage: ./bench checkin [--hosts N] [--in-flight N] [--database sqlite|postgres|both] [--agent FETTLE]"
                );
                std::process::exit(2);
            }
        }
    }
    options
}

/// As many descriptors as we may have.
fn raise_limit() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.unwrap_or(u64::MAX)
}

fn conduct(mut options: Options) {
    let limit = raise_limit();
    // A connection that is made anew may overlap with its former one at the server.
    let most = usize::try_from(limit.saturating_sub(SPARE)).unwrap_or(usize::MAX).saturating_sub(options.in_flight);
    let wanted = options.hosts;
    options.hosts = wanted.min(most);
    println!(
        "check-in of {} hosts with {} packages each over TLS, {} requests in flight,",
        options.hosts,
        fleet::PACKAGES,
        options.in_flight
    );
    println!("server and clients on the same {} processors", std::thread::available_parallelism().unwrap());
    if options.hosts < wanted {
        println!("({wanted} were wanted; the descriptor limit of {limit} allows no more)");
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    identity::prepare_data_dir(&data).unwrap();
    let identity =
        Identity::load_or_create(&data, &identity::server_names("127.0.0.1:0".parse().unwrap(), &[])).unwrap();
    let fleet = make_fleet(&identity, options.hosts);
    let fleet_file = folder.path().join("fleet.json");
    std::fs::write(&fleet_file, serde_json::to_vec(&fleet).unwrap()).unwrap();
    let mut kinds: Vec<fn() -> Option<TestDatabase>> = Vec::new();
    if options.databases != "postgres" {
        kinds.push(|| Some(TestDatabase::sqlite()));
    }
    if options.databases != "sqlite" {
        kinds.push(TestDatabase::postgres);
    }
    for make in kinds {
        let mut runs = Vec::new();
        for grouped in [true, false] {
            let Some(database) = make() else { break };
            eprintln!("… {}, {}", database.kind, if grouped { "grouped" } else { "one transaction each" });
            runs.push(run(&database, grouped, &fleet, &data, &fleet_file, options.in_flight));
        }
        table::print(&runs);
    }
    if let Some(program) = &options.agent {
        agent::measure(program, &identity, &data);
    }
}

/// Of the fleet's certificates.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

fn make_fleet(identity: &Identity, hosts: usize) -> Fleet {
    let keys: Vec<rcgen::KeyPair> = (0..KEYS).map(|_| rcgen::KeyPair::generate().unwrap()).collect();
    let requests: Vec<String> = keys
        .iter()
        .map(|key| {
            rcgen::CertificateParams::new(Vec::<String>::new()).unwrap().serialize_request(key).unwrap().pem().unwrap()
        })
        .collect();
    let hosts = (0..hosts).map(|number| {
        let id: HostId = clock::fresh();
        (id, identity.issue_client_certificate(&requests[number % KEYS], id, clock::now(), LIFE).unwrap().pem)
    });
    Fleet {
        authority: identity.authority_pem().to_owned(),
        hosts: hosts.collect(),
        keys: keys.iter().map(rcgen::KeyPair::serialize_pem).collect(),
    }
}

fn run(database: &TestDatabase, grouped: bool, fleet: &Fleet, data: &Path, fleet_file: &Path, in_flight: usize) -> Run {
    let empty = register(&database.open(), fleet);
    let url = database.url_text();
    let data = data.to_str().unwrap();
    let mode = if grouped { "grouped" } else { "single" };
    let mut passes = Vec::new();
    let mut server = Talking::start(&["server", data, &url, mode, "300"]);
    let address = server.hear();
    let mut clients = Talking::start(&["clients", &address, fleet_file.to_str().unwrap(), &in_flight.to_string()]);
    let plan = [("connect", 1), ("inventory", 1), ("digest", ROUNDS), ("difference", 1)];
    let mut kept = Sizes::default();
    for (what, rounds) in plan {
        if what == "difference" {
            // Before the former sets are there as well: those go a day after nobody has them.
            kept = sizes(&database.open(), empty);
        }
        for _ in 0..rounds {
            passes.push((what, pass(&mut server, &mut clients, what)));
        }
    }
    let peak = server.kernel().peak();
    // The clients first: an open connection holds the server's end back.
    drop(clients);
    drop(server);
    let waiting = grouped.then(|| waiting(data, &url, fleet_file, fleet.hosts.len()));
    Run { kind: database.kind, grouped, passes, peak, sizes: kept, waiting }
}

/// Puts the hosts into the database as enrolment would. Its size then.
fn register(store: &Store, fleet: &Fleet) -> i64 {
    let now = clock::now();
    for (part, hosts) in fleet.hosts.chunks(1000).enumerate() {
        let hosts: Vec<(usize, HostId)> =
            hosts.iter().enumerate().map(|(place, (id, _))| (part * 1000 + place, *id)).collect();
        store
            .write_blocking(move |connection| {
                for (number, id) in &hosts {
                    let columns = HostFactsColumns {
                        name: fleet::name(*number),
                        json: "{}".into(),
                        ..HostFactsColumns::default()
                    };
                    host::host_create(connection, *id, &columns, "0.1.0", now)?;
                }
                Ok(())
            })
            .unwrap();
    }
    total_bytes(store)
}

fn pass(server: &mut Talking, clients: &mut Talking, what: &str) -> Pass {
    let before = server.kernel().processor();
    clients.say(what);
    let measured: Measured = serde_json::from_str(&clients.hear()).unwrap();
    eprintln!("  {what}: {:.0}/s", measured.requests as f64 / measured.seconds);
    Pass { clients: measured, server_cpu: server.kernel().processor() - before, resident: server.kernel().resident() }
}

/// A server that just started, and all hosts waiting for work at once.
fn waiting(data: &str, url: &str, fleet_file: &Path, agents: usize) -> Waiting {
    let mut server = Talking::start(&["server", data, url, "grouped", "300"]);
    let address = server.hear();
    let mut clients = Talking::start(&["clients", &address, fleet_file.to_str().unwrap(), "64"]);
    let before = server.kernel().resident();
    clients.say("connect");
    clients.hear();
    let connected = server.kernel().resident();
    clients.say("wait");
    // Fifty seconds until the first answers: by then all wait, and the memory stands still.
    std::thread::sleep(Duration::from_secs(30));
    let after = server.kernel().resident();
    clients.hear();
    drop(clients);
    Waiting { before, connected, after, agents }
}

fn total_bytes(store: &Store) -> i64 {
    let sql = match store.dialect() {
        fettle_store::Dialect::Sqlite => "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        fettle_store::Dialect::Postgres => "SELECT pg_database_size(current_database())",
    };
    number(store, sql)
}

fn number(store: &Store, sql: &'static str) -> i64 {
    store.read_blocking(move |connection| connection.query_one(sql, &[])?.unwrap().int(0)).unwrap()
}

fn sizes(store: &Store, empty: i64) -> Sizes {
    Sizes {
        total: total_bytes(store),
        empty,
        sets: number(store, "SELECT COUNT(*) FROM package_set"),
        set_bytes: number(store, "SELECT CAST(SUM(LENGTH(members) + LENGTH(marks)) AS BIGINT) FROM package_set"),
        versions: number(store, "SELECT COUNT(*) FROM package_version"),
        facts: number(store, "SELECT CAST(SUM(LENGTH(facts) + LENGTH(services)) AS BIGINT) FROM host_report"),
    }
}
