//! `cargo xtask`: keeps the tree as ARCHITECTURE.md says it is.
//!
//! - `check`: arrows, inner rules, rooms named, lints and versions inherited, licences, sources.
//! - `golden`: writes the golden files anew (then read the difference).
//! - `check-plugin [--fixtures DIR] EXECUTABLE [ARGUMENT…]`: tries a plug-in (docs/protocol.md).
//! - `package`: a `.deb` and an `.rpm` of the release binary.
//! - `sizes`: functions and files that grew past what one head holds (a report, never a failure).

mod arrows;
mod house;
mod inner;
mod licences;
mod metadata;
mod package;
mod plugin;
mod sizes;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<()> {
    let root = workspace_root()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["check"] => check(&root),
        ["golden"] => golden(&root),
        ["package", options @ ..] => package::run(&root, options),
        ["sizes"] => sizes::report(&root),
        ["check-plugin", ..] => plugin::check(arguments.get(1..).unwrap_or_default()),
        _ => bail!("usage: cargo xtask check | golden | package [OPTIONS] | sizes, or {}", plugin::USAGE),
    }
}

fn workspace_root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask lies outside the workspace")?.to_path_buf())
}

/// Runs every check, prints one line for each, and fails at the end when one failed.
fn check(root: &Path) -> Result<()> {
    let metadata = metadata::Metadata::load(root)?;
    let checks: [(&str, Vec<String>); 6] = [
        ("arrows between rooms", arrows::check(&metadata)),
        ("inner rules of server, store and app", inner::check(root)?),
        ("rooms named in ARCHITECTURE.md", house::rooms(root, &metadata)?),
        ("lints, versions and reasons inherited", house::manifests(root)?),
        ("licences and sources of dependencies", licences::check(&metadata)),
        ("names that must not be in the project", house::forbidden_names(root)?),
    ];
    let mut failed = 0;
    for (name, complaints) in checks {
        println!("{} {name}", if complaints.is_empty() { "ok    " } else { "FAILED" });
        for complaint in &complaints {
            println!("       {complaint}");
        }
        failed += usize::from(!complaints.is_empty());
    }
    if failed > 0 {
        bail!("{failed} of 6 checks failed");
    }
    Ok(())
}

/// Golden files are written by the tests that compare them.
fn golden(root: &Path) -> Result<()> {
    let status = Command::new("cargo")
        .current_dir(root)
        .env("FETTLE_UPDATE_GOLDEN", "1")
        .args(["test", "--quiet", "--workspace", "golden"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("a golden test failed while writing; see above");
    }
    println!("golden files written; read the difference: git diff docs crates/*/tests");
    Ok(())
}
