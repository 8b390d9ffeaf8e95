//! Masks what looks like a secret in a line of output, before it leaves this host or reaches its disk.
//!
//! Each detector names the bytes that are secret; they are covered together at the end. All of them
//! go over a line a bounded number of times, and a line is looked at only so far.

mod addresses;
mod names;
mod pattern;
mod tokens;

pub(crate) use pattern::Patterns;

use std::ops::Range;
use std::sync::Arc;

/// What stands in place of a secret.
const MASK: &str = "***";
/// Bytes of a line that are looked at and passed on; far beyond what is shown of one.
const WINDOW: usize = 64 << 10;
/// Lines that a private key has at most (an RSA key of 16384 bits has some 200): a beginning
/// without its end does not hide all that follows.
const KEY_LINES: u32 = 400;

/// Masks lines; knows when it is inside a private key.
#[derive(Debug, Default)]
pub(crate) struct Masker {
    /// Lines of a private key that may still follow.
    key_lines: u32,
    patterns: Arc<Patterns>,
}

impl Masker {
    /// With the administrator's own patterns.
    pub(crate) fn new(patterns: Arc<Patterns>) -> Self {
        Self { key_lines: 0, patterns }
    }

    /// The line as it may be shown.
    pub(crate) fn mask(&mut self, line: &str) -> String {
        let line = window(line);
        if self.is_key(line) {
            return format!("{MASK} (private key)");
        }
        let lower = line.to_ascii_lowercase();
        let mut secret = Vec::new();
        names::find(line, &lower, &mut secret);
        addresses::find(line, &mut secret);
        tokens::find(line, &mut secret);
        self.patterns.find(line, &mut secret);
        cover(line, secret)
    }

    /// A text of several lines.
    pub(crate) fn mask_text(&mut self, text: &str) -> String {
        text.split('\n').map(|line| self.mask(line)).collect::<Vec<_>>().join("\n")
    }

    fn is_key(&mut self, line: &str) -> bool {
        let begins = line.contains("-----BEGIN ") && line.contains("PRIVATE KEY");
        let ends = line.contains("-----END ");
        if begins {
            // The end on the same line is that of this key: what stands between is hidden with it.
            self.key_lines = if ends { 0 } else { KEY_LINES };
            return true;
        }
        if self.key_lines == 0 {
            return ends && line.contains("PRIVATE KEY");
        }
        self.key_lines = if ends { 0 } else { self.key_lines - 1 };
        true
    }
}

/// The part of a line that is looked at.
fn window(line: &str) -> &str {
    let end = (0..=WINDOW.min(line.len())).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    line.get(..end).unwrap_or_default()
}

/// The line with these bytes covered.
fn cover(line: &str, mut secret: Vec<Range<usize>>) -> String {
    if secret.is_empty() {
        return line.to_owned();
    }
    secret.sort_by_key(|range| (range.start, range.end));
    let mut shown = String::with_capacity(line.len());
    let mut at = 0;
    for range in secret {
        if range.end <= at || range.is_empty() {
            continue;
        }
        // One mask for what touches: two would tell where one secret ends.
        if range.start > at || (at == 0 && range.start == 0) {
            shown.push_str(line.get(at..range.start).unwrap_or_default());
            shown.push_str(MASK);
        }
        at = range.end;
    }
    shown.push_str(line.get(at..).unwrap_or_default());
    shown
}

/// Where the run of characters that `is` accepts ends, from `start`.
fn run_end(line: &str, start: usize, is: impl Fn(char) -> bool) -> usize {
    let rest = line.get(start..).unwrap_or_default();
    start + rest.find(|c| !is(c)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
