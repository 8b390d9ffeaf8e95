//! `fettle vercmp`: orders two versions, or checks a table of comparisons.

use crate::cli::Vercmp;
use crate::failure::Failure;
use crate::output;
use fettle_domain::version::{Scheme, table};
use std::cmp::Ordering;

fn scheme(name: &str) -> Result<Scheme, Failure> {
    Scheme::parse(name).ok_or_else(|| Failure::usage(format!("there is no ordering `{name}`")).advise("Known: dpkg."))
}

/// Runs it.
pub fn run(command: &Vercmp) -> Result<(), Failure> {
    if let Some([name, file]) = command.file.as_deref() {
        return check(name, file);
    }
    let (Some(ecosystem), Some(a), Some(b)) = (&command.ecosystem, &command.a, &command.b) else {
        return Err(Failure::usage("two versions are needed"));
    };
    let order = scheme(ecosystem)?.compare(a, b).map_err(Failure::usage)?;
    output::line(match order {
        Ordering::Less => "<",
        Ordering::Equal => "=",
        Ordering::Greater => ">",
    })
}

fn check(name: &str, file: &str) -> Result<(), Failure> {
    let scheme = scheme(name)?;
    let text = std::fs::read_to_string(file).map_err(|error| Failure::usage(format!("cannot read {file}: {error}")))?;
    let result = table::check(scheme, &text);
    for disagreement in &result.failed {
        output::line(&format!("{file}:{disagreement}"))?;
    }
    output::line(&format!("{} passed, {} failed", result.passed, result.failed.len()))?;
    if result.failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(format!("{file} disagrees with the ordering {scheme}")))
    }
}
