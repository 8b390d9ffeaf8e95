//! The `.rpm`: lead, signature header (digests; signing is the repository's business), main header,
//! payload. Tags and flags are those of rpm's `rpmtag.h` and `rpmds.h`.

use super::About;
use super::contents::{self, Contents, Entry, Kind};
use super::cpio;
use super::deb::compress;
use super::rpm_header::{self as header, Value, small};
use anyhow::{Context, Result};
use md5::{Digest as _, Md5};
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use std::path::Path;

/// Numbers of the digest algorithm SHA-256 in tags.
const SHA_256: u32 = 8;
/// A file's `%doc`.
const DOCUMENT: u32 = 1 << 1;
/// A requirement's `<=`, and what it is for.
const LESS_OR_EQUAL: u32 = 2 | 8;
const EQUAL: u32 = 8;
const INTERPRETER: u32 = 1 << 8;
const OF_SCRIPT_POST: u32 = 1 << 10;
const OF_SCRIPT_PREUN: u32 = 1 << 11;
const OF_SCRIPT_POSTUN: u32 = 1 << 12;
const RPMLIB: u32 = 1 << 24;

/// Writes it.
pub(super) fn write(root: &Path, contents: &Contents, about: &About) -> Result<Vec<u8>> {
    let entries = contents.for_rpm();
    let archive = cpio::write(&entries, about.time);
    let payload = compress(&archive)?;
    let mut tags = general(about);
    tags.extend(scripts(root)?);
    tags.extend(files(&entries, about.time));
    tags.extend(relations(about));
    tags.extend([
        (1124, text("cpio")),
        (1125, text("gzip")),
        (1126, text("9")),
        (5062, text("utf-8")),
        (5092, Value::Texts(vec![hex(&SHA256, &payload)])),
        (5093, Value::Numbers32(vec![SHA_256])),
        (5097, Value::Texts(vec![hex(&SHA256, &archive)])),
    ]);
    let main = header::write(header::IMMUTABLE, tags);
    let mut whole = main.clone();
    whole.extend(&payload);
    let signature = header::write(
        header::SIGNATURES,
        vec![
            (269, text(&hex(&SHA1_FOR_LEGACY_USE_ONLY, &main))),
            (273, text(&hex(&SHA256, &main))),
            (1000, Value::Numbers32(vec![small(whole.len())])),
            (1004, Value::Bytes(Md5::digest(&whole).to_vec())),
            (1007, Value::Numbers32(vec![small(archive.len())])),
        ],
    );
    let mut out = lead(about);
    out.extend(signature);
    out.resize(out.len().div_ceil(8) * 8, 0);
    out.extend(whole);
    Ok(out)
}

