//! Which process holds the agent's folder, as the kernel tells it: looking takes no lock, so that no
//! agent that starts at this moment is told that another one runs.

use crate::disk::files;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The process that holds the lock of this folder, if any does.
pub(crate) fn holder(state_dir: &Path) -> Option<u32> {
    let lock = std::fs::metadata(state_dir.join("lock")).ok()?;
    holder_of(&files::text("/proc/locks"), lock.dev(), lock.ino())
}

/// `1: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF`: device numbers in hexadecimal, the inode not.
fn holder_of(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let device = format!("{:02x}:{:02x}:{inode}", rustix::fs::major(device), rustix::fs::minor(device));
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, "WRITE", process, place, ..] if *place == device => process.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::StateDir;

    #[test]
    fn the_kernel_tells_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(holder(folder.path()), None);
        let state = StateDir::open(folder.path()).unwrap();
        assert_eq!(holder(folder.path()), Some(std::process::id()));
        drop(state);
        assert_eq!(holder(folder.path()), None);
        let table = "1: POSIX  ADVISORY  WRITE 7 08:01:131 0 EOF\n2: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF\n";
        assert_eq!(holder_of(table, rustix::fs::makedev(8, 1), 131), Some(1234));
    }
}
