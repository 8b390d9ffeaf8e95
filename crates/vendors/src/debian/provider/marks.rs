//! Holds and automatic marks, set by `apt-mark`.

use super::run::{Ended, Program};
use super::session::{APT_MARK, Session};
use super::status::{Database, argument};
use super::{diagnose, fail, locks, text};
use fettle_plugin::{ErrorKind, PluginError};
use std::collections::BTreeSet;

/// Puts or lifts a hold; the names whose hold changed.
pub(super) fn set_hold(session: &Session<'_, '_>, names: &[String], held: bool) -> Result<Vec<String>, PluginError> {
    session.need_root()?;
    let before = session.database()?;
    for name in names {
        let (plain, _) = name.split_once(':').unwrap_or((name, ""));
        if !text::is_name(plain) || !name.split(':').skip(1).all(text::is_architecture) {
            let message = format!("`{}` is no Debian package name", name.chars().take(100).collect::<String>());
            return Err(fail(ErrorKind::InvalidInput, message));
        }
        if before.named(plain).next().is_none() {
            return Err(fail(ErrorKind::InvalidInput, format!("{name} is not installed"))
                .advise("Only installed packages are put on hold."));
        }
    }
    let names: BTreeSet<&String> = names.iter().collect();
    let wanted: Vec<String> = names.into_iter().filter(|name| hold_of(&before, name) != held).cloned().collect();
    if wanted.is_empty() {
        return Ok(wanted);
    }
    locks::wait(session.context, &session.root, &locks::DPKG)?;
    let ended = mark(session, if held { "hold" } else { "unhold" }, &wanted)?;
    let after = session.database()?;
    if let Some(name) = wanted.iter().find(|name| hold_of(&after, name) != held) {
        let what = format!("the hold of {name} could not be {}", if held { "set" } else { "lifted" });
        return Err(diagnose::error_of(&what, &ended));
    }
    Ok(wanted)
}

fn hold_of(database: &Database, name: &str) -> bool {
    match name.split_once(':') {
        Some((name, architecture)) => database.find(name, architecture).is_some_and(|entry| entry.held),
        None => database.named(name).any(|entry| entry.held),
    }
}

fn mark(session: &Session<'_, '_>, verb: &str, names: &[String]) -> Result<Ended, PluginError> {
    session.run(Program::query(APT_MARK).args([verb]).args(names.iter().cloned()))
}

/// One package's mark as it should be.
pub(super) struct Mark<'a> {
    /// Name.
    pub name: &'a str,
    /// Architecture.
    pub architecture: &'a str,
    /// Came as a dependency only.
    pub automatic: bool,
}

/// Makes the automatic marks of installed packages what they should be.
pub(super) fn set_automatic(session: &Session<'_, '_>, marks: &[Mark<'_>]) -> Result<(), PluginError> {
    let database = session.database()?;
    for (verb, automatic) in [("auto", true), ("manual", false)] {
        let differs = |mark: &&Mark<'_>| {
            mark.automatic == automatic
                && database.find(mark.name, mark.architecture).is_some_and(|entry| entry.automatic != automatic)
        };
        let names: Vec<String> =
            marks.iter().filter(differs).map(|mark| argument(mark.name, mark.architecture, &database.native)).collect();
        if !names.is_empty() {
            let ended = mark(session, verb, &names)?;
            if !ended.success {
                tracing::warn!(verb, ?names, output = ?ended.telling(3), "apt-mark failed");
            }
        }
    }
    Ok(())
}
