//! What `cargo metadata` says, reduced to what the checks need.

use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// One package of the dependency graph.
pub struct Package {
    /// Its name.
    pub name: String,
    /// SPDX expression.
    pub licence: String,
    /// Where it comes from; empty for our own.
    pub source: String,
    /// Names of direct dependencies with their kind (`normal`, `dev`, `build`).
    pub dependencies: Vec<(String, String)>,
}

/// The graph.
pub struct Metadata {
    /// All packages, ours and others.
    pub packages: Vec<Package>,
}

impl Metadata {
    /// Asks cargo.
    pub fn load(root: &Path) -> Result<Self> {
        let output = Command::new("cargo")
            .current_dir(root)
            .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
            .output()
            .context("cannot run cargo metadata")?;
        anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
        let packages = json.get("packages").and_then(Value::as_array).context("cargo metadata lists no packages")?;
        Ok(Self { packages: packages.iter().map(package).collect() })
    }

    /// Our own packages: those without a source.
    pub fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_empty())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn package(json: &Value) -> Package {
    let dependencies = json["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    Package {
        name: text(&json["name"]),
        licence: text(&json["license"]),
        source: text(&json["source"]),
        dependencies: dependencies
            .iter()
            .map(|dependency| {
                let kind = dependency["kind"].as_str().unwrap_or("normal");
                (text(&dependency["name"]), kind.to_owned())
            })
            .collect(),
    }
}
