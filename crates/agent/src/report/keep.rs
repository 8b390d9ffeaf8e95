//! The whole output of a deployment as its host keeps it, in the deployment's own folder: every line
//! with its number, time, task and stream, masked before it comes here.
//!
//! It is bounded: of a flood the beginning and the end are kept. The lines stand in files of a
//! megabyte, of which those between the first and the last four are removed; what was cut shows as a
//! gap in the numbers. Each line is handed to the kernel at once, so that a killed agent loses none;
//! a power cut may cost the last ones, and half a line is cut off at the next start.

use crate::disk::{DiskError, files};
use fettle_domain::{LogRequestId, Timestamp};
use fettle_wire::log::{LogLine, LogPart, LogStream};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Bytes of one file.
const SEGMENT: u64 = 1 << 20;
/// Files kept of the beginning, and full ones of the end.
const FIRST: u64 = 4;
const LAST: u64 = 4;
/// Most bytes that one line can take in a file.
const LONGEST: u64 = 16 << 10;

/// Bytes that count for what stands around the text of a line.
const AROUND: u64 = 100;

/// Most bytes of one part for the server.
const LONGEST_PART: u64 = 256 << 10;

/// The log as it is written.
#[derive(Debug)]
pub(crate) struct Keep {
    folder: PathBuf,
    open: Option<Segment>,
    /// Lines that the disk did not take, since the last one that it took.
    lost: u64,
}

#[derive(Debug)]
struct Segment {
    index: u64,
    file: File,
    bytes: u64,
    /// Number of the next line.
    next: u64,
}

/// Folder of the log, within that of its deployment.
pub(crate) fn folder_of(deployment: &Path) -> PathBuf {
    deployment.join("log")
}

impl Keep {
    /// Of the deployment with this folder. Nothing is read or made before the first line.
    pub(crate) fn new(deployment: &Path) -> Self {
        Self { folder: folder_of(deployment), open: None, lost: 0 }
    }

    /// Adds a line. A full disk costs lines of the log, never the deployment.
    pub(crate) fn add(&mut self, at: Timestamp, task: &str, stream: LogStream, text: &str) {
        if self.lost > 0 {
            let told = format!("[{} lines could not be written down: the disk refused them]", self.lost);
            if self.try_add(at, task, LogStream::Fettle, &told).is_ok() {
                self.lost = 0;
            }
        }
        if let Err(error) = self.try_add(at, task, stream, text) {
            if self.lost == 0 {
                tracing::warn!(error.text = %error, "output is not kept");
            }
            self.lost += 1;
            // Half a line may stand there now: opened again, it is cut off.
            self.open = None;
        }
    }

    fn try_add(&mut self, at: Timestamp, task: &str, stream: LogStream, text: &str) -> Result<(), DiskError> {
        let mut segment = match self.open.take() {
            Some(segment) => segment,
            None => open_last(&self.folder)?,
        };
        if segment.bytes >= SEGMENT {
            let (index, next) = (segment.index + 1, segment.next);
            segment = Segment { index, file: files::create(&path(&self.folder, index), 0o600)?, bytes: 0, next };
            if let Some(old) = index.checked_sub(LAST + 1).filter(|old| *old >= FIRST) {
                files::remove(&path(&self.folder, old))?;
            }
        }
        let line = format!("{}\t{at}\t{task}\t{}\t{text}\n", segment.next, word(stream));
        segment
            .file
            .write_all(line.as_bytes())
            .map_err(|error| DiskError::io("write", &path(&self.folder, segment.index), error))?;
        segment.bytes += line.len() as u64;
        segment.next += 1;
        self.open = Some(segment);
        Ok(())
    }

    /// Lines so far are on the disk when this returns.
    pub(crate) fn sync(&self) {
        if let Some(segment) = &self.open {
            // What cannot be synced may be lost at a power cut: no more than was told.
            let _ = segment.file.sync_data();
        }
    }
}

fn path(folder: &Path, index: u64) -> PathBuf {
    folder.join(format!("{index:06}"))
}

fn word(stream: LogStream) -> &'static str {
    match stream {
        LogStream::Output => "out",
        LogStream::Error => "err",
        LogStream::Fettle => "fettle",
    }
}

