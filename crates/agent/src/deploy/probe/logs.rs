//! Lines that were logged since a deployment began: of files below `/var/log`, or of a unit's journal.

use super::{Origin, Watched};
use crate::clock;
use crate::deploy::command;
use fettle_domain::Timestamp;
use fettle_domain::health::{Expect, LogSource, Probe, Seen};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// What is read of a file: its end, when more was written.
const MOST_BYTES: u64 = 1 << 20;
/// What is taken of `journalctl`'s output.
const MOST_JOURNAL: u64 = 512 << 10;
const MOST_JOURNAL_LINES: &str = "4000";

/// Where a log stood when the deployment began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogMark {
    at: Timestamp,
    /// Of a file; zero when there was none.
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    length: u64,
}

/// Notes where the log of a probe stands; `None` for other probes.
pub(super) fn mark(root: &Path, probe: &Probe) -> Option<LogMark> {
    let Probe::Log { source, .. } = probe else { return None };
    let mut mark = LogMark { at: clock::now(), inode: 0, length: 0 };
    if let LogSource::File { path } = source
        && let Ok(Some((_, about))) = open(root, path)
    {
        (mark.inode, mark.length) = (about.ino(), about.len());
    }
    Some(mark)
}

/// Looks for the pattern in what was logged since.
pub(super) fn look(
    root: &Path,
    scratch: &Path,
    source: &LogSource,
    pattern: &str,
    expect: Expect,
    watched: &Watched,
    limit: Duration,
) -> Seen {
    let (place, lines) = match source {
        LogSource::File { path } => (path.clone(), file_lines(root, path, watched.mark)),
        LogSource::Journal { unit } => {
            (format!("the journal of {unit}"), journal_lines(root, unit, watched.mark, limit, scratch))
        }
    };
    let text = match lines {
        Ok(text) => text,
        Err(why) => return Seen::fails(why),
    };
    let mut matching = text.lines().filter(|line| matches(pattern, line));
    let first = matching.next();
    let count = usize::from(first.is_some()) + matching.count();
    // Who sent an order may ask whether a line is there, not what stands in the host's logs.
    let shown = match (watched.origin, first) {
        (Origin::Host, Some(line)) => format!(", the first: {}", line.trim()),
        _ => String::new(),
    };
    let said = format!("{count} lines of {place} since the change began match `{pattern}`{shown}");
    if (count > 0) == (expect == Expect::Present) { Seen::holds(said) } else { Seen::fails(said) }
}

/// A file below `/var/log` of the root, without following a link below that folder. `None`: there is none.
fn open(root: &Path, path: &str) -> Result<Option<(File, std::fs::Metadata)>, String> {
    let wrong = |why: String| format!("cannot read {path}: {why}");
    let rest = path.strip_prefix("/var/log/").ok_or_else(|| wrong("it is not below /var/log".to_owned()))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut folder = match rustix::fs::openat(CWD, root.join("var/log"), flags | OFlags::DIRECTORY, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let mut parts = rest.split('/').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() || part == "." || part == ".." {
            return Err(wrong("that is no plain path".to_owned()));
        }
        let kind = if parts.peek().is_some() { OFlags::DIRECTORY } else { OFlags::empty() };
        folder = match rustix::fs::openat(&folder, part, flags | kind | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(wrong("a link stands in its path".to_owned())),
            Err(error) => return Err(wrong(error.to_string())),
        };
    }
    let file = File::from(folder);
    let about = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if about.is_file() { Ok(Some((file, about))) } else { Err(wrong("it is no regular file".to_owned())) }
}

