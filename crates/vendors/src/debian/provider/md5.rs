//! MD5 (RFC 1321), only because dpkg records conffiles and package files by it: to tell whether an
//! administrator edited a file, never to trust one.

use md5::{Digest as _, Md5};
use std::io::{self, Read};

/// Lowercase hex MD5 of everything the reader gives.
pub(super) fn of_reader(mut reader: impl Read) -> io::Result<String> {
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::of_reader;

    /// The test suite of RFC 1321, appendix A.5.
    #[test]
    fn passes_the_test_suite_of_its_rfc() {
        let digits = "1234567890".repeat(8);
        for (text, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (digits.as_str(), "57edf4a22be3c955ac49da2e2107b67a"),
        ] {
            assert_eq!(of_reader(text.as_bytes()).unwrap(), digest, "{text}");
        }
        let big = vec![b'x'; 200_001];
        assert_eq!(of_reader(&big[..]).unwrap(), "1988af9e408a906316193d3e6b5ac34b");
    }
}
