//! Passwords in addresses: `scheme://user:password@host`.

use std::ops::Range;

/// Names the passwords of all addresses in the line.
pub(super) fn find(line: &str, secret: &mut Vec<Range<usize>>) {
    let mut from = 0;
    let mut word_end = 0;
    while let Some(at) = line.get(from..).and_then(|rest| rest.find("://")) {
        let start = from + at + 3;
        // Looked for once a word, however many addresses stand in it.
        if word_end < start {
            word_end = super::run_end(line, start, |c| !c.is_whitespace() && !matches!(c, '"' | '\'' | '<' | '>'));
        }
        let word = line.get(start..word_end).unwrap_or_default();
        if let Some(range) = password(word) {
            secret.push(start + range.start..start + range.end);
        }
        // On behind the scheme, not the word: one address may stand in another (`?next=https://…`).
        from = start;
    }
}

fn password(word: &str) -> Option<Range<usize>> {
    let authority_end = word.find(['/', '?', '#']).unwrap_or(word.len());
    let authority = word.get(..authority_end)?;
    if let Some(at) = authority.rfind('@') {
        let colon = authority.get(..at)?.find(':')?;
        return Some(colon + 1..at);
    }
    // A password with a bare `/`, `?` or `#`: then what stands behind the colon is no port, or it could
    // be one, but what stands before it is no host and what stands behind the `@` is.
    let colon = authority.find(':')?;
    let at = word.rfind('@').filter(|at| *at > colon)?;
    let (user, port) = (authority.get(..colon)?, authority.get(colon + 1..)?);
    let behind = word.get(at + 1..)?;
    let port_like = port.bytes().all(|byte| byte.is_ascii_digit());
    let host_like = behind.starts_with(|c: char| c.is_ascii_alphabetic());
    (!port_like || (!user.contains('.') && host_like)).then_some(colon + 1..at)
}
