//! `cargo xtask check-plugin`: the conformance suite of `fettle-plugin` on any executable.

use anyhow::{Context, Result, bail};
use fettle_plugin::conformance::{self, Fixtures};
use fettle_plugin::host::Launch;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How it is called.
pub const USAGE: &str = "cargo xtask check-plugin [--fixtures DIR] EXECUTABLE [ARGUMENT…]";

/// Runs every check and prints one line for each; fails at the end when one failed.
pub fn check(arguments: &[String]) -> Result<()> {
    let (fixtures, rest) = match arguments {
        [flag, folder, rest @ ..] if flag == "--fixtures" => {
            let fixtures = Fixtures::load(Path::new(folder)).with_context(|| format!("cannot read {folder}"))?;
            (fixtures, rest)
        }
        rest => (Fixtures::default(), rest),
    };
    let [program, rest @ ..] = rest else { bail!("usage: {USAGE}") };
    let program: PathBuf =
        std::fs::canonicalize(program).with_context(|| format!("cannot find the executable {program}"))?;
    let words: Vec<OsString> = rest.iter().map(OsString::from).collect();
    let scratch = std::env::temp_dir().join(format!("check-plugin-{}", std::process::id()));
    let report = conformance::over_stdio(&Launch::trial(&program, &words, &scratch), &fixtures);
    let _ = std::fs::remove_dir_all(&scratch);
    println!("{report}");
    if !report.is_good() {
        eprintln!("{} does not keep to docs/protocol.md", program.display());
        std::process::exit(1);
    }
    Ok(())
}
