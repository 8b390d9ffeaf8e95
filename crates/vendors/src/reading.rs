//! What all feeds need against hostile documents: limits, checks of names, and errors in one voice.

use fettle_plugin::{ErrorKind, FeedContent, PluginError, Problem};

/// Longest description that is kept, in bytes.
pub const DESCRIPTION: usize = 4_000;
/// Longest note that is kept, in bytes.
pub const NOTE: usize = 400;
/// Longest version text that is read, in bytes. (The longest in Debian has under a hundred.)
pub const VERSION: usize = 256;
/// Most problems that one document may report; the rest are counted.
const PROBLEMS: usize = 200;

/// Collects problems of one document up to a limit.
pub struct Problems<'a> {
    document: &'a str,
    kept: Vec<Problem>,
    left_out: usize,
}

impl<'a> Problems<'a> {
    /// None yet, in this document.
    pub fn new(document: &'a str) -> Self {
        Self { document, kept: Vec::new(), left_out: 0 }
    }

    /// Notes a record that cannot be read.
    pub fn note(&mut self, place: &str, message: impl Into<String>) {
        if self.kept.len() >= PROBLEMS {
            self.left_out += 1;
            return;
        }
        self.kept.push(Problem {
            place: format!("{}: {}", clip(self.document, 200), clip(place, 200)),
            message: clip(&message.into(), 400),
        });
    }

    /// Puts the problems into the content.
    pub fn finish(mut self, content: &mut FeedContent) {
        if self.left_out > 0 {
            let message = format!("{} more records could not be read", self.left_out);
            self.kept.push(Problem { place: clip(self.document, 200), message });
        }
        content.problems.append(&mut self.kept);
    }
}

/// The document as a whole cannot be used; the last good data stays in use.
pub fn unusable(document: &str, why: impl std::fmt::Display) -> PluginError {
    PluginError::new(
        ErrorKind::InvalidInput,
        format!("cannot read {}: {}", clip(document, 200), clip(&why.to_string(), 400)),
    )
    .advise("the document is cut or not what its publisher serves; fetch it again")
}

/// The same for a document that breaks a limit of this reader.
pub fn too_much(document: &str, what: &str, limit: usize) -> PluginError {
    PluginError::new(ErrorKind::InvalidInput, format!("{} has more than {limit} {what}", clip(document, 200)))
        .advise("no real document of this feed is so big; check where it comes from")
}

/// The text without control characters, cut at a character border to at most `bytes`.
pub fn clip(text: &str, bytes: usize) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    if text.len() <= bytes {
        return text.chars().map(plain).collect();
    }
    let end = (0..=bytes.saturating_sub('…'.len_utf8())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let mut cut: String = text.get(..end).unwrap_or_default().chars().map(plain).collect();
    cut.push('…');
    cut
}

/// Whether the text may be a source package name (Debian policy 5.6.1; older names with capitals are let in).
pub fn is_package_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.' | b'_'))
}

/// Whether the text may be a public name of a flaw or a publisher's record (`CVE-2024-5535`, `TEMP-0000000-0CA7E3`).
pub fn is_record_name(text: &str) -> bool {
    (3..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':'))
}

/// Whether the text is a CVE id (`CVE-` year `-` four digits or more).
pub fn is_cve(text: &str) -> bool {
    let Some((year, number)) = text.strip_prefix("CVE-").and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    year.len() == 4 && digits(year) && (4..=19).contains(&number.len()) && digits(number)
}

/// Whether the text may be a release codename (`bookworm`).
pub fn is_codename(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The start of a document, for telling whose it is.
pub fn head(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

/// Whether `needle` stands in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The first byte that is not white space (nor a byte order mark).
pub fn first_byte(bytes: &[u8]) -> Option<u8> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.iter().copied().find(|b| !b.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_whole_characters_and_drops_control_characters() {
        assert_eq!(clip("grün\u{1b}[31m", 20), "grün [31m");
        assert_eq!(clip("üüüü", 6), "ü…");
        assert_eq!(clip("", 0), "");
    }

    #[test]
    fn names_are_told_from_rubbish() {
        assert!(is_cve("CVE-2024-5535") && is_cve("CVE-2021-1000000"));
        assert!(!is_cve("CVE-2024-1") && !is_cve("CVE-24-5535") && !is_cve("cve-2024-5535"));
        assert!(is_package_name("libstdc++6") && is_package_name("389-ds-base"));
        assert!(!is_package_name("") && !is_package_name("../x") && !is_package_name("a b"));
        assert!(is_record_name("TEMP-0000000-0CA7E3") && !is_record_name("a\nb"));
    }

    #[test]
    fn problems_are_bounded() {
        let mut problems = Problems::new("doc");
        (0..1000).for_each(|n| problems.note(&n.to_string(), "bad"));
        let mut content = FeedContent::default();
        problems.finish(&mut content);
        assert_eq!(content.problems.len(), PROBLEMS + 1);
        assert_eq!(content.problems.last().unwrap().message, "800 more records could not be read");
    }
}
