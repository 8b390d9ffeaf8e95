//! What the fuzz targets reach of this room's insides (`fuzz/`); not part of a usual build.

use crate::deploy::engine;
use crate::deploy::record::{KIND, Record, VERSION};
use crate::disk::AppendLog;
use crate::report::output::{cut, printable};
use crate::report::{Masker, Spool};
use fettle_domain::DeploymentId;
use std::path::PathBuf;

/// A folder of this process in memory where there is one.
fn folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
    place.join(format!("fettle-fuzz-{}", std::process::id())).join(DeploymentId::new(1, [0; 10]).to_string())
}

/// Reads the bytes as a journal and as a spool, for looking and for going on with it. Only panics are of
/// interest.
pub fn journal(bytes: &[u8]) {
    let folder = folder();
    if std::fs::create_dir_all(&folder).is_err() {
        return;
    }
    for name in ["journal", "spool"] {
        if std::fs::write(folder.join(name), bytes).is_err() {
            return;
        }
    }
    drop(engine::peek(&folder));
    drop(Spool::peek(&folder.join("spool")));
    drop(Spool::open(&folder.join("spool")));
    // Opened for writing the torn end is cut off: then it reads as it did.
    if let Ok(Some((log, records))) = AppendLog::<Record>::open(&folder.join("journal"), KIND, VERSION) {
        drop(log);
        let again = AppendLog::<Record>::peek(&folder.join("journal"), KIND, VERSION);
        assert_eq!(again.map(|again| again.len()).ok(), Some(records.len()), "what was read once is read again");
    }
}

/// The bytes as output of a maintainer script; what would be shown of each line.
pub fn output(bytes: &[u8]) -> Vec<String> {
    let mut masker = Masker::default();
    let lines = bytes.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
    lines.map(|line| cut(&masker.mask(&printable(&line)))).collect()
}
