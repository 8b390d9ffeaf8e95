//! Append-only log of JSON records, the form of both the journal and the spool.
//!
//! ```text
//! fettle-journal 1
//! 74 5f0c…64 hex digits of sha-256… {"kind":"task","number":5,…}
//! ```
//!
//! One line a record: length of the JSON in bytes, its sha-256, the JSON. A last record that was cut
//! off (power, full disk) is dropped when the log is opened again; a bad record *before* a good one
//! is damage that the log does not explain away.

use super::files::{self, DiskError};
use fettle_content::sha256_hex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Longest record, so that a damaged length cannot ask for all memory: offers with thousands of
/// packages are about 1 MB.
const LONGEST_RECORD: usize = 16 << 20;
/// Longest log that is read back.
const LONGEST_LOG: u64 = 256 << 20;

/// A log that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Written by a newer agent.
    #[error("{} is version {found} of its form, this agent knows up to {known}: start the newer agent that wrote it", .path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Not such a log at all, or damaged before its end.
    #[error("{} is damaged at byte {at}: {why}; restore it, or move the folder away for inspection", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// A record that cannot be written.
    #[error("cannot write a record to {}: {why}", .path.display())]
    Record {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Test only: power that goes at a certain append, after a certain share of its bytes.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub(crate) struct Fuse(std::sync::Arc<std::sync::Mutex<FuseState>>);

#[cfg(test)]
#[derive(Debug, Default)]
struct FuseState {
    appends: usize,
    /// At which append, and which share of it (in thousandths) is still written.
    blows: Option<(usize, usize)>,
    blown: bool,
}

#[cfg(test)]
impl Fuse {
    /// Power on, until that append.
    pub(crate) fn set(&self, blows: Option<(usize, usize)>) {
        *self.0.lock().unwrap() = FuseState { appends: 0, blows, blown: false };
    }

    pub(crate) fn blow(&self) {
        self.0.lock().unwrap().blown = true;
    }

    pub(crate) fn is_blown(&self) -> bool {
        self.0.lock().unwrap().blown
    }

    pub(crate) fn appends(&self) -> usize {
        self.0.lock().unwrap().appends
    }

    /// How many bytes of the next append reach the disk.
    fn written(&self, length: usize) -> usize {
        let mut state = self.0.lock().unwrap();
        if state.blown {
            return 0;
        }
        let now = state.appends;
        state.appends += 1;
        match state.blows {
            Some((at, thousandths)) if at == now => {
                state.blown = true;
                // Even a whole record may be the last thing that happens.
                (length * thousandths / 1000).min(length)
            }
            _ => length,
        }
    }
}

/// Where a record lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// First byte of the line.
    pub(crate) at: u64,
    /// Bytes of the line with its end.
    pub(crate) length: u64,
}

/// A log of records of one type.
pub(crate) struct AppendLog<R> {
    path: PathBuf,
    file: File,
    end: u64,
    /// Test only: the power that goes.
    #[cfg(test)]
    fuse: Option<Fuse>,
    records: PhantomData<R>,
}

impl<R: Serialize + DeserializeOwned> AppendLog<R> {
    /// Makes an empty log, durable when this returns.
    pub(crate) fn create(path: &Path, kind: &str, version: u32) -> Result<Self, LogError> {
        let mut file = files::create(path, 0o600)?;
        let header = format!("{kind} {version}\n");
        file.write_all(header.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| DiskError::io("write", path, error))?;
        files::sync_parent(path)?;
        Ok(Self::over(path, file, header.len() as u64))
    }

