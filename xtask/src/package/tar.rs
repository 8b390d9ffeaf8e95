//! A `tar` (POSIX ustar) of plain files and folders that belong to root.

use super::contents::{Entry, Kind};
use anyhow::{Context, Result};

const BLOCK: usize = 512;

/// Writes it; names are relative and begin with `./`.
pub(super) fn write(entries: &[Entry], time: u32) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        let name = match entry.kind {
            Kind::Folder => format!("./{}/", entry.path).replace("//", "/"),
            _ => format!("./{}", entry.path),
        };
        out.extend(header(&name, entry.mode, entry.bytes.len(), entry.kind == Kind::Folder, time)?);
        out.extend(&entry.bytes);
        pad(&mut out);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    // tar's own record of twenty blocks.
    out.resize(out.len().div_ceil(20 * BLOCK) * 20 * BLOCK, 0);
    Ok(out)
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().div_ceil(BLOCK) * BLOCK, 0);
}

fn header(name: &str, mode: u32, size: usize, folder: bool, time: u32) -> Result<Vec<u8>> {
    anyhow::ensure!(name.len() <= 100, "the path {name} is too long for a ustar header");
    let mut out = Vec::with_capacity(BLOCK);
    let mut field = |text: &str, width: usize| {
        let end = out.len() + width;
        out.extend(text.as_bytes().iter().take(width));
        out.resize(end, 0);
    };
    field(name, 100);
    field(&format!("{mode:07o}"), 8);
    field("0000000", 8);
    field("0000000", 8);
    field(&format!("{size:011o}"), 12);
    field(&format!("{time:011o}"), 12);
    // The checksum is counted with spaces in its own place.
    field("        ", 8);
    field(if folder { "5" } else { "0" }, 1);
    field("", 100);
    field("ustar\x0000", 8);
    field("root", 32);
    field("root", 32);
    field("0000000", 8);
    field("0000000", 8);
    field("", BLOCK - 345);
    let sum: u32 = out.iter().map(|byte| u32::from(*byte)).sum();
    let place = out.get_mut(148..156).context("a ustar header has 512 bytes")?;
    place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(out)
}
