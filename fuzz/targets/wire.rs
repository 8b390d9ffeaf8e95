//! Messages between host and server: what can be read can be written and read again as the same.
#![no_main]

use fettle_wire::agent::{CheckIn, EnrolReply, Report, Work};
use fettle_wire::offer::Offer;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn again<M: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<M>(bytes) {
        let written = serde_json::to_vec(&message).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<M>(&written).expect("what was written can be read"), message);
    }
}

fuzz_target!(|bytes: &[u8]| {
    again::<CheckIn>(bytes);
    again::<Work>(bytes);
    again::<Report>(bytes);
    again::<EnrolReply>(bytes);
    again::<Offer>(bytes);
});
