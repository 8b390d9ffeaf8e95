//! The never-arrows: which room may use which, and which outside crates pure rooms must not see.

use crate::metadata::Metadata;

/// Room, rooms of ours it may use, outside crates it must never use.
const RULES: &[(&str, &[&str], &[&str])] = &[
    ("domain", &[], &["tokio", "rusqlite", "postgres", "axum", "reqwest", "ring", "rustix"]),
    ("process", &["domain"], &["tokio", "rusqlite", "postgres", "axum", "reqwest", "ring", "rustix"]),
    ("wire", &["domain"], &["tokio", "axum", "reqwest", "rusqlite"]),
    ("plugin", &["domain", "wire"], &["tokio", "axum", "reqwest", "rusqlite"]),
    ("vendors", &["domain", "plugin"], &["tokio", "axum", "reqwest", "hyper", "rustls"]),
    ("content", &["domain"], &["tokio", "axum", "reqwest", "rusqlite", "postgres"]),
    ("store", &["domain"], &["axum", "reqwest"]),
    ("agent", &["domain", "wire", "plugin", "content"], &["axum", "rusqlite", "postgres"]),
    ("server", &["domain", "process", "wire", "plugin", "content", "store"], &["rusqlite", "postgres"]),
    (
        "app",
        &["domain", "process", "wire", "plugin", "vendors", "content", "store", "agent", "server"],
        &["rusqlite", "postgres", "axum"],
    ),
    ("testkit", &["domain", "process", "wire", "plugin", "vendors", "content", "store", "agent", "server"], &[]),
];

/// Every arrow that is not in the table.
pub fn check(metadata: &Metadata) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in metadata.ours() {
        let Some(room) = package.name.strip_prefix("fettle-") else { continue };
        let Some((_, allowed, banned)) = RULES.iter().find(|(name, ..)| *name == room) else {
            complaints.push(format!("room `{room}` is not in the table of arrows (xtask/src/arrows.rs)"));
            continue;
        };
        for (dependency, kind) in package.dependencies.iter().filter(|(_, kind)| kind != "dev") {
            match dependency.strip_prefix("fettle-") {
                Some("testkit") => complaints.push(format!("{room} uses testkit as a {kind} dependency")),
                Some(used) if !allowed.contains(&used) => complaints.push(format!("{room} must never use {used}")),
                Some(_) => {}
                None if banned.contains(&dependency.as_str()) => {
                    complaints.push(format!("{room} must never use the crate {dependency}"));
                }
                None => {}
            }
        }
    }
    complaints
}
