//! Lines that a plug-in writes, and that a host writes to one.
#![no_main]

use fettle_plugin::protocol::{HelloLine, HostLine, Reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for line in bytes.split(|byte| *byte == b'\n') {
        let _ = serde_json::from_slice::<HelloLine>(line);
        let _ = serde_json::from_slice::<Reply>(line);
        let _ = serde_json::from_slice::<HostLine>(line);
    }
});
