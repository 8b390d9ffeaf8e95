//! A `cpio` in the form "newc", the payload of an rpm.

use super::contents::{Entry, Kind};

/// Writes it; the numbers of the inodes are those of the header: 1, 2, 3, …
pub(super) fn write(entries: &[Entry], time: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for (inode, entry) in (1..).zip(entries) {
        let links = if entry.kind == Kind::Folder { 2 } else { 1 };
        one(&mut out, &format!("./{}", entry.path), inode, entry.full_mode(), links, time, &entry.bytes);
    }
    one(&mut out, "TRAILER!!!", 0, 0, 1, 0, &[]);
    out
}

fn one(out: &mut Vec<u8>, name: &str, inode: u32, mode: u32, links: u32, time: u32, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let name_length = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
    out.extend(b"070701");
    for field in [inode, mode, 0, 0, links, time, length, 0, 0, 0, 0, name_length, 0] {
        out.extend(format!("{field:08x}").bytes());
    }
    out.extend(name.bytes());
    out.push(0);
    pad(out);
    out.extend(bytes);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().div_ceil(4) * 4, 0);
}