    /// Opens a log and reads it; a torn last record is cut off. `None` when there is no log, or
    /// only a torn header.
    #[expect(clippy::type_complexity, reason = "one caller-facing pair, named where it is used")]
    pub(crate) fn open(path: &Path, kind: &str, version: u32) -> Result<Option<(Self, Vec<(R, Place)>)>, LogError> {
        let Some(bytes) = files::read(path, LONGEST_LOG)? else { return Ok(None) };
        let Some((found, start)) = check_header(path, &bytes, kind, version)? else { return Ok(None) };
        let (records, end) = read_records(path, &bytes, start)?;
        if found < version {
            return Self::renew(path, kind, version, records).map(Some);
        }
        let file =
            OpenOptions::new().read(true).write(true).open(path).map_err(|error| DiskError::io("open", path, error))?;
        if end < bytes.len() as u64 {
            file.set_len(end)
                .and_then(|()| file.sync_all())
                .map_err(|error| DiskError::io("cut the torn end of", path, error))?;
        }
        Ok(Some((Self::over(path, file, end), records)))
    }

    /// Writes a log of an older form anew in the present one, before a record is added that the older agent
    /// could not read: that one is then told of the newer form instead of finding damage.
    fn renew(path: &Path, kind: &str, version: u32, old: Vec<(R, Place)>) -> Result<(Self, Vec<(R, Place)>), LogError> {
        let mut log = Self::create(&files::beside(path, ".new"), kind, version)?;
        let mut records = Vec::with_capacity(old.len());
        for (record, _) in old {
            let place = log.append(&record, false)?;
            records.push((record, place));
        }
        log.move_to(path)?;
        Ok((log, records))
    }

    /// Reads a log without the right to mend it (`fettle agent status`).
    pub(crate) fn peek(path: &Path, kind: &str, version: u32) -> Result<Vec<R>, LogError> {
        let Some(bytes) = files::read(path, LONGEST_LOG)? else { return Ok(Vec::new()) };
        let Some((_, start)) = check_header(path, &bytes, kind, version)? else { return Ok(Vec::new()) };
        Ok(read_records(path, &bytes, start)?.0.into_iter().map(|(record, _)| record).collect())
    }

    fn over(path: &Path, file: File, end: u64) -> Self {
        Self {
            path: path.to_owned(),
            file,
            end,
            #[cfg(test)]
            fuse: None,
            records: PhantomData,
        }
    }

    /// Appends a record; with `durable` it is on the disk when this returns. A failed append leaves
    /// the log as it was.
    pub(crate) fn append(&mut self, record: &R, durable: bool) -> Result<Place, LogError> {
        let line = self.line(record)?;
        let place = Place { at: self.end, length: line.len() as u64 };
        if let Err(error) = self.write(&line, durable) {
            // Cut off what was written of it: the next record must not follow half a line. (A test
            // whose power went counts the torn bytes to the end, so that they stay.)
            let _ = self.file.set_len(self.end);
            return Err(DiskError::io("write", &self.path, error).into());
        }
        self.end += place.length;
        Ok(place)
    }

    #[cfg(not(test))]
    fn write(&mut self, line: &[u8], durable: bool) -> std::io::Result<()> {
        self.write_at_end(line, durable)
    }

    #[cfg(test)]
    fn write(&mut self, line: &[u8], durable: bool) -> std::io::Result<()> {
        let Some(fuse) = self.fuse.clone() else { return self.write_at_end(line, durable) };
        let written = fuse.written(line.len());
        self.write_at_end(&line[..written], durable)?;
        if written == line.len() {
            return Ok(());
        }
        // The power went in the middle: what was written stays.
        self.end += written as u64;
        Err(std::io::Error::other("the test's power went"))
    }

    #[cfg(test)]
    pub(crate) fn set_fuse(&mut self, fuse: Option<Fuse>) {
        self.fuse = fuse;
    }

    #[cfg(test)]
    pub(crate) fn fuse(&self) -> Option<Fuse> {
        self.fuse.clone()
    }

