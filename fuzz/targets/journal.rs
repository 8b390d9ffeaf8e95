//! Whatever stands in a journal or a spool: it is read or refused with words, and never more than that.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fettle_agent::fuzzing::journal(bytes));
