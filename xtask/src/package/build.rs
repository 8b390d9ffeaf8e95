//! Building the program, for this machine or another.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// This machine's own target.
pub(super) fn host() -> Result<String> {
    let said = output(Command::new("rustc").arg("-vV"))?;
    let line = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc -vV names no host")?.to_owned())
}

/// Whether programs for this target run on this machine.
pub(super) fn runs_here(target: &str) -> Result<bool> {
    let host = host()?;
    let same = |part: usize| host.split('-').nth(part) == target.split('-').nth(part);
    Ok(same(0) && same(2))
}

/// Builds the release program; says what is missing where it cannot.
pub(super) fn release(root: &Path, target: &str) -> Result<PathBuf> {
    let mut command = cargo(root);
    command.args(["build", "--locked", "--release", "--package", "fettle-app"]);
    let mut folder = target_folder(root)?;
    if target != host()? {
        command.args(["--target", target]);
        folder.push(target);
        let compiler = compiler(target)?;
        command.env(format!("CC_{}", target.replace('-', "_")), &compiler.name);
        if !compiler.flags.is_empty() {
            command.env(format!("CFLAGS_{}", target.replace('-', "_")), compiler.flags);
        }
        if let Some(linker) = compiler.linker {
            let variable = format!("CARGO_TARGET_{}_LINKER", target.replace('-', "_").to_uppercase());
            command.env(variable, linker);
        }
        has_standard_library(target)?;
    }
    let status = command.status().context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "the build for {target} failed; see above");
    Ok(folder.join("release/fettle"))
}

/// A program of this machine's own, which writes the man pages for one that cannot run here.
pub(super) fn for_documents(root: &Path) -> Result<PathBuf> {
    let status = cargo(root).args(["build", "--locked", "--package", "fettle-app"]).status();
    anyhow::ensure!(status.context("cannot run cargo")?.success(), "the build failed; see above");
    Ok(target_folder(root)?.join("debug/fettle"))
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    command
}

fn target_folder(root: &Path) -> Result<PathBuf> {
    let said = output(cargo(root).args(["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&said).context("cargo metadata printed no JSON")?;
    let folder = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(PathBuf::from(folder.context("cargo metadata names no target directory")?))
}

/// The C compiler for a target that is not this machine's.
struct Compiler {
    name: String,
    flags: &'static str,
    /// In place of the one that rustc takes.
    linker: Option<String>,
}

/// SQLite and ring are C: without a compiler for the target there is no program.
fn compiler(target: &str) -> Result<Compiler> {
    let word = target.split('-').next().unwrap_or_default();
    let musl = target.ends_with("-musl");
    let own = host()?.starts_with(&format!("{word}-"));
    let candidates: &[(String, &str, bool)] = match (musl, own) {
        (true, true) => &[("musl-gcc".to_owned(), "", false), (format!("{word}-linux-musl-gcc"), "", false)],
        // A compiler for glibc will do where its headers lead to no function that musl lacks.
        (true, false) => &[
            (format!("{word}-linux-musl-gcc"), "", true),
            (format!("{word}-linux-gnu-gcc"), "-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0", true),
        ],
        (false, _) => &[(format!("{word}-linux-gnu-gcc"), "", true)],
    };
    for (name, flags, links) in candidates {
        if Command::new(name).arg("--version").output().is_ok_and(|said| said.status.success()) {
            let linker = links.then(|| name.clone());
            return Ok(Compiler { name: name.clone(), flags, linker });
        }
    }
    let names: Vec<&str> = candidates.iter().map(|(name, ..)| name.as_str()).collect();
    let package = if musl && own { "musl-tools".to_owned() } else { format!("gcc-{word}-linux-gnu") };
    bail!(
        "no C compiler for {target} ({}): apt-get install {package}, or leave out --target to build for this machine's own C library",
        names.join(" or ")
    )
}

/// A missing standard library gives a hundred errors otherwise.
fn has_standard_library(target: &str) -> Result<()> {
    let folder = output(Command::new("rustc").args(["--target", target, "--print", "target-libdir"]))?;
    anyhow::ensure!(
        Path::new(folder.trim()).is_dir(),
        "the Rust toolchain has no standard library for {target}: rustup target add {target}"
    );
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let said = command.output().with_context(|| format!("cannot run {command:?}"))?;
    anyhow::ensure!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
