//! Unpacking with limits: a small file that grows without end is refused, not followed.

use std::io::{Cursor, Read};

/// Largest plain document (the whole Debian tracker is about 80 MB).
const DOCUMENT: u64 = 512 << 20;
/// Largest sum of all members of an archive.
const ARCHIVE: u64 = 2 << 30;
/// Most members of an archive.
const MEMBERS: usize = 400_000;
/// A plain document may be this many times larger than its packed form.
const RATIO: u64 = 250;

/// Calls `each` with name and plain bytes of every document in `bytes`: itself, what it unpacks to, or
/// the members of a zip archive. `each` may refuse.
pub fn each_document(
    name: &str,
    bytes: &[u8],
    each: &mut dyn FnMut(&str, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let plain = limited(name, bytes.len(), flate2::read::MultiGzDecoder::new(bytes))?;
        return each(name.trim_end_matches(".gz"), &plain);
    }
    if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|error| damaged(name, &error))?;
        let plain = limited(name, bytes.len(), decoder)?;
        return each(name.trim_end_matches(".zst"), &plain);
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return each_member(name, bytes, each);
    }
    each(name, bytes)
}

fn each_member(
    name: &str,
    bytes: &[u8],
    each: &mut dyn FnMut(&str, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(name, &error))?;
    if archive.len() > MEMBERS {
        return Err(format!("{name} holds {} files, more than the {MEMBERS} that are read", archive.len()));
    }
    let mut total = 0;
    for index in 0..archive.len() {
        let member = archive.by_index(index).map_err(|error| damaged(name, &error))?;
        if member.is_dir() {
            continue;
        }
        let member_name = match member.name() {
            Ok(inner) => format!("{name}:{inner}"),
            Err(_) => format!("{name}: member {index}"),
        };
        let packed = usize::try_from(member.compressed_size()).unwrap_or(usize::MAX);
        let plain = limited(&member_name, packed, member)?;
        total += plain.len() as u64;
        if total > ARCHIVE {
            return Err(format!("{name} unpacks to more than {} MB", ARCHIVE >> 20));
        }
        each(&member_name, &plain)?;
    }
    Ok(())
}

fn limited(name: &str, packed: usize, reader: impl Read) -> Result<Vec<u8>, String> {
    let limit = DOCUMENT.min((packed as u64).saturating_mul(RATIO).max(1 << 20));
    let mut plain = Vec::new();
    reader.take(limit + 1).read_to_end(&mut plain).map_err(|error| damaged(name, &error))?;
    if plain.len() as u64 > limit {
        return Err(format!("{name} unpacks to more than {limit} bytes: refused as a decompression bomb"));
    }
    Ok(plain)
}

fn damaged(name: &str, error: &dyn std::fmt::Display) -> String {
    format!("{name} is damaged or cut: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, usize)>, String> {
        let mut seen = Vec::new();
        each_document("a.json.gz", bytes, &mut |name, plain| {
            seen.push((name.to_owned(), plain.len()));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn plain_and_packed_come_out_the_same() {
        assert_eq!(read(&gz(b"{}")), Ok(vec![("a.json".into(), 2)]));
        assert_eq!(read(b"{}"), Ok(vec![("a.json.gz".into(), 2)]));
    }

    #[test]
    fn a_bomb_and_a_cut_file_are_refused_by_name() {
        let bomb = gz(&vec![0; 40 << 20]);
        assert!(read(&bomb).unwrap_err().contains("decompression bomb"));
        let whole = gz(&[7; 5000]);
        let cut = &whole[..whole.len() - 5];
        assert!(read(cut).unwrap_err().contains("damaged or cut"));
    }
}
