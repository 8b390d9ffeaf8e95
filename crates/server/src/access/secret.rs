//! Random secrets, and what is kept of them: never the secret, only its digest.

use crate::ops::OpsError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

/// 256 random bits as base64url, 43 characters.
pub fn fresh() -> Result<String, OpsError> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| OpsError::Unavailable { why: "the system's random source refused".to_owned() })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is stored and looked up. A look-up by digest tells by its timing nothing about the secret:
/// who does not know it cannot choose digests that are near.
pub fn digest_of(secret: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    bytes
}

/// A one-time password for people to type: 20 letters and digits without look-alikes, in groups
/// of five (about 98 bits).
pub fn one_time_password() -> Result<String, OpsError> {
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789-";
    let mut text = String::new();
    while text.chars().filter(|c| *c != '-').count() < 20 {
        let mut byte = [0];
        SystemRandom::new()
            .fill(&mut byte)
            .map_err(|_| OpsError::Unavailable { why: "the system's random source refused".to_owned() })?;
        let letter = LETTERS.get(usize::from(byte[0] % 32)).copied().unwrap_or(b'-');
        // 31 letters: the 32nd is thrown away, so that none is more likely than another.
        if letter == b'-' {
            continue;
        }
        let letters = text.chars().filter(|c| *c != '-').count();
        if letters > 0 && letters % 5 == 0 {
            text.push('-');
        }
        text.push(char::from(letter));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_time_passwords_can_be_typed_and_do_not_repeat() {
        let (one, two) = (super::one_time_password().unwrap(), super::one_time_password().unwrap());
        assert_eq!(one.len(), 23, "{one}");
        assert_ne!(one, two);
        assert!(!one.contains(['l', '1', 'o', '0', 'i']));
    }
}
