//! How fast what publishers say becomes what hosts have: a tracker document of the real size is read,
//! stored, indexed, and matched against a made-up fleet. Prints a table; run by `./bench matching`.
//!
//! The document is made here from a fixed seed, in the real one's form and proportions (4,500 source
//! packages, a kernel with thousands of flaws, six releases); `FETTLE_BENCH_TRACKER` names a real one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use fettle_content::sha256_hex;
use fettle_domain::advisory::{Epss, FeedName, VulnId, VulnerabilityFacts};
use fettle_domain::finding::Verdict;
use fettle_domain::host::Kernel;
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_plugin::Document;
use fettle_process::gathering::{AdvisoryIndex, HostPicture, evaluate_host, present_on_host, source_groups};
use fettle_store::patches::{advisory, vulnerability};
use fettle_testkit::TestDatabase;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOURCES: usize = 4_500;
const RELEASES: [&str; 6] = ["buster", "bullseye", "bookworm", "trixie", "forky", "sid"];
const SCORES: usize = 300_000;
const HOSTS: usize = 2_000;
const PACKAGES: usize = 590;

/// Numbers that look random and are the same each time (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

fn source(number: usize) -> String {
    if number == 0 { "linux".to_owned() } else { format!("source-{number}") }
}

/// Version of a source package: what most hosts have, a security update before or after.
fn version(number: usize, update: usize) -> String {
    format!("{}.{}-1+deb12u{update}", 1 + number % 7, number % 90)
}

fn tracker() -> String {
    let mut dice = Dice(1);
    let mut text = String::from("{");
    for number in 0..SOURCES {
        let flaws = if number == 0 { 6_000 } else { (40 / (1 + dice.throw(40))).min(800) + dice.throw(30) };
        write!(text, "{}\"{}\": {{", if number == 0 { "" } else { ", " }, source(number)).unwrap();
        for flaw in 0..flaws {
            let name = format!("CVE-{}-{}", 2005 + dice.throw(22), 1_000 + number * 13 + flaw);
            write!(
                text,
                "{}\"{name}\": {{\"description\": \"{}\", \"scope\": \"local\", \"releases\": {{",
                if flaw == 0 { "" } else { ", " },
                "A flaw in the parser allows remote attackers to cause a denial of service. ".repeat(4)
            )
            .unwrap();
            for (place, release) in RELEASES.iter().enumerate() {
                let statement = match dice.throw(20) {
                    0 => "\"status\": \"open\", \"nodsa\": \"Minor issue\", \"nodsa_reason\": \"\"".to_owned(),
                    1 if dice.throw(3) == 0 => "\"status\": \"open\"".to_owned(),
                    2..=8 => "\"status\": \"resolved\", \"fixed_version\": \"0\"".to_owned(),
                    _ => format!(
                        "\"status\": \"resolved\", \"fixed_version\": \"{}\"",
                        version(number, [0, 0, 0, 0, 1, 2][dice.throw(6)])
                    ),
                };
                write!(text, "{}\"{release}\": {{{statement}, \"repositories\": {{\"{release}\": \"1.0-1\"}}, \"urgency\": \"not yet assigned\"}}", if place == 0 { "" } else { ", " }).unwrap();
            }
            text.push_str("}}");
        }
        text.push('}');
    }
    text.push('}');
    text
}

fn host(dice: &mut Dice) -> Vec<InstalledPackage> {
    (0..PACKAGES)
        .map(|place| {
            let number = if place == 0 { 0 } else { dice.throw(SOURCES) };
            let version = version(number, dice.throw(4));
            let name =
                if number == 0 { "linux-image-6.1.0-18-amd64".to_owned() } else { format!("lib{}", source(number)) };
            InstalledPackage {
                package: PackageVersion {
                    ecosystem: Ecosystem::Debian,
                    name,
                    version: version.clone(),
                    architecture: "amd64".into(),
                    source: source(number),
                    source_version: version,
                },
                origin: String::new(),
                held: false,
                automatic: true,
                state: InstallState::Installed,
            }
        })
        .collect()
}

fn timed<T>(what: &str, detail: impl FnOnce(&T, Duration) -> String, act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let made = act();
    let took = start.elapsed();
    println!("{what:<46} {:>9.3} s  {}", took.as_secs_f64(), detail(&made, took));
    made
}

