//! `cargo xtask package`: builds the release binary and makes a `.deb` and an `.rpm` of it.
//!
//! Both formats are small (an `ar` with two `tar`s; a header and a `cpio`) and are written here, so that
//! the packages can be made on any machine and two runs over one binary give the same bytes.
//! `SOURCE_DATE_EPOCH` sets the time of every file; without it, the date of the last commit does.

mod binary;
mod build;
mod contents;
mod cpio;
mod deb;
mod rpm;
mod rpm_header;
mod tar;

#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const USAGE: &str = "usage: cargo xtask package [--target TRIPLE] [--output DIR]
       with a program that is there already: --binary FILE [--version V] [--documented-by FILE]";

/// What was asked for.
#[derive(Debug, Default)]
struct Asked {
    target: Option<String>,
    output: Option<PathBuf>,
    /// Package this program instead of building one.
    binary: Option<PathBuf>,
    version: Option<String>,
    /// The program that writes man pages and completions, when `binary` cannot run here.
    documented_by: Option<PathBuf>,
}

impl Asked {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut asked = Self::default();
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let value = rest.next().with_context(|| format!("{name} needs a value\n{USAGE}"))?;
            match *name {
                "--target" => asked.target = Some((*value).to_owned()),
                "--output" => asked.output = Some(PathBuf::from(value)),
                "--binary" => asked.binary = Some(PathBuf::from(value)),
                "--version" => asked.version = Some((*value).to_owned()),
                "--documented-by" => asked.documented_by = Some(PathBuf::from(value)),
                other => bail!("unknown option {other}\n{USAGE}"),
            }
        }
        Ok(asked)
    }
}

/// What goes into both packages besides the files.
struct About {
    version: String,
    architecture: Architecture,
    /// Of every file, in seconds since 1970.
    time: u32,
    needs: binary::Needs,
}

/// An architecture under the names of both formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Architecture {
    rust: &'static str,
    deb: &'static str,
    rpm: &'static str,
}

const ARCHITECTURES: [Architecture; 2] = [
    Architecture { rust: "x86_64", deb: "amd64", rpm: "x86_64" },
    Architecture { rust: "aarch64", deb: "arm64", rpm: "aarch64" },
];

impl Architecture {
    fn of_target(target: &str) -> Result<Self> {
        let word = target.split('-').next().unwrap_or_default();
        let known = ARCHITECTURES.into_iter().find(|known| known.rust == word);
        known.with_context(|| format!("packages are made for x86_64 and aarch64, not for {target}"))
    }
}

/// Builds and packages.
pub fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let asked = Asked::parse(arguments)?;
    let target = match &asked.target {
        Some(target) => target.clone(),
        None => build::host()?,
    };
    let architecture = Architecture::of_target(&target)?;
    let program = match &asked.binary {
        Some(binary) => binary.clone(),
        None => build::release(root, &target)?,
    };
    let documented_by = match &asked.documented_by {
        Some(other) => other.clone(),
        None if build::runs_here(&target)? => program.clone(),
        None => build::for_documents(root)?,
    };
    let bytes = std::fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let version = asked.version.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    anyhow::ensure!(is_version(&version), "`{version}` is no version: digits first, then letters, digits and . + ~");
    let about = About { version, architecture, time: time(root)?, needs: binary::Needs::of(&bytes) };
    let contents = contents::collect(root, bytes, &documented_by, &about)?;
    let output = asked.output.clone().unwrap_or_else(|| root.join("target/package"));
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let deb = (format!("fettle_{}_{}.deb", about.version, architecture.deb), deb::write(root, &contents, &about)?);
    let rpm = (format!("fettle-{}-1.{}.rpm", about.version, architecture.rpm), rpm::write(root, &contents, &about)?);
    for (name, bytes) in [deb, rpm] {
        let path = output.join(name);
        std::fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{} ({} bytes)", path.display(), bytes.len());
    }
    println!("needs: {}", about.needs.shown());
    Ok(())
}

/// A version that both formats take: no dash, which separates the revision in both.
fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '~'))
}

/// `SOURCE_DATE_EPOCH`, else the time of the last commit.
#[allow(clippy::disallowed_methods, reason = "the variable of reproducible-builds.org, read once")]
fn time(root: &Path) -> Result<u32> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().with_context(|| format!("SOURCE_DATE_EPOCH={text} is no time in seconds"));
    }
    let log = Command::new("git").current_dir(root).args(["log", "-1", "--format=%ct"]).output();
    let text = log.map(|log| String::from_utf8_lossy(&log.stdout).trim().to_owned()).unwrap_or_default();
    text.parse().context("neither SOURCE_DATE_EPOCH nor a git commit tells which time the files are to have")
}
