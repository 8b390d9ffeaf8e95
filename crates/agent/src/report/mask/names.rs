//! Secrets that are known by what stands before them: `password=…`, `--token …`, `Authorization: …`,
//! `mysql -p…`, answers for debconf, sentences that tell a password.

use std::ops::Range;

/// Words that, as a part of a name, make its value a secret.
const PARTS: [&str; 18] = [
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "accesskey",
    "access-key",
    "accountkey",
    "private_key",
    "private-key",
    "credential",
    "authorization",
    "encryption_key",
];
/// Words that do so as a whole part of a name, between `_`, `-` and `.`.
const WHOLE: [&str; 6] = ["pass", "pwd", "psk", "sig", "authkey", "pgpassfile"];
/// Variables that carry one of these and are no secret: the folders of a shell.
const HARMLESS: [&str; 2] = ["pwd", "oldpwd"];
/// Headers of HTTP whose value is a secret to the end of the line.
const HEADERS: [&str; 6] =
    ["authorization:", "cookie:", "x-api-key:", "x-auth-token:", "private-token:", "x-vault-token:"];
/// Longest name of a setting.
const LONGEST_NAME: usize = 200;

/// Names them all. `lower`: the line in lower case (ASCII only, so that places are the same).
pub(super) fn find(line: &str, lower: &str, secret: &mut Vec<Range<usize>>) {
    headers(line, lower, secret);
    words(line, lower, secret);
    options(line, lower, secret);
    debconf(line, lower, secret);
    sentence(line, lower, secret);
}

fn headers(line: &str, lower: &str, secret: &mut Vec<Range<usize>>) {
    for header in HEADERS {
        if let Some(at) = lower.find(header) {
            let value = skip(line, at + header.len(), char::is_whitespace);
            secret.push(value..line.len());
        }
    }
}

fn skip(line: &str, from: usize, is: impl Fn(char) -> bool) -> usize {
    super::run_end(line, from, is)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Whether the value of something of this name is a secret.
fn is_secret(name: &str) -> bool {
    let name = name.trim_matches(['-', '.']);
    if name.len() > LONGEST_NAME {
        // A name that long is none; but what hides in it may be one.
        return PARTS.iter().any(|part| name.contains(part));
    }
    if HARMLESS.contains(&name) {
        return false;
    }
    PARTS.iter().any(|part| name.contains(part))
        || name.split(['_', '-', '.']).any(|part| WHOLE.contains(&part))
        || name.ends_with("pass")
        || name.ends_with("_key")
        || name.ends_with("-key")
}

/// `name=value`, `"name": "value"`, `--name value`, `name 'value'`.
fn words(line: &str, lower: &str, secret: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while let Some(start) = lower.get(at..).and_then(|rest| rest.find(is_word)).map(|found| at + found) {
        let end = skip(lower, start, is_word);
        at = end;
        let name = lower.get(start..end).unwrap_or_default();
        if !is_secret(name) {
            continue;
        }
        let closed = skip(line, end, |c| matches!(c, '"' | '\'' | '\\' | ']' | ')'));
        let sign = skip(line, closed, char::is_whitespace);
        let assigned = line.get(sign..).is_some_and(|rest| rest.starts_with(['=', ':']));
        let range = if assigned {
            let value = skip(line, skip(line, sign, |c| matches!(c, '=' | ':' | '>')), char::is_whitespace);
            value_at(line, value, name.contains("authorization"))
        } else if name.starts_with('-') && sign > closed {
            // An option; another option behind it means that the value is asked for.
            let next = line.get(sign..).unwrap_or_default();
            if next.starts_with("--") { sign..sign } else { value_at(line, sign, false) }
        } else {
            // `IDENTIFIED BY PASSWORD 'x'`, `password("x")`.
            let quote = skip(line, end, |c| c == ' ' || c == '(');
            match line.get(quote..).and_then(|rest| rest.chars().next()) {
                Some('"' | '\'') if quote > end => value_at(line, quote, false),
                _ => continue,
            }
        };
        at = at.max(range.end);
        if !range.is_empty() {
            secret.push(range);
        }
    }
    if let Some(at) = lower.find("identified by ") {
        secret.push(value_at(line, at + "identified by ".len(), false));
    }
}

/// The value that begins here: a quoted text, else up to white space or the next pair.
fn value_at(line: &str, start: usize, to_end: bool) -> Range<usize> {
    let open = skip(line, start, |c| c == '\\');
    let rest = line.get(open..).unwrap_or_default();
    match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let inner = open + 1;
            inner..closing(line, inner, quote)
        }
        _ if to_end => start..line.len(),
        _ => start..bare_end(line, start),
    }
}

