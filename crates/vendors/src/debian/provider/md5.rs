//! MD5 (RFC 1321), only because dpkg records conffiles and package files by it: to tell whether an
//! administrator edited a file, never to trust one. Written from the specification.

use std::io::{self, Read};

/// How far each step of the four rounds turns.
const TURNS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// Lowercase hex MD5 of everything the reader gives.
pub(super) fn of_reader(mut reader: impl Read) -> io::Result<String> {
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut pending = Vec::with_capacity(64 * 1024 + 64);
    let mut length: u64 = 0;
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        length = length.wrapping_add(count as u64);
        pending.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let whole = pending.len() - pending.len() % 64;
        for block in pending.drain(..whole).as_slice().chunks_exact(64) {
            turn(&mut state, block);
        }
    }
    pending.push(0x80);
    while pending.len() % 64 != 56 {
        pending.push(0);
    }
    pending.extend_from_slice(&length.wrapping_mul(8).to_le_bytes());
    for block in pending.chunks_exact(64) {
        turn(&mut state, block);
    }
    Ok(state.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect())
}

/// One block of 64 bytes.
fn turn(state: &mut [u32; 4], block: &[u8]) {
    let word = |index: u32| {
        let start = index as usize * 4;
        let bytes = block.get(start..start + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        u32::from_le_bytes(bytes)
    };
    let [mut a, mut b, mut c, mut d] = *state;
    for (round, turns) in (0u32..).zip(TURNS) {
        for (step, turn) in (0u32..16).zip(turns.into_iter().cycle()) {
            let (mix, index) = match round {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), (7 * step) % 16),
            };
            // The table T of the specification, section 3.4: integer part of 2^32 * |sin(i)|, i from 1.
            let sine = (f64::from(round * 16 + step + 1).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mix).wrapping_add(word(index)).wrapping_add(sine);
            (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(turn)));
        }
    }
    for (value, add) in state.iter_mut().zip([a, b, c, d]) {
        *value = value.wrapping_add(add);
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