/// What file(1) reads; rpm itself reads the headers.
fn lead(about: &About) -> Vec<u8> {
    let number: u16 = if about.architecture.rust == "aarch64" { 19 } else { 1 };
    let mut out = vec![0xed, 0xab, 0xee, 0xdb, 3, 0, 0, 0];
    out.extend(number.to_be_bytes());
    out.extend(format!("fettle-{}-1", about.version).bytes().take(65));
    out.resize(8 + 2 + 66, 0);
    out.extend(1_u16.to_be_bytes());
    out.extend(5_u16.to_be_bytes());
    out.resize(96, 0);
    out
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn translated(text: &str) -> Value {
    Value::Translated(text.to_owned())
}

fn general(about: &About) -> Vec<(u32, Value)> {
    let architecture = about.architecture.rpm;
    vec![
        (100, Value::Texts(vec!["C".to_owned()])),
        (1000, text("fettle")),
        (1001, text(&about.version)),
        (1002, text("1")),
        (1004, translated(contents::SUMMARY)),
        (1005, translated(&contents::DESCRIPTION.join("\n"))),
        (1006, Value::Numbers32(vec![about.time])),
        // The same on every builder.
        (1007, text("localhost")),
        (1014, text(env!("CARGO_PKG_LICENSE"))),
        (1015, text(contents::MAINTAINER)),
        (1016, translated("System Environment/Daemons")),
        (1020, text(env!("CARGO_PKG_REPOSITORY"))),
        (1021, text("linux")),
        (1022, text(architecture)),
        (1044, text(&format!("fettle-{}-1.src.rpm", about.version))),
        (1064, text("4.18.0")),
        (1132, text(&format!("{architecture}-linux"))),
    ]
}

fn scripts(root: &Path) -> Result<Vec<(u32, Value)>> {
    let mut tags = Vec::new();
    for (name, body, program) in [("post", 1024, 1086), ("preun", 1025, 1087), ("postun", 1026, 1088)] {
        let script = String::from_utf8(contents::asset(root, &format!("scripts/rpm-{name}"))?)
            .with_context(|| format!("scripts/rpm-{name} is not UTF-8"))?;
        tags.push((body, text(&script)));
        tags.push((program, text("/bin/sh")));
    }
    Ok(tags)
}

fn files(entries: &[Entry], time: u32) -> Vec<(u32, Value)> {
    let mut folders: Vec<String> = Vec::new();
    let (mut names, mut places) = (Vec::new(), Vec::new());
    for entry in entries {
        let (folder, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        let folder = if folder.is_empty() { "/".to_owned() } else { format!("/{folder}/") };
        let place = folders.iter().position(|known| *known == folder).unwrap_or(folders.len());
        if place == folders.len() {
            folders.push(folder);
        }
        names.push(name.to_owned());
        places.push(small(place));
    }
    let all32 = |of: &dyn Fn(&Entry) -> u32| Value::Numbers32(entries.iter().map(of).collect());
    let all_texts = |of: &dyn Fn(&Entry) -> String| Value::Texts(entries.iter().map(of).collect());
    let size = |entry: &Entry| if entry.kind == Kind::Folder { 4096 } else { small(entry.bytes.len()) };
    let digest_of = |entry: &Entry| if entry.kind == Kind::Folder { String::new() } else { hex(&SHA256, &entry.bytes) };
    let modes = entries.iter().map(|entry| u16::try_from(entry.full_mode()).unwrap_or(0)).collect();
    vec![
        (1009, Value::Numbers32(vec![entries.iter().map(|entry| small(entry.bytes.len())).sum()])),
        (1028, all32(&size)),
        (1030, Value::Numbers16(modes)),
        (1033, Value::Numbers16(vec![0; entries.len()])),
        (1034, all32(&|_| time)),
        (1035, all_texts(&digest_of)),
        (1036, all_texts(&|_| String::new())),
        (1037, all32(&|entry| if entry.kind == Kind::Document { DOCUMENT } else { 0 })),
        (1039, all_texts(&|_| "root".to_owned())),
        (1040, all_texts(&|_| "root".to_owned())),
        (1045, all32(&|_| u32::MAX)),
        (1095, all32(&|_| 1)),
        (1096, Value::Numbers32((1..=small(entries.len())).collect())),
        (1097, all_texts(&|_| String::new())),
        (1116, Value::Numbers32(places)),
        (1117, Value::Texts(names)),
        (1118, Value::Texts(folders)),
        (5011, Value::Numbers32(vec![SHA_256])),
    ]
}

/// What it provides and requires.
fn relations(about: &About) -> Vec<(u32, Value)> {
    let own = format!("{}-1", about.version);
    let mut requires: Vec<(String, u32, String)> = vec![
        ("/bin/sh".into(), INTERPRETER | OF_SCRIPT_POST | OF_SCRIPT_PREUN | OF_SCRIPT_POSTUN, String::new()),
        ("rpmlib(CompressedFileNames)".into(), RPMLIB | LESS_OR_EQUAL, "3.0.4-1".into()),
        ("rpmlib(FileDigests)".into(), RPMLIB | LESS_OR_EQUAL, "4.6.0-1".into()),
        ("rpmlib(PayloadFilesHavePrefix)".into(), RPMLIB | LESS_OR_EQUAL, "4.0-1".into()),
    ];
    requires.extend(about.needs.rpm().into_iter().map(|name| (name, 0, String::new())));
    requires.sort();
    vec![
        (1047, Value::Texts(vec!["fettle".to_owned()])),
        (1112, Value::Numbers32(vec![EQUAL])),
        (1113, Value::Texts(vec![own])),
        (1048, Value::Numbers32(requires.iter().map(|(_, flags, _)| *flags).collect())),
        (1049, Value::Texts(requires.iter().map(|(name, ..)| name.clone()).collect())),
        (1050, Value::Texts(requires.iter().map(|(_, _, version)| version.clone()).collect())),
    ]
}

fn hex(algorithm: &'static Algorithm, bytes: &[u8]) -> String {
    digest(algorithm, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
