//! Finishes what an interrupted run of dpkg left: its journal is taken in, half-done packages are configured.

use super::run::Program;
use super::session::{DPKG, Session};
use super::status::{Database, state_word};
use super::{described, diagnose, locks};
use fettle_domain::package::InstallState;
use fettle_domain::reason::Reason;
use fettle_plugin::PluginError;

/// Keeps the administrator's configuration files, asks nobody.
pub(super) const CONFFILES: [&str; 2] = ["--force-confdef", "--force-confold"];

/// Runs `dpkg --configure -a` when something is unfinished. What was mended is told under `apt.mended` and
/// `apt.journal`; what stays broken (its own script fails) under `apt.not-mended`, for it need not stand in
/// the way of others. An error only when dpkg itself cannot go on.
pub(super) fn recover(session: &Session<'_, '_>) -> Result<Vec<Reason>, PluginError> {
    let before = session.database()?;
    if !before.journal && before.unfinished().next().is_none() {
        return Ok(Vec::new());
    }
    session.need_root()?;
    locks::wait(session.context, &session.root, &locks::DPKG)?;
    session.context.events.progress(0, "finishing an interrupted run of dpkg");
    let ended = session.run(Program::change(DPKG).args(CONFFILES).args(["--configure", "-a"]))?;
    let after = session.database()?;
    if after.journal {
        return Err(diagnose::error_of("the interrupted run of dpkg cannot be finished", &ended)
            .advise("Run `dpkg --configure -a` by hand and look at its messages."));
    }
    session.sync()?;
    Ok(told(&before, &after))
}

/// Has dpkg take in the journal of an interrupted run, and do nothing else: any command that writes does that, and
/// this one, with nothing on its input, runs no script. Until then apt refuses to work.
pub(super) fn take_in_journal(session: &Session<'_, '_>) -> Result<(), PluginError> {
    if !session.database()?.journal {
        return Ok(());
    }
    locks::wait(session.context, &session.root, &locks::DPKG)?;
    let ended = session.run(Program::change(DPKG).args(["--set-selections"]))?;
    if session.database()?.journal {
        return Err(diagnose::error_of("the journal of an interrupted run of dpkg cannot be taken in", &ended)
            .advise("Run `dpkg --configure -a` by hand and look at its messages."));
    }
    Ok(())
}

fn told(before: &Database, after: &Database) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if before.journal {
        reasons.push(Reason::new("apt.journal", "an interrupted run of dpkg was finished (`dpkg --configure -a`)"));
    }
    for was in before.unfinished() {
        let package = &was.package;
        let now = after.find(&package.name, &package.architecture);
        if now.is_some_and(|now| now.state == Some(InstallState::Installed)) {
            let text =
                format!("{} {} was {} and is installed now", package.name, package.version, state_word(was.state));
            reasons.push(Reason::new("apt.mended", text));
        }
    }
    for still in after.unfinished() {
        let text = format!("{} is still {}", still.name(), described(after, still.name(), &still.package.architecture));
        reasons.push(Reason::new("apt.not-mended", text));
    }
    reasons
}
