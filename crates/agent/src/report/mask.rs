//! Masks what looks like a secret in a line of output, before it leaves this host or reaches its disk.

/// Words after which a value is a secret, when `=` or `:` stands between.
const NAMES: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "private_key",
    "credential",
];
const MASK: &str = "***";

/// Masks lines; knows when it is inside a private key.
#[derive(Debug, Default)]
pub(crate) struct Masker {
    inside_key: bool,
}

impl Masker {
    /// The line as it may be shown.
    pub(crate) fn mask(&mut self, line: &str) -> String {
        if self.inside_key {
            self.inside_key = !line.contains("-----END ");
            return format!("{MASK} (private key)");
        }
        if line.contains("PRIVATE KEY-----") {
            self.inside_key = line.contains("-----BEGIN ") && !line.contains("-----END ");
            return format!("{MASK} (private key)");
        }
        mask_addresses(&mask_values(&mask_header(line)))
    }
}

/// `Authorization: …` and `Cookie: …` to the end of the line.
fn mask_header(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    for header in ["authorization:", "proxy-authorization:", "cookie:"] {
        if let Some(at) = lower.find(header) {
            return format!("{} {MASK}", line.get(..at + header.len()).unwrap_or_default());
        }
    }
    line.to_owned()
}

/// `password=…`, `"token": "…"`, `--secret …` up to the next space or quote.
fn mask_values(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, value, after)) = next_value(rest) {
        out.push_str(before);
        if !value.is_empty() {
            out.push_str(MASK);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Splits at the next secret: what stands before its value, the value, what follows.
fn next_value(text: &str) -> Option<(&str, &str, &str)> {
    let lower = text.to_ascii_lowercase();
    let starts = NAMES.iter().filter_map(|name| lower.find(name).map(|at| (at, name.len())));
    let (at, length) = starts.min()?;
    // The rest of the word (`token_id`), then at most quotes and spaces, then the sign of assignment.
    let name_end = at + length;
    let tail = text.get(name_end..)?;
    let word = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_-".contains(c)).len();
    let tail = tail.get(word..)?;
    let closed = tail.trim_start_matches(['"', '\'']);
    let sign = closed.trim_start();
    let option = text.get(..at).is_some_and(|before| before.ends_with("--")) && sign.len() < closed.len();
    let value_at = match sign.strip_prefix(['=', ':']) {
        Some(value) => text.len() - value.trim_start().len(),
        None if option => text.len() - sign.len(),
        None => {
            // Only the word, no value: go on behind it.
            let end = name_end + word;
            return Some((text.get(..end)?, "", text.get(end..)?));
        }
    };
    let value = text.get(value_at..)?;
    let open = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (skip, end) = match open {
        Some(quote) => (1, value.get(1..)?.find(quote).map_or(value.len(), |at| at + 1)),
        None => (0, value.find(|c: char| c.is_whitespace() || "\"',;&".contains(c)).unwrap_or(value.len())),
    };
    Some((text.get(..value_at + skip)?, value.get(skip..end)?, value.get(end..)?))
}

/// `scheme://user:password@host`.
fn mask_addresses(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let authority_end = after.find(|c: char| c.is_whitespace() || "/?#\"'".contains(c)).unwrap_or(after.len());
        let (authority, tail) = after.split_at(authority_end);
        match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                out.push_str(user.split(':').next().unwrap_or_default());
                out.push(':');
                out.push_str(MASK);
                out.push('@');
                out.push_str(host);
            }
            _ => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_masked_and_the_rest_is_not() {
        for (line, wanted) in [
            ("Unpacking libssl3 (3.0.11-1) ...", "Unpacking libssl3 (3.0.11-1) ..."),
            ("password=hunter2 user=joe", "password=*** user=joe"),
            ("DB_PASSWORD = 'a b c' done", "DB_PASSWORD = '***' done"),
            (r#"{"token": "abc.def", "n": 1}"#, r#"{"token": "***", "n": 1}"#),
            ("curl --token s3cret https://x", "curl --token *** https://x"),
            ("Authorization: Bearer abc", "Authorization: ***"),
            ("GET https://joe:pw@repo.example/x y", "GET https://joe:***@repo.example/x y"),
            ("Setting up passwd (1:4.13+dfsg1-1) ...", "Setting up passwd (1:4.13+dfsg1-1) ..."),
            ("update-passwd: nothing to do", "update-passwd: *** to do"),
            ("-----BEGIN PRIVATE KEY----- x -----END PRIVATE KEY-----", "*** (private key)"),
        ] {
            assert_eq!(Masker::default().mask(line), wanted);
        }
    }

    #[test]
    fn a_private_key_is_masked_to_its_end() {
        let mut masker = Masker::default();
        let lines = ["-----BEGIN EC PRIVATE KEY-----", "MHcCAQEE", "-----END EC PRIVATE KEY-----", "after"];
        let shown: Vec<String> = lines.iter().map(|line| masker.mask(line)).collect();
        assert_eq!(shown[3], "after");
        assert!(!shown.concat().contains("MHcC"));
    }

    proptest! {
        #[test]
        fn any_line_ends(line in "\\PC{0,200}") {
            Masker::default().mask(&line);
        }

        #[test]
        fn a_value_never_survives(before in "[a-z ]{0,10}", secret in "[A-Z0-9]{8,20}") {
            let masked = Masker::default().mask(&format!("{before} my_secret={secret}"));
            prop_assert!(!masked.contains(&secret));
        }
    }
}