    fn write_at_end(&mut self, line: &[u8], durable: bool) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(line)?;
        if durable { self.file.sync_data() } else { Ok(()) }
    }

    fn line(&self, record: &R) -> Result<Vec<u8>, LogError> {
        let refused = |why: String| LogError::Record { path: self.path.clone(), why };
        let json = serde_json::to_vec(record).map_err(|error| refused(error.to_string()))?;
        if json.len() > LONGEST_RECORD {
            return Err(refused(format!("it has {} bytes, more than {LONGEST_RECORD}", json.len())));
        }
        let mut line = format!("{} {} ", json.len(), sha256_hex(&json)).into_bytes();
        line.extend_from_slice(&json);
        line.push(b'\n');
        Ok(line)
    }

    /// Reads one record back.
    pub(crate) fn read(&mut self, place: Place) -> Result<R, LogError> {
        let mut line = vec![0; usize::try_from(place.length).unwrap_or(0)];
        self.file
            .seek(SeekFrom::Start(place.at))
            .and_then(|_| self.file.read_exact(&mut line))
            .map_err(|error| DiskError::io("read", &self.path, error))?;
        parse(&line).map(|(record, _)| record).map_err(|why| self.damaged(place.at, why))
    }

    /// Puts this log in place of the one at `path`, durably.
    pub(crate) fn move_to(&mut self, path: &Path) -> Result<(), LogError> {
        self.file.sync_all().map_err(|error| DiskError::io("write", &self.path, error))?;
        std::fs::rename(&self.path, path).map_err(|error| DiskError::io("replace", path, error))?;
        files::sync_parent(path)?;
        self.path = path.to_owned();
        Ok(())
    }

    /// Makes everything appended so far durable.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        Ok(self.file.sync_data().map_err(|error| DiskError::io("write", &self.path, error))?)
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.end
    }

    fn damaged(&self, at: u64, why: String) -> LogError {
        LogError::Damaged { path: self.path.clone(), at, why }
    }
}

/// Its version and the byte after the header; `None` when the header itself was torn (nothing can follow it then).
fn check_header(path: &Path, bytes: &[u8], kind: &str, version: u32) -> Result<Option<(u32, usize)>, LogError> {
    let damaged = |why: &str| LogError::Damaged { path: path.to_owned(), at: 0, why: why.to_owned() };
    let Some(end) = bytes.iter().take(100).position(|byte| *byte == b'\n') else {
        let torn = bytes.len() < 100 && format!("{kind} {version}").as_bytes().starts_with(bytes);
        return if torn { Ok(None) } else { Err(damaged("it has no header")) };
    };
    let header = std::str::from_utf8(bytes.get(..end).unwrap_or_default()).unwrap_or_default();
    let found = header
        .strip_prefix(kind)
        .and_then(|rest| rest.strip_prefix(' '))
        .and_then(|number| number.parse::<u32>().ok())
        .ok_or_else(|| damaged("its header names another kind of file"))?;
    if found > version {
        return Err(LogError::Newer { path: path.to_owned(), found, known: version });
    }
    Ok(Some((found, end + 1)))
}

/// All good records and the end of the last one.
fn read_records<R: DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    start: usize,
) -> Result<(Vec<(R, Place)>, u64), LogError> {
    let mut records = Vec::new();
    let mut at = start;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match parse::<R>(rest) {
            Ok((record, length)) => {
                records.push((record, Place { at: at as u64, length: length as u64 }));
                at += length;
            }
            Err(_) if !good_record_follows(rest) => break,
            Err(why) => return Err(LogError::Damaged { path: path.to_owned(), at: at as u64, why }),
        }
    }
    Ok((records, at as u64))
}

/// Whether a whole record with a right checksum stands on a later line: then the bad one is no torn end.
fn good_record_follows(rest: &[u8]) -> bool {
    rest.split_inclusive(|byte| *byte == b'\n').skip(1).any(|line| frame(line).is_ok())
}

fn parse<R: DeserializeOwned>(bytes: &[u8]) -> Result<(R, usize), String> {
    let (json, length) = frame(bytes)?;
    let record = serde_json::from_slice(json).map_err(|error| format!("a record cannot be read: {error}"))?;
    Ok((record, length))
}

