//! `fettle host import`: inventories from files. Files may come from anybody: they are read with caps,
//! and the server checks all of it once more.

use super::text;
use crate::cli::Output;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, fixed, flexible};
use fettle_wire::scan::{FORMAT, VERSION};
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Longest file, and longest document in it.
const FILE: u64 = 32 << 20;
const DOCUMENT: u64 = 32 << 20;
/// Files at once.
const FILES: usize = 10_000;
/// First bytes of a compressed file (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Imports them one after the other; a file that is refused does not keep the others out.
pub(super) async fn run(client: &Client, files: &[PathBuf], form: Output) -> Result<(), Failure> {
    if files.len() > FILES {
        return Err(Failure::usage(format!("{} files: at most {FILES} at once", files.len())));
    }
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for path in files {
        let answer = match document(path) {
            Ok(document) => client.post("/host-imports", &document).await,
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(Value::Object(mut imported)) => {
                imported.insert("file".to_owned(), json!(path.display().to_string()));
                taken.push(Value::Object(imported));
            }
            Ok(_) => refused.push(Failure::failed(format!("{}: the server answered nothing", path.display()))),
            // Without the server or the permission the rest would fare no better.
            Err(failure) if matches!(failure.code, 3 | 6) => return Err(failure),
            Err(failure) => {
                refused.push(Failure { what: format!("{}: {}", path.display(), failure.what), ..failure });
            }
        }
    }
    told(&taken, form)?;
    let Some(last) = refused.pop() else { return Ok(()) };
    for failure in &refused {
        eprintln!("{failure}");
    }
    Err(last)
}

fn told(taken: &[Value], form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        return output::json(&json!({ "items": taken }));
    }
    if taken.is_empty() {
        return Ok(());
    }
    let columns = [
        flexible("HOST", "/name"),
        fixed("NEW", "/new"),
        fixed("KNOWN BY", "/known_by"),
        fixed("AS OF", "/as_of"),
        fixed("PACKAGES", "/packages"),
    ];
    output::print(&output::table(&json!({ "items": taken }), &columns, output::width(), ""))?;
    for imported in taken {
        for missing in imported.get("missing").and_then(Value::as_array).into_iter().flatten() {
            output::line(&format!("{}: missing: {}", text(imported, "/name"), output::cell(Some(missing))))?;
        }
    }
    Ok(())
}

/// The document of a file.
fn document(path: &Path) -> Result<Value, Failure> {
    let wrong = |why: String| Failure::usage(why).advise("Write it anew on the machine: fettle agent scan --out FILE");
    let file = File::open(path).map_err(|error| Failure::new(4, format!("cannot open: {error}")))?;
    let mut bytes = Vec::new();
    file.take(FILE + 1).read_to_end(&mut bytes).map_err(|error| Failure::failed(format!("cannot read: {error}")))?;
    if bytes.len() as u64 > FILE {
        return Err(wrong(format!("longer than {} MB: this is no inventory", FILE >> 20)));
    }
    if bytes.starts_with(&GZIP) {
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(bytes.as_slice())
            .take(DOCUMENT + 1)
            .read_to_end(&mut unpacked)
            .map_err(|error| wrong(format!("cannot be unpacked: {error}")))?;
        if unpacked.len() as u64 > DOCUMENT {
            return Err(wrong(format!("unpacks to more than {} MB: this is no inventory", DOCUMENT >> 20)));
        }
        bytes = unpacked;
    }
    let document: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("no JSON: {error}")))?;
    let (format, version) = (text(&document, "/format"), text(&document, "/version"));
    if format != FORMAT {
        return Err(wrong(format!("`format` is `{format}`, not `{FORMAT}`: this is no inventory")));
    }
    if version != VERSION.to_string() {
        return Err(wrong(format!("`version` is {version}; this program reads version {VERSION}")));
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn refused(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scan");
        std::fs::write(&path, bytes).unwrap();
        document(&path).map_or_else(|failure| failure.what, |_| "taken".to_owned())
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn hostile_files_are_refused_with_what_is_wrong() {
        assert_eq!(refused(br#"{"format":"fettle-scan","version":1}"#), "taken");
        assert_eq!(refused(&packed(br#"{"format":"fettle-scan","version":1}"#)), "taken");
        assert!(refused(b"").contains("no JSON"));
        assert!(refused(br#"{"format":"other","version":1}"#).contains("`format` is `other`"));
        assert!(refused(br#"{"format":"fettle-scan","version":2}"#).contains("`version` is 2"));
        assert!(refused(br#"["fettle-scan"]"#).contains("`format` is ``"));
        assert!(refused("[".repeat(1_000_000).as_bytes()).contains("no JSON"), "depth is bounded");
        assert!(refused(&packed(&vec![b' '; 40 << 20])).contains("unpacks to more than 32 MB"), "a bomb");
        let mut cut = packed(&[b' '; 10_000]);
        cut.truncate(20);
        assert!(refused(&cut).contains("cannot be unpacked"));
        assert_eq!(document(Path::new("/no/such/file")).unwrap_err().code, 4);
    }
}
