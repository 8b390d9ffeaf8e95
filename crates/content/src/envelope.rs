//! DSSE envelopes (github.com/secure-systems-lab/dsse, protocol 1.0): the bytes that were signed are
//! the bytes that are read, so no canonical JSON is needed.

use crate::keys::{PublicKey, SigningKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

/// Why an envelope is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Another kind of document.
    #[error("the document is of type `{found}`, expected `{expected}`")]
    Type {
        /// What it says it is.
        found: String,
        /// What was wanted.
        expected: String,
    },
    /// Not base64.
    #[error("the document is not base64")]
    Encoding,
    /// No signature of a trusted key.
    #[error("the document carries no valid signature of a key this host trusts")]
    Signature,
}

/// One signature: key id and base64 of the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Payload in base64.
    pub payload: String,
    /// Id of the key that signed.
    pub key_id: String,
    /// Signature in base64.
    pub signature: String,
}

/// Signs a payload of a type.
pub fn sign(key: &SigningKey, payload_type: &str, payload: &[u8]) -> Signed {
    Signed {
        payload: STANDARD.encode(payload),
        key_id: key.public().id(),
        signature: STANDARD.encode(key.sign(&pre_authentication_encoding(payload_type, payload))),
    }
}

/// Verifies type and signature; returns the payload. `signatures` are pairs of key id and base64
/// signature; one valid signature of one trusted key suffices.
pub fn verify(
    trusted: &[PublicKey],
    expected_type: &str,
    payload_type: &str,
    payload: &str,
    signatures: &[(String, String)],
) -> Result<Vec<u8>, VerifyError> {
    if payload_type != expected_type {
        return Err(VerifyError::Type {
            found: payload_type.chars().take(100).collect(),
            expected: expected_type.to_owned(),
        });
    }
    let bytes = STANDARD.decode(payload).map_err(|_| VerifyError::Encoding)?;
    let message = pre_authentication_encoding(payload_type, &bytes);
    let valid = trusted.iter().any(|key| {
        let id = key.id();
        signatures.iter().filter(|(key_id, _)| *key_id == id).any(|(_, signature)| {
            STANDARD.decode(signature).is_ok_and(|signature| {
                UnparsedPublicKey::new(&ED25519, key.bytes()).verify(&message, &signature).is_ok()
            })
        })
    });
    if valid { Ok(bytes) } else { Err(VerifyError::Signature) }
}

/// DSSE's PAE: type and body with their lengths, so that neither can be taken for the other.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap()
    }

    #[test]
    fn what_was_signed_is_read_and_nothing_else() {
        let (ours, other) = (key(), key());
        let signed = sign(&ours, "t/a", b"payload");
        let signatures = [(signed.key_id.clone(), signed.signature.clone())];
        let read = |trusted: &SigningKey, kind: &str, payload: &str| {
            verify(&[trusted.public()], "t/a", kind, payload, &signatures)
        };
        assert_eq!(read(&ours, "t/a", &signed.payload), Ok(b"payload".to_vec()));
        assert_eq!(read(&other, "t/a", &signed.payload), Err(VerifyError::Signature));
        assert_eq!(read(&ours, "t/a", &STANDARD.encode(b"payloae")), Err(VerifyError::Signature));
        assert!(matches!(read(&ours, "t/b", &signed.payload), Err(VerifyError::Type { .. })));
        assert_eq!(read(&ours, "t/a", "%"), Err(VerifyError::Encoding));
    }
}