/// The JSON of the record that begins here, and the length of its whole line.
fn frame(bytes: &[u8]) -> Result<(&[u8], usize), String> {
    let mut spaces = bytes.iter().take(100).enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
    let (Some(first), Some(second)) = (spaces.next(), spaces.next()) else {
        return Err("a record has no length and checksum".to_owned());
    };
    let field =
        |from: usize, to: usize| std::str::from_utf8(bytes.get(from..to).unwrap_or_default()).unwrap_or_default();
    let length: usize = field(0, first).parse().map_err(|_| "a record has no length".to_owned())?;
    let json = (length <= LONGEST_RECORD)
        .then(|| bytes.get(second + 1..second + 1 + length))
        .flatten()
        .ok_or_else(|| "a record is cut off".to_owned())?;
    if bytes.get(second + 1 + length) != Some(&b'\n') {
        return Err("a record is cut off".to_owned());
    }
    if sha256_hex(json) != field(first + 1, second) {
        return Err("the checksum of a record is wrong".to_owned());
    }
    Ok((json, second + 2 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Log = AppendLog<String>;

    fn written(path: &Path, records: &[&str]) -> Vec<u8> {
        let mut log = Log::create(path, "fettle-test", 1).unwrap();
        for record in records {
            log.append(&(*record).to_owned(), true).unwrap();
        }
        std::fs::read(path).unwrap()
    }

    fn texts(records: Vec<(String, Place)>) -> Vec<String> {
        records.into_iter().map(|(record, _)| record).collect()
    }

    #[test]
    fn cut_at_every_byte_it_keeps_the_whole_records_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let whole = written(&path, &["one", "two\nlines", "three"]);
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let Some((mut log, records)) = Log::open(&path, "fettle-test", 1).unwrap() else {
                assert!(cut < "fettle-test 1\n".len());
                continue;
            };
            let before = texts(records);
            assert!(["one", "two\nlines", "three"].starts_with(&before.iter().map(String::as_str).collect::<Vec<_>>()));
            let place = log.append(&"more".to_owned(), true).unwrap();
            assert_eq!(log.read(place).unwrap(), "more");
            drop(log);
            let (_, records) = Log::open(&path, "fettle-test", 1).unwrap().unwrap();
            assert_eq!(texts(records), [before, vec!["more".to_owned()]].concat());
        }
    }

    #[test]
    fn damage_before_a_good_record_is_named_not_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut bytes = written(&path, &["one", "two", "three"]);
        let at = bytes.windows(3).position(|window| window == b"two").unwrap();
        bytes[at] = b'T';
        std::fs::write(&path, &bytes).unwrap();
        let error = Log::open(&path, "fettle-test", 1).err().unwrap();
        assert!(error.to_string().contains("checksum of a record is wrong"), "{error}");
    }

    #[test]
    fn a_newer_form_and_a_foreign_file_are_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "fettle-test 2\n").unwrap();
        let error = Log::open(&path, "fettle-test", 1).err().unwrap().to_string();
        assert!(error.contains("version 2") && error.contains("newer agent"), "{error}");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(matches!(Log::open(&path, "fettle-test", 1), Err(LogError::Damaged { .. })));
    }

    #[test]
    fn an_older_form_is_read_and_written_anew_before_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        written(&path, &["one", "two"]);
        assert_eq!(AppendLog::<String>::peek(&path, "fettle-test", 2).unwrap(), ["one", "two"]);
        assert!(std::fs::read(&path).unwrap().starts_with(b"fettle-test 1\n"), "only looked at");
        let (mut log, records) = Log::open(&path, "fettle-test", 2).unwrap().unwrap();
        assert_eq!(log.read(records[1].1).unwrap(), "two");
        log.append(&"three".to_owned(), true).unwrap();
        let (_, records) = Log::open(&path, "fettle-test", 2).unwrap().unwrap();
        assert_eq!(texts(records), ["one", "two", "three"]);
        let error = Log::open(&path, "fettle-test", 1).err().unwrap().to_string();
        assert!(error.contains("version 2 of its form, this agent knows up to 1"), "{error}");
    }

    #[test]
    fn a_zero_filled_end_is_a_torn_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut bytes = written(&path, &["one"]);
        bytes.extend([0; 4096]);
        std::fs::write(&path, &bytes).unwrap();
        let (_, records) = Log::open(&path, "fettle-test", 1).unwrap().unwrap();
        assert_eq!(texts(records), ["one"]);
    }
}
