//! ed25519 keys (RFC 8032) for signed documents.

use crate::digest::sha256_hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No randomness, or a key generator error.
    #[error("cannot make a signing key: the system's random source refused")]
    Random,
    /// Not a PKCS#8 ed25519 key.
    #[error("the signing key is not a PKCS#8 ed25519 key")]
    Private,
    /// Not 32 bytes in base64.
    #[error("the public key is not 32 bytes in base64")]
    Public,
}

/// A private key. Never printed.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Makes a new key; returns its PKCS#8 bytes, to be stored with mode 0600.
    pub fn generate() -> Result<Vec<u8>, KeyError> {
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|_| KeyError::Random)
    }

    /// Reads a stored key.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_pkcs8(bytes).map(Self).map_err(|_| KeyError::Private)
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// From base64 of the raw 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        match STANDARD.decode(text) {
            Ok(bytes) if bytes.len() == 32 => Ok(Self(bytes)),
            _ => Err(KeyError::Public),
        }
    }

    /// Base64 of the raw 32 bytes.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }

    /// Lowercase hex sha-256 of the raw bytes.
    pub fn id(&self) -> String {
        sha256_hex(&self.0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