/// Resident memory of this process, in MB (proc(5)).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn main() {
    let document = match std::env::var_os("FETTLE_BENCH_TRACKER") {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => tracker(),
    };
    println!("tracker document of {} MB", document.len() >> 20);
    let feeds = fettle_vendors::feeds();
    let feed = feeds.first().unwrap();
    let content = timed(
        "read the document",
        |content: &fettle_plugin::FeedContent, took| {
            let speed = document.len() as f64 / took.as_secs_f64() / f64::from(1 << 20);
            format!("{} statements, {} problems, {speed:.0} MB/s", content.advisories.len(), content.problems.len())
        },
        || feed.read(Document { name: "tracker.json", bytes: document.as_bytes() }).unwrap(),
    );
    drop(document);
    for database in TestDatabase::all() {
        store(&database, &content.advisories);
    }
    let before = resident();
    let advisories = content.advisories;
    let index = timed(
        "index them",
        |index: &AdvisoryIndex, _| format!("{} statements", index.len()),
        || AdvisoryIndex::new(advisories),
    );
    println!("{:<46} {:>9} MB resident ({before} before)", "with statements in the index", resident());
    fleet(&index);
}

fn store(database: &TestDatabase, advisories: &[fettle_domain::advisory::Advisory]) {
    let kind = database.kind;
    let store = database.open();
    let feed = FeedName("debian-tracker".into());
    let sets = timed(
        "group into sets",
        |sets: &Vec<_>, _| format!("{} sets", sets.len()),
        || advisory::advisory_sets(advisories.to_vec(), sha256_hex).unwrap(),
    );
    let again = sets.clone();
    let name = feed.clone();
    timed(
        &format!("{kind}: store all sets"),
        |changed: &u64, _| format!("{changed} changed"),
        || store.write_blocking(move |connection| advisory::advisory_replace(connection, &name, &sets)).unwrap(),
    );
    timed(
        &format!("{kind}: store the same again"),
        |changed: &u64, _| format!("{changed} changed"),
        || store.write_blocking(move |connection| advisory::advisory_replace(connection, &feed, &again)).unwrap(),
    );
    let scores: Vec<(VulnId, VulnerabilityFacts)> = (0..SCORES)
        .map(|number| {
            let epss = Epss { score: (number % 1000) as f64 / 1000.0, percentile: 0.5 };
            (
                VulnId(format!("CVE-{}-{}", 2000 + number % 26, 10_000 + number)),
                VulnerabilityFacts { epss: Some(epss), ..Default::default() },
            )
        })
        .collect();
    for (what, scale) in [("first", 1.0), ("same", 1.0), ("other", 0.5)] {
        let scores: Vec<_> = scores
            .iter()
            .cloned()
            .map(|(id, mut facts)| {
                if let Some(epss) = &mut facts.epss {
                    epss.score *= scale
                }
                (id, facts)
            })
            .collect();
        timed(
            &format!("{kind}: store {SCORES} EPSS scores, {what}"),
            |changed: &u64, _| format!("{changed} changed"),
            || {
                scores
                    .chunks(4000)
                    .map(|chunk| {
                        let chunk = chunk.to_vec();
                        store
                            .write_blocking(move |connection| vulnerability::vulnerability_merge(connection, &chunk))
                            .unwrap()
                    })
                    .sum()
            },
        );
    }
    timed(
        &format!("{kind}: read all sets back"),
        |number: &usize, _| format!("{number} statements"),
        || {
            let mut number = 0;
            let releases = RELEASES.map(str::to_owned);
            store
                .read_blocking(|connection| advisory::advisory_each(connection, &releases, |set| number += set.len()))
                .unwrap();
            number
        },
    );
}

fn fleet(index: &AdvisoryIndex) {
    let mut dice = Dice(7);
    let hosts: Vec<Vec<InstalledPackage>> = (0..HOSTS).map(|_| host(&mut dice)).collect();
    let kernel = Kernel::default();
    let picture = |packages| HostPicture { release: "bookworm", packages, kernel: &kernel };
    let each = |number: &usize, took: Duration| {
        format!("{number} verdicts, {:.0} us a host", took.as_secs_f64() * 1e6 / HOSTS as f64)
    };
    timed(&format!("what is present on {HOSTS} different hosts"), each, || {
        hosts.iter().map(|packages| present_on_host(index, picture(packages)).len()).sum::<usize>()
    });
    let mut memory: HashMap<String, Arc<[Verdict]>> = HashMap::new();
    for round in ["first", "again"] {
        timed(&format!("the same with what is known remembered, {round}"), each, || {
            let mut number = 0;
            for packages in &hosts {
                for group in source_groups(picture(packages)) {
                    let present = memory.entry(group.key()).or_insert_with(|| group.present(index).into());
                    number += present.len();
                }
            }
            number
        });
    }
    println!("{:<46} {:>9} MB resident", "with everything remembered", resident());
    let some = &hosts[..100];
    timed(
        "every verdict on 100 of them, with reasons",
        |number: &usize, took| format!("{number} verdicts, {:.0} us a host", took.as_secs_f64() * 1e4),
        || some.iter().map(|packages| evaluate_host(index, picture(packages)).len()).sum::<usize>(),
    );
}
