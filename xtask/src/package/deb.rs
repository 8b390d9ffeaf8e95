//! The `.deb`: an `ar` of a version, the control files and the files.

use super::About;
use super::contents::{Contents, Entry, Kind};
use super::{contents, tar};
use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use md5::{Digest as _, Md5};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// Writes it.
pub(super) fn write(root: &Path, contents: &Contents, about: &About) -> Result<Vec<u8>> {
    let data: Vec<Entry> = contents.for_deb()?;
    let mut control = vec![Entry::folder("", 0o755)];
    control.push(Entry::file("control", 0o644, control_file(&data, about)?.into_bytes()));
    control.push(Entry::file("md5sums", 0o644, sums(&data)?.into_bytes()));
    for name in ["postinst", "prerm", "postrm"] {
        control.push(Entry::file(name, 0o755, contents::asset(root, &format!("scripts/{name}"))?));
    }
    let mut out = b"!<arch>\n".to_vec();
    member(&mut out, "debian-binary", b"2.0\n", about.time);
    member(&mut out, "control.tar.gz", &compress(&tar::write(&control, about.time)?)?, about.time);
    member(&mut out, "data.tar.gz", &compress(&tar::write(&data, about.time)?)?, about.time);
    Ok(out)
}

fn control_file(data: &[Entry], about: &About) -> Result<String> {
    let kilobytes = data.iter().map(|entry| entry.bytes.len().div_ceil(1024).max(1)).sum::<usize>();
    let mut text = String::new();
    writeln!(text, "Package: fettle")?;
    writeln!(text, "Version: {}", about.version)?;
    writeln!(text, "Architecture: {}", about.architecture.deb)?;
    writeln!(text, "Maintainer: {}", contents::MAINTAINER)?;
    writeln!(text, "Installed-Size: {kilobytes}")?;
    let needs = about.needs.deb();
    if !needs.is_empty() {
        writeln!(text, "Depends: {}", needs.join(", "))?;
    }
    writeln!(text, "Section: admin\nPriority: optional\nHomepage: {}", env!("CARGO_PKG_REPOSITORY"))?;
    writeln!(text, "Description: {}", contents::SUMMARY)?;
    for line in contents::DESCRIPTION {
        writeln!(text, " {}", if line.is_empty() { "." } else { line })?;
    }
    Ok(text)
}

fn sums(data: &[Entry]) -> Result<String> {
    let mut text = String::new();
    for entry in data.iter().filter(|entry| entry.kind != Kind::Folder) {
        for byte in Md5::digest(&entry.bytes) {
            write!(text, "{byte:02x}")?;
        }
        writeln!(text, "  {}", entry.path)?;
    }
    Ok(text)
}

/// gzip without name or time, so that the same input gives the same bytes.
pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut writer = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    writer.write_all(bytes).and_then(|()| writer.finish()).context("cannot compress")
}

fn member(out: &mut Vec<u8>, name: &str, bytes: &[u8], time: u32) {
    let head = format!("{name:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 100_644, bytes.len());
    out.extend(head.bytes());
    out.extend(bytes);
    if !bytes.len().is_multiple_of(2) {
        out.push(b'\n');
    }
}
