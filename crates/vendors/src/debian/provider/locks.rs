//! Waiting for the locks of apt and dpkg: asked for by `fcntl`, never removed.

use super::rooted::Rooted;
use super::{fail, text};
use fettle_plugin::{ErrorKind, PluginError, ProviderContext};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
use std::time::{Duration, Instant};

/// What changes packages needs these two.
pub(super) const DPKG: [&str; 2] = ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"];
/// What fetches indexes needs this one.
pub(super) const LISTS: [&str; 1] = ["/var/lib/apt/lists/lock"];

/// How often a held lock is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until none of the locks is held, as long as the caller's patience lasts.
/// Returns how much patience is left for apt's own waiting.
pub(super) fn wait(context: &ProviderContext<'_>, root: &Rooted, paths: &[&str]) -> Result<Duration, PluginError> {
    let until = context.deadline.min(Instant::now() + context.lock_patience);
    let mut said = None;
    loop {
        let Some((path, holder)) = paths.iter().find_map(|path| Some((path, holder(root, path)?))) else {
            return Ok(until.saturating_duration_since(Instant::now()));
        };
        if said.as_ref() != Some(&holder) {
            context.events.output(&format!("waiting for the lock {path}, held by {holder}"));
            said = Some(holder.clone());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || context.events.cancelled() {
            let waited = context.lock_patience.as_secs();
            return Err(fail(ErrorKind::Unavailable, format!("{path} is held by {holder}; waited {waited} s for it"))
                .advise("Wait for it to end and try again; never delete the lock file, it keeps two package managers apart."));
        }
        let step = left.min(LOOK);
        let step = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(step.subsec_nanos().max(1)) };
        let _ = rustix::event::poll(&mut [], Some(&step));
    }
}

/// Who holds the lock, in words; `None` when nobody does.
fn holder(root: &Rooted, path: &str) -> Option<String> {
    let file = root.open(path).ok()?;
    let whole = Flock { start: 0, length: 0, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    let lock = fcntl_getlk(&file, &whole).ok()??;
    let Some(pid) = lock.pid else {
        return Some("a process outside this process namespace".to_owned());
    };
    let pid = pid.as_raw_nonzero();
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = command.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(text::printable);
    let command: String = command.collect::<Vec<_>>().join(" ").chars().take(200).collect();
    Some(if command.is_empty() { format!("process {pid}") } else { format!("process {pid} ({command})") })
}