/// What was written since the mark; all of it when the file is another one now (rotated, made anew).
fn file_lines(root: &Path, path: &str, mark: Option<LogMark>) -> Result<String, String> {
    let Some((mut file, about)) = open(root, path)? else { return Ok(String::new()) };
    let same = mark.filter(|mark| mark.inode == about.ino() && mark.length <= about.len());
    let from = same.map_or(0, |mark| mark.length).max(about.len().saturating_sub(MOST_BYTES));
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))
        .and_then(|_| file.take(MOST_BYTES).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn journal_lines(
    root: &Path,
    unit: &str,
    mark: Option<LogMark>,
    limit: Duration,
    scratch: &Path,
) -> Result<String, String> {
    if !crate::facts::is_live(root) {
        return Err(format!("{} is not the running system and has no journal", root.display()));
    }
    // Whole seconds: journalctl takes fractions too, but not everywhere.
    let since = format!("--since=@{}", mark.map_or(0, |mark| mark.at.unix_millis() / 1000));
    let unit = format!("--unit={unit}");
    let lines = format!("--lines={MOST_JOURNAL_LINES}");
    let argv = ["journalctl", &unit, &since, &lines, "--output=cat", "--no-pager", "--quiet"];
    command::run_as(&argv, limit, scratch, None, MOST_JOURNAL)
}

/// Whether a line has the pattern in it; `*` stands for any text.
fn matches(pattern: &str, line: &str) -> bool {
    let mut rest = line;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = rest.get(at + part.len()..).unwrap_or_default();
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(root: &Path, text: &str, origin: Origin) -> Watched {
        let check: fettle_domain::health::HealthCheck = text.parse().unwrap();
        let mark = mark(root, &check.probe);
        Watched { check, origin, mark, before: None }
    }

    fn see(root: &Path, watched: &Watched) -> Seen {
        let Probe::Log { source, pattern, expect } = &watched.check.probe else { panic!() };
        look(root, root, source, pattern, *expect, watched, Duration::from_secs(5))
    }

    fn append(path: &Path, text: &str) {
        use std::io::Write as _;
        let mut file = File::options().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn only_what_is_written_after_the_mark_counts() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("var/log/shop/error.log");
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        append(&log, "FATAL of yesterday\n");
        let absent = watched(root.path(), "log=/var/log/shop/error.log,absent=FATAL*disk", Origin::Host);
        let present = watched(root.path(), "log=/var/log/shop/error.log,present=ready", Origin::Change);
        assert!(see(root.path(), &absent).holds && !see(root.path(), &present).holds);
        append(&log, "FATAL of memory\nready at 8\nready at 9\n");
        assert!(see(root.path(), &absent).holds);
        let seen = see(root.path(), &present);
        assert_eq!(seen.evidence, "2 lines of /var/log/shop/error.log since the change began match `ready`");
        append(&log, "FATAL: no disk left\n");
        let seen = see(root.path(), &absent);
        assert!(!seen.holds && seen.evidence.contains("the first: FATAL: no disk left"), "{}", seen.evidence);
        // Rotated: the new file counts from its beginning.
        std::fs::rename(&log, log.with_extension("1")).unwrap();
        assert!(see(root.path(), &absent).holds, "no file, no lines");
        append(&log, "FATAL: disk again\n");
        assert!(!see(root.path(), &absent).holds);
    }

    #[test]
    fn a_log_that_floods_is_read_at_its_end() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("var/log/big.log");
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        append(&log, "");
        let present = watched(root.path(), "log=/var/log/big.log,present=ready", Origin::Host);
        append(&log, &"noise\n".repeat(400_000));
        append(&log, "ready\n");
        assert!(see(root.path(), &present).holds);
    }

    #[test]
    fn links_and_other_files_are_not_read() {
        let root = tempfile::tempdir().unwrap();
        let logs = root.path().join("var/log");
        std::fs::create_dir_all(logs.join("folder")).unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        append(&root.path().join("etc/shadow"), "root:secret\n");
        std::os::unix::fs::symlink(root.path().join("etc/shadow"), logs.join("link")).unwrap();
        std::os::unix::fs::symlink(root.path().join("etc"), logs.join("etc")).unwrap();
        rustix::fs::mkfifoat(CWD, logs.join("pipe"), Mode::RUSR).unwrap();
        for (path, why) in [
            ("/var/log/link", "a link stands in its path"),
            ("/var/log/etc/shadow", "a link stands in its path"),
            ("/var/log/folder", "no regular file"),
            ("/var/log/pipe", "no regular file"),
        ] {
            let seen = see(root.path(), &watched(root.path(), &format!("log={path},present=root"), Origin::Host));
            assert!(!seen.holds && seen.evidence.contains(why), "{path}: {}", seen.evidence);
        }
        assert!(open(root.path(), "/var/log/../../etc/shadow").is_err());
        assert!(open(root.path(), "/etc/shadow").is_err());
    }

    #[test]
    fn stars_stand_for_any_text() {
        assert!(matches("a*c*e", "xx abcde") && matches("abc", "xabcx") && matches("*abc*", "abc"));
        assert!(!matches("a*c*e", "xx abecd") && !matches("abc", "ab c"));
    }
}
