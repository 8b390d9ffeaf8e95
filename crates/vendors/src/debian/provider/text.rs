//! Text from outside: made safe to show, names and versions checked before they become arguments.

use fettle_domain::version::Scheme;

/// Bytes as one line of text without control characters, so that output cannot drive a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end().chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Whether it is a package name (Debian policy 5.6.1; upper case is seen in old packages).
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 256
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Whether it is an architecture name.
pub(super) fn is_architecture(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether it is a version that can stand in an argument.
pub(super) fn is_version(text: &str) -> bool {
    text.len() <= 256 && !text.starts_with('-') && Scheme::Dpkg.validate(text).is_ok() && text.trim() == text
}

/// The file name apt gives a package in its cache: `:` of an epoch is written `%3a`.
pub(super) fn deb_name(name: &str, version: &str, architecture: &str) -> String {
    let quote = |text: &str| text.replace(':', "%3a").replace('_', "%5f");
    format!("{}_{}_{architecture}.deb", quote(name), quote(version))
}

/// Whether it is a plain file name of a package file, so that it can be put into a folder.
pub(super) fn is_file_name(text: &str) -> bool {
    text.len() <= 255
        && text.ends_with(".deb")
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.' | b'_' | b'%' | b'~' | b':'))
}

/// Bytes in words for people.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} bytes"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_become_arguments() {
        for good in ["libc6", "g++-12", "0ad", "libstdc++6", "linux-image-6.1.0-18-amd64"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-o", "--root=/", "a b", "a/b", "a;b", "a=b", "../x", "a\n"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_version("1:2.0~rc1-1+b1") && !is_version("-1") && !is_version("1 2") && !is_version(""));
        assert!(is_file_name("a_1%3a2-1_all.deb"));
        for bad in ["../a.deb", ".deb", "-a.deb", "a/b.deb", "a.rpm"] {
            assert!(!is_file_name(bad), "{bad}");
        }
        assert_eq!(deb_name("tb-order", "9:1.0-1", "all"), "tb-order_9%3a1.0-1_all.deb");
        assert_eq!(printable(b"\x1b[31mred\x07 \n"), "\u{fffd}[31mred\u{fffd}");
    }
}
