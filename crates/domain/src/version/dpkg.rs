//! dpkg's ordering: deb-version(7), Debian policy 5.6.12. Written from the specification.

use super::{InvalidVersion, Scheme};
use std::cmp::Ordering;

/// The three parts of `[epoch:]upstream[-revision]`.
struct Parts<'a> {
    epoch: u32,
    upstream: &'a str,
    revision: &'a str,
}

pub(super) fn validate(text: &str) -> Result<(), InvalidVersion> {
    parse(text).map(|_| ())
}

pub(super) fn compare(a: &str, b: &str) -> Result<Ordering, InvalidVersion> {
    let (a, b) = (parse(a)?, parse(b)?);
    Ok(a.epoch
        .cmp(&b.epoch)
        .then_with(|| compare_part(a.upstream, b.upstream))
        .then_with(|| compare_part(a.revision, b.revision)))
}

fn parse(original: &str) -> Result<Parts<'_>, InvalidVersion> {
    let invalid = |why| InvalidVersion { text: original.chars().take(200).collect(), scheme: Scheme::Dpkg, why };
    let text = original.trim_matches(|c: char| c.is_ascii_whitespace());
    if text.is_empty() {
        return Err(invalid("it is empty"));
    }
    let (epoch, rest) = match text.split_once(':') {
        None => (0, text),
        Some((epoch, _)) if epoch.is_empty() || !epoch.bytes().all(|b| b.is_ascii_digit()) => {
            return Err(invalid("the epoch before `:` is not a number"));
        }
        Some((epoch, rest)) => match epoch.parse::<i32>().ok().and_then(|n| u32::try_from(n).ok()) {
            Some(epoch) => (epoch, rest),
            None => return Err(invalid("the epoch is too big")),
        },
    };
    let (upstream, revision) = match rest.rsplit_once('-') {
        None => (rest, ""),
        Some((_, "")) => return Err(invalid("nothing follows the last `-`")),
        Some(parts) => parts,
    };
    if upstream.is_empty() {
        return Err(invalid("the upstream version is empty"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'~');
    if !upstream.bytes().all(|b| plain(b) || matches!(b, b'-' | b':')) {
        return Err(invalid("the upstream version has a character outside `A-Za-z0-9.-+~:`"));
    }
    if !revision.bytes().all(plain) {
        return Err(invalid("the revision has a character outside `A-Za-z0-9.+~`"));
    }
    Ok(Parts { epoch, upstream, revision })
}

/// Weight of one character of a non-digit stretch: `~` before the end, the end before letters,
/// letters before all else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    }
}

/// Alternating stretches: non-digits by weight, digits by number, however long.
fn compare_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        while a.first().is_some_and(|c| !c.is_ascii_digit()) || b.first().is_some_and(|c| !c.is_ascii_digit()) {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order.is_ne() {
                return order;
            }
            a = a.get(1..).unwrap_or(&[]);
            b = b.get(1..).unwrap_or(&[]);
        }
        if a.is_empty() && b.is_empty() {
            return Ordering::Equal;
        }
        let (number_a, rest_a) = take_number(a);
        let (number_b, rest_b) = take_number(b);
        let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// The digits at the start without leading zeros, and what follows them.
fn take_number(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
    let (digits, rest) = bytes.split_at(end);
    let zeros = digits.iter().position(|b| *b != b'0').unwrap_or(digits.len());
    (digits.split_at(zeros).1, rest)
}
