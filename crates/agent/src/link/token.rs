//! The enrolment token: `fettle1.FINGERPRINT.SECRET`, where FINGERPRINT is the base64url sha-256 of
//! the server's CA certificate (DER). The secret is only passed on; the fingerprint makes the first
//! contact authenticated.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longest token text; real ones have about 100 characters.
const LONGEST: usize = 512;

/// Text that is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Another form.
    #[error(
        "the token has not the form fettle1.FINGERPRINT.SECRET: paste the whole line that `fettle host token create` printed"
    )]
    Form,
    /// A form of the future.
    #[error("the token is of form `{0}`, this agent knows `fettle1`: install the agent that belongs to the server")]
    Newer(String),
}

/// A token that is well-formed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// sha-256 of the CA certificate's DER.
    pub(crate) authority: [u8; 32],
    /// The whole text, to be sent. A secret: never logged.
    pub(crate) text: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    pub(crate) fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(TokenError::Form);
        }
        let mut parts = text.splitn(3, '.');
        let (Some(form), Some(fingerprint), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TokenError::Form);
        };
        if form != "fettle1" {
            let newer = form.strip_prefix("fettle").is_some_and(|number| number.parse::<u32>().is_ok());
            return Err(if newer { TokenError::Newer(form.to_owned()) } else { TokenError::Form });
        }
        let authority = URL_SAFE_NO_PAD
            .decode(fingerprint.trim_end_matches('='))
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or(TokenError::Form)?;
        let printable = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        if printable { Ok(Self { authority, text: text.to_owned() }) } else { Err(TokenError::Form) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_token_and_refuses_everything_else() {
        let pin = URL_SAFE_NO_PAD.encode([7; 32]);
        let token = Token::parse(&format!(" fettle1.{pin}.s3cret-Text_\n")).unwrap();
        assert_eq!(token.authority, [7; 32]);
        assert!(!format!("{token:?}").contains("s3cret"));
        for bad in [
            "",
            "fettle1",
            "fettle1..",
            "fettle1.AAAA.secret",
            &format!("fettle1.{pin}."),
            &format!("x.{pin}.s"),
            &format!("fettle1.{pin}.a b"),
        ] {
            assert_eq!(Token::parse(bad), Err(TokenError::Form), "{bad}");
        }
        assert_eq!(Token::parse("fettle2.x.y"), Err(TokenError::Newer("fettle2".to_owned())));
        assert_eq!(Token::parse(&"x".repeat(10_000)), Err(TokenError::Form));
    }
}