/// Where a quoted text ends. An escaped quote does not end it; in JSON within JSON, where the opening
/// quote is escaped once, one that is escaped more often does not.
fn closing(line: &str, from: usize, quote: char) -> usize {
    let nested = line.get(..from.saturating_sub(1)).is_some_and(|before| before.ends_with('\\'));
    let mut backslashes = 0;
    for (at, c) in line.get(from..).unwrap_or_default().char_indices() {
        let ends = if nested { backslashes <= 1 } else { backslashes % 2 == 0 };
        if c == quote && ends {
            return from + at - if nested { backslashes } else { 0 };
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
    }
    line.len()
}

/// A bare value goes on over `,`, `;` and `&`, which passwords have, unless another pair begins there.
fn bare_end(line: &str, start: usize) -> usize {
    let rest = line.get(start..).unwrap_or_default();
    for (at, c) in rest.char_indices() {
        if c.is_whitespace() || matches!(c, '"' | '\'') {
            return start + at;
        }
        if matches!(c, ',' | ';' | '&') && is_pair(rest.get(at + 1..).unwrap_or_default()) {
            return start + at;
        }
    }
    line.len()
}

/// Whether `name=` or `name:` or nothing at all stands here.
fn is_pair(rest: &str) -> bool {
    let name = rest.chars().take(64).take_while(|c| is_word(*c)).count();
    match rest.chars().nth(name) {
        None => name == 0,
        Some('=' | ':') => name > 0,
        Some(c) => name == 0 && (c.is_whitespace() || matches!(c, '"' | '\'' | '}' | ']')),
    }
}

/// Short options of programs that take a password: `mysql -pX`, `sshpass -p X`, `curl -u user:X`.
fn options(line: &str, lower: &str, secret: &mut Vec<Range<usize>>) {
    let has = |word: &str| lower.contains(word);
    let (mysql, sshpass) = (has("mysql") || has("mariadb"), has("sshpass"));
    if !mysql && !sshpass && !has(" -u") && !has("-user ") {
        return;
    }
    let mut at = 0;
    let mut takes = false;
    while let Some(start) = line.get(at..).and_then(|rest| rest.find(|c: char| !c.is_whitespace())).map(|n| at + n) {
        let end = skip(line, start, |c| !c.is_whitespace());
        let word = line.get(start..end).unwrap_or_default();
        if takes && !word.starts_with("--") {
            let colon = word.find(':').map_or(start, |colon| start + colon + 1);
            // `sshpass -p X` has no user before it.
            let from = if word.contains(':') && !sshpass { colon } else { start };
            if sshpass || word.contains(':') {
                secret.push(from..end);
            }
        }
        takes = matches!(word, "-u" | "--user" | "--proxy-user" | "-U") || (sshpass && word == "-p");
        if (mysql || sshpass) && word.len() > 2 && word.starts_with("-p") {
            secret.push(start + 2..end);
        }
        if word.starts_with("-u") && word.contains(':') {
            secret.push(start + word.find(':').unwrap_or(0) + 1..end);
        }
        at = end;
    }
}

/// Answers for debconf: `owner question password VALUE` and `SET question VALUE`.
fn debconf(line: &str, lower: &str, secret: &mut Vec<Range<usize>>) {
    let mut places = Vec::new();
    let mut at = 0;
    while places.len() < 4 {
        let start = skip(lower, at, char::is_whitespace);
        let end = skip(lower, start, |c| !c.is_whitespace());
        if start == end {
            break;
        }
        places.push(start..end);
        at = end;
    }
    let word = |index: usize| places.get(index).and_then(|range| lower.get(range.clone())).unwrap_or_default();
    let question = |text: &str| text.contains('/');
    let value = if question(word(1)) && word(2) == "password" {
        places.get(3)
    } else if word(0) == "set" && question(word(1)) && word(1).split('/').any(is_secret) {
        places.get(2)
    } else {
        None
    };
    if let Some(value) = value {
        secret.push(value.start..line.trim_end().len());
    }
}

/// `A temporary password is generated for root@localhost: X`, `the password is X`.
fn sentence(line: &str, lower: &str, secret: &mut Vec<Range<usize>>) {
    let Some(at) = ["password", "passphrase"].iter().filter_map(|word| lower.find(word)).min() else { return };
    let end = line.trim_end().len();
    let last_start = line.get(..end).and_then(|text| text.rfind(char::is_whitespace)).map_or(0, |space| space + 1);
    let before = lower.get(at..last_start).unwrap_or_default().trim_end();
    let tells = before.ends_with(':')
        || before.ends_with(" is")
        || before.ends_with(" was")
        || before.ends_with(" set to")
        || before.ends_with(" with");
    if tells && last_start > at {
        secret.push(last_start..end);
    }
}
