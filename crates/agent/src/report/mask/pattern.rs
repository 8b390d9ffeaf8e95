//! The administrator's own patterns, from `agent.toml`: plain texts in which `*` stands for any run of
//! characters and `?` for one, white space excepted.

use std::ops::Range;

/// Most patterns, and bytes of one.
const MOST: usize = 64;
const LONGEST: usize = 200;
/// Characters that a pattern names besides `*` and `?`: fewer would hide everything.
const LEAST_NAMED: usize = 3;

/// Patterns, made ready.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Patterns(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// What stands between the stars, in order.
    pieces: Vec<Vec<char>>,
    /// Whether it goes back to the beginning of the word, and on to its end.
    open_start: bool,
    open_end: bool,
}

impl Patterns {
    /// Reads them; the error names the one that is wrong and what would be right.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, String> {
        if texts.len() > MOST {
            return Err(format!("mask has {} patterns: at most {MOST}", texts.len()));
        }
        texts.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Names what they cover.
    pub(super) fn find(&self, line: &str, secret: &mut Vec<Range<usize>>) {
        if self.0.is_empty() {
            return;
        }
        let chars: Vec<(usize, char)> = line.char_indices().collect();
        let byte = |index: usize| chars.get(index).map_or(line.len(), |(at, _)| *at);
        for pattern in &self.0 {
            let mut from = 0;
            while let Some(found) = pattern.next(&chars, from) {
                secret.push(byte(found.start)..byte(found.end));
                from = found.end;
            }
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let named = text.chars().filter(|c| !matches!(c, '*' | '?') && !c.is_whitespace()).count();
        if text.len() > LONGEST || named < LEAST_NAMED || text.chars().any(char::is_control) {
            return Err(format!(
                "mask pattern {text:?}: use one line of at most {LONGEST} bytes with at least {LEAST_NAMED} characters besides `*` and `?`"
            ));
        }
        let pieces: Vec<Vec<char>> =
            text.split('*').filter(|piece| !piece.is_empty()).map(|piece| piece.chars().collect()).collect();
        Ok(Self { pieces, open_start: text.starts_with('*'), open_end: text.ends_with('*') })
    }

    /// The leftmost match from a place on, in characters. Never empty. Costs at most the length of
    /// the line times that of the pattern: where a later piece is missing before the next white
    /// space, no earlier beginning in that word is tried again.
    fn next(&self, line: &[(usize, char)], mut from: usize) -> Option<Range<usize>> {
        let (first, later) = self.pieces.split_first()?;
        loop {
            let start = (from..line.len()).find(|at| fits(first, line, *at))?;
            let mut end = start + first.len();
            let mut fitted = true;
            for piece in later {
                let word_end = word_end(line, end);
                match (end..=word_end).find(|at| fits(piece, line, *at)) {
                    Some(at) => end = at + piece.len(),
                    None => {
                        from = word_end.max(start + 1);
                        fitted = false;
                        break;
                    }
                }
            }
            if fitted {
                let start = if self.open_start { word_start(line, start, from) } else { start };
                let end = if self.open_end { word_end(line, end) } else { end };
                return Some(start..end);
            }
        }
    }
}

fn fits(piece: &[char], line: &[(usize, char)], at: usize) -> bool {
    let Some(there) = line.get(at..at + piece.len()) else { return false };
    piece.iter().zip(there).all(|(wanted, (_, found))| {
        if *wanted == '?' { !found.is_whitespace() } else { wanted.eq_ignore_ascii_case(found) }
    })
}

fn word_end(line: &[(usize, char)], from: usize) -> usize {
    let rest = line.get(from..).unwrap_or_default();
    from + rest.iter().position(|(_, c)| c.is_whitespace()).unwrap_or(rest.len())
}

fn word_start(line: &[(usize, char)], from: usize, least: usize) -> usize {
    let before = line.get(least..from).unwrap_or_default();
    before.iter().rposition(|(_, c)| c.is_whitespace()).map_or(least, |at| least + at + 1)
}
