//! Bytes we stand behind: digests and signed documents.
//!
//! Absent on purpose: the network, the store, HTTP. Packages, deltas and TUF roles join here later.

pub mod digest;
pub mod envelope;
pub mod keys;

pub use digest::{Hasher, sha256_hex};
pub use envelope::{VerifyError, sign, verify};
pub use keys::{PublicKey, SigningKey};