/// The files that are there, in order.
fn segments(folder: &Path) -> Result<Vec<u64>, DiskError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::io("list", folder, error)),
    };
    let mut all: Vec<u64> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    Ok(all)
}

/// Goes on behind the last whole line.
fn open_last(folder: &Path) -> Result<Segment, DiskError> {
    let all = segments(folder)?;
    let Some(index) = all.last().copied() else {
        files::make_folder(folder, 0o700)?;
        return Ok(Segment { index: 0, file: files::create(&path(folder, 0), 0o600)?, bytes: 0, next: 1 });
    };
    let last = path(folder, index);
    let io = |error| DiskError::io("open", &last, error);
    let mut file = File::options().read(true).append(true).open(&last).map_err(io)?;
    let mut text = Vec::new();
    (&file).take(SEGMENT + LONGEST).read_to_end(&mut text).map_err(io)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    file.set_len(whole as u64).map_err(io)?;
    file.seek(SeekFrom::End(0)).map_err(io)?;
    let number = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.lines().rev().find_map(|line| parse(line).map(|line| line.number))
    };
    let mut last_number = number(text.get(..whole).unwrap_or_default());
    // A file that was begun right before the agent was killed: the number stands in the one before.
    for before in all.iter().rev().skip(1) {
        if last_number.is_some() {
            break;
        }
        let bytes = files::read(&path(folder, *before), SEGMENT + LONGEST)?.unwrap_or_default();
        last_number = number(&bytes);
    }
    Ok(Segment { index, file, bytes: whole as u64, next: last_number.unwrap_or(0) + 1 })
}

fn parse(line: &str) -> Option<LogLine> {
    let mut parts = line.splitn(5, '\t');
    let (number, at, task, stream, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let stream = match stream {
        "out" => LogStream::Output,
        "err" => LogStream::Error,
        _ => LogStream::Fettle,
    };
    Some(LogLine {
        number: number.parse().ok()?,
        at: Timestamp::parse(at)?,
        task: task.to_owned(),
        stream,
        text: text.to_owned(),
    })
}

/// What a look into a kept log found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Read {
    pub(crate) lines: Vec<LogLine>,
    /// Nothing follows these lines.
    pub(crate) last: bool,
}

/// Reads lines from a number on, of at most so many bytes (one line in any case). Also while
/// a deployment writes: what is not whole yet is left for the next time.
pub(crate) fn read(deployment: &Path, from: u64, most_bytes: u64) -> Result<Read, DiskError> {
    let folder = folder_of(deployment);
    let all = segments(&folder)?;
    let mut found = Read::default();
    let mut bytes = 0;
    for (place, index) in all.iter().enumerate() {
        // A file whose successor begins no later than what is asked for holds nothing of it.
        let next = all.get(place + 1).and_then(|next| first_number(&path(&folder, *next)));
        if next.is_some_and(|next| next <= from) {
            continue;
        }
        let file = path(&folder, *index);
        let Some(text) = files::read(&file, SEGMENT + LONGEST)? else { continue };
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8_lossy(text.get(..whole).unwrap_or_default());
        for line in text.lines().filter_map(parse).filter(|line| line.number >= from) {
            bytes += line.text.len() as u64 + AROUND;
            if bytes > most_bytes && !found.lines.is_empty() {
                return Ok(found);
            }
            found.lines.push(line);
        }
    }
    found.last = true;
    Ok(found)
}

/// A part of the log for the server. What is asked for may be anything: it names a deployment and
/// lines, and what is not there is told.
pub(crate) fn part(deployment: &Path, request: LogRequestId, from: u64, most_bytes: u64) -> LogPart {
    let missing = |why: String| LogPart { request, from, lines: Vec::new(), last: true, missing: why };
    if !deployment.is_dir() {
        return missing("the host keeps nothing of this deployment any more".to_owned());
    }
    match read(deployment, from, most_bytes.min(LONGEST_PART)) {
        Ok(found) if found.lines.is_empty() && from <= 1 => {
            missing("nothing was written by this deployment on the host".to_owned())
        }
        Ok(found) => LogPart { request, from, lines: found.lines, last: found.last, missing: String::new() },
        Err(error) => missing(error.to_string()),
    }
}

