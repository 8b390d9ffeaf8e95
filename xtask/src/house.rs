//! The house: rooms and map agree, manifests inherit, nothing of the workplace leaks in.

use crate::metadata::Metadata;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// ARCHITECTURE.md has one row `| `room` | …` for each crate, and none for what is not there.
pub fn rooms(root: &Path, metadata: &Metadata) -> Result<Vec<String>> {
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).context("cannot read ARCHITECTURE.md")?;
    let named: BTreeSet<&str> = map
        .lines()
        .filter_map(|line| line.strip_prefix("| `crates/"))
        .filter_map(|rest| rest.split('`').next())
        .collect();
    let real: BTreeSet<&str> = metadata.ours().filter_map(|package| package.name.strip_prefix("fettle-")).collect();
    let missing = real.difference(&named).map(|room| format!("ARCHITECTURE.md does not name crates/{room}"));
    let gone = named.difference(&real).map(|room| format!("ARCHITECTURE.md names crates/{room}, which is not there"));
    Ok(missing.chain(gone).collect())
}

/// Every member inherits lints, edition, version and licence, and takes outside crates from the root.
pub fn manifests(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    let mut paths: Vec<_> =
        fs::read_dir(root.join("crates"))?.filter_map(|entry| Some(entry.ok()?.path().join("Cargo.toml"))).collect();
    paths.push(root.join("xtask/Cargo.toml"));
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = crate::inner::show(root, &path);
        if !text.contains("[lints]\nworkspace = true") {
            complaints.push(format!("{name}: lints are not inherited"));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !text.contains(&format!("{key}.workspace = true")) {
                complaints.push(format!("{name}: `{key}` is not inherited"));
            }
        }
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            } else if section.contains("dependencies") && line.contains("version =") {
                complaints.push(format!("{name}: `{line}` names a version; it belongs into the root"));
            }
        }
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let outside = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    for line in outside.lines().take_while(|line| !line.starts_with('[')) {
        if line.contains(" = ") && !line.starts_with("fettle-") && !line.contains('#') {
            complaints.push(format!("Cargo.toml: `{line}` has no reason"));
        }
    }
    Ok(complaints)
}

/// Words of one workplace that no user would understand.
const FORBIDDEN: &[&str] = &[
    "/wo\u{72}k/",
    "farm-\u{62}ench",
    "farm-\u{73}tudio",
    "/tmp/\u{62}ash",
    "crates.i\u{6f}/api",
    "index.crates.i\u{6f}",
];

/// Tracked text files that hold one of them.
pub fn forbidden_names(root: &Path) -> Result<Vec<String>> {
    let output =
        Command::new("git").current_dir(root).args(["ls-files", "-z"]).output().context("cannot run git ls-files")?;
    let mut complaints = Vec::new();
    for name in
        String::from_utf8_lossy(&output.stdout).split('\0').filter(|name| !name.is_empty() && *name != "Cargo.lock")
    {
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        for word in FORBIDDEN.iter().filter(|word| text.contains(**word)) {
            complaints.push(format!("{name} names `{word}`"));
        }
    }
    Ok(complaints)
}
