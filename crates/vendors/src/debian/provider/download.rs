//! Brings package files by apt's own methods (proxies, credentials, every kind of source), each checked by
//! size and sha-256. Does not depend on the indexes, which may have changed since the dry run.

use super::run::Program;
use super::session::{APT_HELPER, Scratch, Session};
use super::{diagnose, fail, files, text};
use fettle_plugin::{ErrorKind, PluginError};
use std::fs;
use std::path::Path;

/// Files fetched by one program: few enough to name the one that fails, enough to keep a connection busy.
const BATCH: usize = 16;
/// How much more than promised may lie in the scratch folder (apt's own small files).
const SLACK: u64 = 1 << 20;

/// One file to bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Where from.
    pub uri: String,
    /// File name in the target folder.
    pub name: String,
    /// Exact size.
    pub size: u64,
    /// Lowercase hex sha-256.
    pub sha256: String,
}

/// Brings all into `folder`. What is there already and whole is left alone; all others are whole afterwards.
///
/// `options` are more options for apt.
pub(super) fn bring_all(
    session: &Session<'_, '_>,
    wanted: &[Wanted],
    folder: &Path,
    options: &[&str],
) -> Result<(), PluginError> {
    let mut missing = Vec::new();
    for file in wanted {
        if !is_whole(folder, file)? {
            missing.push(file);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    session.need_root()?;
    let bytes: u64 = missing.iter().map(|file| file.size).sum();
    files::need_space(folder, bytes, "the package files")?;
    files::need_space(&session.root.path.join("var/cache"), bytes, "the package files")?;
    let mut done: u64 = 0;
    for batch in missing.chunks(BATCH) {
        let percent = done.saturating_mul(100).checked_div(bytes).unwrap_or(0).min(100) as u8;
        session.context.events.progress(
            percent,
            &format!("fetching {}", batch.first().map(|file| file.name.as_str()).unwrap_or_default()),
        );
        bring_some(session, batch, folder, options)?;
        done = done.saturating_add(batch.iter().map(|file| file.size).sum());
    }
    session.context.events.progress(100, "package files fetched");
    Ok(())
}

fn is_whole(folder: &Path, file: &Wanted) -> Result<bool, PluginError> {
    files::is_whole(&folder.join(&file.name), file.size, &file.sha256)
        .map_err(|error| fail(ErrorKind::Failed, format!("cannot read {}: {error}", folder.join(&file.name).display())))
}

fn bring_some(
    session: &Session<'_, '_>,
    batch: &[&Wanted],
    folder: &Path,
    options: &[&str],
) -> Result<(), PluginError> {
    let scratch = session.scratch("fetch")?;
    give_to_apt(session, &scratch);
    let promised: u64 = batch.iter().map(|file| file.size).sum();
    let watch = || match folder_size(&scratch.outside) > promised.saturating_add(SLACK) {
        true => Err(fail(ErrorKind::Denied, "a repository delivers more bytes than its signed index says")
            .advise("Try another mirror; if it stays, tell the repository's operator.")),
        false => Ok(()),
    };
    let mut args: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    args.push("download-file".to_owned());
    for (number, file) in batch.iter().enumerate() {
        args.extend([uri(&file.uri), format!("{}/{number}.deb", scratch.inside), format!("SHA256:{}", file.sha256)]);
    }
    let ended = session.run(Program::query(APT_HELPER).args(args).shown().watch(&watch))?;
    for (number, file) in batch.iter().enumerate() {
        let fetched = scratch.outside.join(format!("{number}.deb"));
        let plain = fs::symlink_metadata(&fetched).is_ok_and(|meta| meta.is_file());
        if !plain {
            return Err(diagnose::error_of(&format!("cannot fetch {} from {}", file.name, file.uri), &ended));
        }
        // apt checked the digest; here it is checked again, because this copy is what will be installed.
        if !files::is_whole(&fetched, file.size, &file.sha256).unwrap_or(false) {
            let message =
                format!("{} from {} is not the file the signed index lists (hash mismatch)", file.name, file.uri);
            return Err(fail(ErrorKind::Denied, message)
                .advise("Try another mirror; if it stays, tell the repository's operator."));
        }
        files::bring(&fetched, &folder.join(&file.name))?;
        session.context.events.output(&format!("fetched {} ({})", file.name, text::bytes(file.size)));
    }
    Ok(())
}

/// A local file is copied, where apt would only make a link to it.
fn uri(uri: &str) -> String {
    match uri.strip_prefix("file:") {
        Some(path) => format!("copy:{path}"),
        None => uri.to_owned(),
    }
}

/// Lets apt fetch as its unprivileged user, as it does by itself where that user may write.
fn give_to_apt(session: &Session<'_, '_>, scratch: &Scratch) {
    let users = session.root.read("/etc/passwd", 4 << 20).ok().flatten().unwrap_or_default();
    let users = String::from_utf8_lossy(&users);
    let uid = users.lines().find_map(|line| line.strip_prefix("_apt:")?.split(':').nth(1)?.parse::<u32>().ok());
    if let Some(uid) = uid
        && let Err(error) = std::os::unix::fs::chown(&scratch.outside, Some(uid), None)
    {
        tracing::debug!(%error, "apt fetches as root");
    }
}

fn folder_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| if meta.is_file() { meta.len() } else { 0 }).sum()
}