fn first_number(path: &Path) -> Option<u64> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?.take(LONGEST)).read_line(&mut line).ok()?;
    parse(line.trim_end_matches('\n')).map(|line| line.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn add(keep: &mut Keep, text: &str) {
        keep.add(Timestamp::from_unix_millis(1_764_045_358_250), "install", LogStream::Output, text);
    }

    fn bytes(folder: &Path) -> u64 {
        let entries = std::fs::read_dir(folder_of(folder)).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn lines_come_back_as_they_were_and_numbers_go_on_after_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let mut keep = Keep::new(folder.path());
        assert_eq!(read(folder.path(), 1, 1000).unwrap(), Read { lines: vec![], last: true });
        add(&mut keep, "a\tb");
        keep.add(Timestamp::from_unix_millis(5), "undo", LogStream::Error, "ü");
        drop(keep);
        // The agent was killed in the middle of a line.
        let file = folder_of(folder.path()).join("000000");
        let mut torn = File::options().append(true).open(&file).unwrap();
        torn.write_all(b"3\t2025-11-25T04:35:58Z\tinst").unwrap();
        assert_eq!(read(folder.path(), 1, 1000).unwrap().lines.len(), 2);
        let mut keep = Keep::new(folder.path());
        add(&mut keep, "c");
        let found = read(folder.path(), 2, 1000).unwrap();
        assert!(found.last);
        let line = |number: u64, millis, task: &str, stream, text: &str| LogLine {
            number,
            at: Timestamp::from_unix_millis(millis),
            task: task.into(),
            stream,
            text: text.into(),
        };
        assert_eq!(
            found.lines,
            [line(2, 5, "undo", LogStream::Error, "ü"), line(3, 1_764_045_358_250, "install", LogStream::Output, "c")]
        );
        assert_eq!(read(folder.path(), 1, 1).unwrap().lines[0].text, "a\tb", "one line in any case");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        // Killed right after a new file was begun.
        std::fs::write(folder_of(folder.path()).join("000001"), b"").unwrap();
        let mut keep = Keep::new(folder.path());
        add(&mut keep, "d");
        assert_eq!(read(folder.path(), 4, 100).unwrap().lines[0].text, "d");
    }

    #[test]
    fn of_a_flood_the_beginning_and_the_end_are_kept_and_the_gap_shows() {
        let folder = tempfile::tempdir().unwrap();
        let mut keep = Keep::new(folder.path());
        let text = "z".repeat(1000);
        for number in 0..30_000 {
            add(&mut keep, &format!("{number:06} {text}"));
        }
        let most = (FIRST + LAST + 1) * SEGMENT + 2 * LONGEST;
        assert!(bytes(folder.path()) <= most, "{}", bytes(folder.path()));
        let mut lines = Vec::new();
        let mut from = 1;
        loop {
            let part = read(folder.path(), from, 256 << 10).unwrap();
            from = part.lines.last().map_or(from, |line| line.number + 1);
            lines.extend(part.lines);
            if part.last {
                break;
            }
        }
        assert_eq!(lines.first().unwrap().number, 1);
        assert_eq!(lines.last().unwrap().number, 30_000);
        let gaps = lines.windows(2).filter(|pair| pair[1].number != pair[0].number + 1).count();
        assert_eq!(gaps, 1);
        let end: u64 =
            lines.iter().rev().take_while(|line| line.number > 20_000).map(|line| line.text.len() as u64).sum();
        assert!(end >= (LAST - 1) * SEGMENT, "{end}");
        // Another agent goes on behind it.
        let mut keep = Keep::new(folder.path());
        add(&mut keep, "after");
        assert_eq!(read(folder.path(), 30_001, 100).unwrap().lines[0].text, "after");
    }

    #[test]
    fn a_disk_that_refuses_costs_lines_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        // A file where the folder should be: nobody can write there, root neither.
        std::fs::write(folder_of(folder.path()), b"").unwrap();
        let mut keep = Keep::new(folder.path());
        add(&mut keep, "lost");
        add(&mut keep, "lost");
        std::fs::remove_file(folder_of(folder.path())).unwrap();
        add(&mut keep, "kept");
        let lines = read(folder.path(), 1, 1000).unwrap().lines;
        assert!(lines[0].text.contains("2 lines could not be written down"), "{lines:?}");
        assert_eq!(lines[1].text, "kept");
    }
}
