//! Secrets that are known by their own form: tokens with a prefix, JSON web tokens, password hashes,
//! lines of `/etc/shadow`.

use std::ops::Range;

/// Beginnings of tokens, and bytes that one has at least in all.
const PREFIXES: [(&str, usize); 27] = [
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("gldt-", 20),
    ("glrt-", 20),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("xoxa-", 20),
    ("xoxr-", 20),
    ("xoxs-", 20),
    ("xapp-", 20),
    ("sk_live_", 20),
    ("rk_live_", 20),
    ("sk-", 24),
    ("AIza", 30),
    ("ya29.", 20),
    ("npm_", 24),
    ("pypi-", 24),
    ("SG.", 24),
    ("hvs.", 20),
    ("dckr_pat_", 20),
    ("dop_v1_", 20),
    ("fettle1.", 12),
];
/// Key ids of Amazon's cloud: four letters, then capitals and digits.
const AMAZON: [&str; 4] = ["AKIA", "ASIA", "AROA", "AIDA"];
/// Marks of crypt(5) hashes.
const HASHES: [&str; 15] = [
    "$1$", "$2a$", "$2b$", "$2x$", "$2y$", "$5$", "$6$", "$7$", "$y$", "$gy$", "$sha1$", "$md5", "$argon2", "$scrypt$",
    "$pbkdf2",
];

/// Names them all.
pub(super) fn find(line: &str, secret: &mut Vec<Range<usize>>) {
    for (prefix, least) in PREFIXES {
        each(line, prefix, |start| {
            let end = super::run_end(line, start, is_token);
            // A dot or equals sign that ends a sentence is no harm to hide.
            (end - start >= least).then_some(end).into_iter().for_each(|end| secret.push(start..end));
            end
        });
    }
    for prefix in AMAZON {
        each(line, prefix, |start| {
            let end = super::run_end(line, start, |c| c.is_ascii_uppercase() || c.is_ascii_digit());
            if end - start >= 16 {
                secret.push(start..end);
            }
            end
        });
    }
    each(line, "eyJ", |start| {
        let end = super::run_end(line, start, is_token);
        let dots = line.get(start..end).unwrap_or_default().matches('.').count();
        if dots > 0 && end - start >= 20 {
            secret.push(start..end);
        }
        end
    });
    if line.contains('$') {
        for mark in HASHES {
            each(line, mark, |start| {
                let end = super::run_end(line, start, |c| !c.is_whitespace() && !matches!(c, ':' | '"' | '\''));
                if end - start >= mark.len() + 8 {
                    secret.push(start..end);
                }
                end
            });
        }
    }
    secret.extend(shadow(line));
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '=')
}

/// Calls for each place where this begins a word; `take` says where to go on.
fn each(line: &str, prefix: &str, mut take: impl FnMut(usize) -> usize) {
    let mut from = 0;
    while let Some(at) = line.get(from..).and_then(|rest| rest.find(prefix)) {
        let start = from + at;
        let before = line.get(..start).and_then(|before| before.chars().next_back());
        let begins = prefix.starts_with('$') || !before.is_some_and(|c| c.is_ascii_alphanumeric());
        from = if begins { take(start).max(start + prefix.len()) } else { start + prefix.len() };
    }
}

/// The second of nine fields, when the third is the day of the last change (shadow(5)).
fn shadow(line: &str) -> Option<Range<usize>> {
    // Other programs put a file name before it (`grep`), so the fields are counted from the end.
    let line_end = line.trim_end().len();
    let fields: Vec<&str> = line.get(..line_end)?.rsplitn(9, ':').collect();
    let [_, _, _, _, _, _, day, hash, name] = fields.as_slice() else { return None };
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let rest_plain = fields.iter().take(7).all(|field| plain(field));
    if day.is_empty() || !rest_plain || hash.len() < 3 || name.is_empty() {
        return None;
    }
    Some(name.len() + 1..name.len() + 1 + hash.len())
}
