//! Stanzas of dpkg's and apt's files (deb822(5)), read as a stream with limits on line, stanza and file.

use std::io::{self, BufRead, Read};

/// Longest line: dpkg's own longest fields are some ten thousand bytes.
const LINE_CAP: u64 = 1 << 20;
/// Biggest stanza: a package with thousands of conffiles stays far below.
const STANZA_CAP: usize = 4 << 20;
/// Biggest file: Debian's main has 50 MB.
const FILE_CAP: u64 = 1 << 30;

/// One stanza: its fields in order. Continuation lines are kept, joined by line ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stanza {
    fields: Vec<(String, String)>,
}

impl Stanza {
    /// The field of this name, compared as the format asks: without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The field, or nothing as text.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All fields in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A reader of stanzas.
pub(super) struct Stanzas<R> {
    reader: R,
    line: Vec<u8>,
    read: u64,
}

impl<R: BufRead> Stanzas<R> {
    /// Reads from here.
    pub fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), read: 0 }
    }

    /// The next stanza whose `Package` is wanted; others are passed over without keeping them.
    pub fn next_of(&mut self, wanted: impl Fn(&str) -> bool) -> io::Result<Option<Stanza>> {
        let mut stanza = Stanza::default();
        let (mut size, mut skip) = (0, false);
        loop {
            if !self.next_line()? {
                return Ok(if stanza.fields.is_empty() { None } else { Some(stanza) });
            }
            let line = self.line.as_slice();
            if line.iter().all(u8::is_ascii_whitespace) {
                if !stanza.fields.is_empty() {
                    return Ok(Some(stanza));
                }
                skip = false;
                continue;
            }
            if skip || line.first() == Some(&b'#') {
                continue;
            }
            size += line.len();
            if size > STANZA_CAP {
                return Err(broken(format!("a stanza is larger than {STANZA_CAP} bytes")));
            }
            let text = String::from_utf8_lossy(line);
            if text.starts_with([' ', '\t']) {
                let last =
                    stanza.fields.last_mut().ok_or_else(|| broken("a stanza begins with a continuation line"))?;
                last.1.push('\n');
                last.1.push_str(text.trim_end());
                continue;
            }
            let (name, value) = text.split_once(':').ok_or_else(|| {
                broken(format!("a line is no field: {}", text.trim().chars().take(80).collect::<String>()))
            })?;
            if name.eq_ignore_ascii_case("Package") && !wanted(value.trim()) {
                stanza.fields.clear();
                skip = true;
                continue;
            }
            stanza.fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next stanza.
    pub fn next(&mut self) -> io::Result<Option<Stanza>> {
        self.next_of(|_| true)
    }

    fn next_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let count = self.reader.by_ref().take(LINE_CAP).read_until(b'\n', &mut self.line)?;
        self.read += count as u64;
        if count as u64 == LINE_CAP && self.line.last() != Some(&b'\n') {
            return Err(broken(format!("a line is longer than {LINE_CAP} bytes")));
        }
        if self.read > FILE_CAP {
            return Err(broken(format!("it is larger than {FILE_CAP} bytes")));
        }
        Ok(count > 0)
    }
}

fn broken(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &[u8]) -> io::Result<Vec<Stanza>> {
        let mut stanzas = Stanzas::new(text);
        let mut found = Vec::new();
        while let Some(stanza) = stanzas.next()? {
            found.push(stanza);
        }
        Ok(found)
    }

    #[test]
    fn reads_fields_and_continuations() {
        let found =
            all(b"\n\nPackage: a\nConffiles:\n /etc/a 11\n /etc/b 22\nversion: 1\n\n# remark\nPackage: b\nVersion: 2")
                .unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].text("Conffiles"), "\n /etc/a 11\n /etc/b 22");
        assert_eq!(found[0].text("VERSION"), "1");
        assert_eq!(found[1].get("none"), None);
    }

    #[test]
    fn passes_over_what_is_not_wanted() {
        let mut stanzas = Stanzas::new(&b"Package: a\nVersion: 1\n\nPackage: b\nVersion: 2\n\nPackage: c\nX: y\n"[..]);
        let found = stanzas.next_of(|name| name == "b").unwrap().unwrap();
        assert_eq!(found.text("Version"), "2");
        assert_eq!(stanzas.next_of(|name| name == "b").unwrap(), None);
    }

    #[test]
    fn refuses_what_is_no_stanza_or_too_big() {
        assert!(all(b"no field here\n").is_err());
        assert!(all(b" begins: wrong\n").is_err());
        let long = format!("Package: {}\n", "x".repeat(2 << 20));
        assert!(all(long.as_bytes()).unwrap_err().to_string().contains("longer"));
        let many = format!("Package: a\n{}", format!(" {}\n", "x".repeat(1000)).repeat(5000));
        assert!(all(many.as_bytes()).unwrap_err().to_string().contains("larger"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_stanzas_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = all(&bytes);
        }
    }
}
