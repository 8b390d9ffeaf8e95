//! Whatever a maintainer script prints: it comes out masked, bounded and without control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for line in fettle_agent::fuzzing::output(bytes) {
        assert!(line.len() < 16 << 10 && line.chars().all(|character| !character.is_control() || character == '\t'));
    }
});
