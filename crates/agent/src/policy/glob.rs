//! Patterns of names: `*` stands for any characters, `?` for one.

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob(String);

impl Glob {
    pub(super) fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// Whether the whole text fits. Linear but for the last `*`, to which it goes back.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (pattern, text): (Vec<char>, Vec<char>) = (self.0.chars().collect(), text.chars().collect());
        let (mut at, mut seen) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while seen < text.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(one) if *one == '?' || Some(one) == text.get(seen) => {
                    at += 1;
                    seen += 1;
                }
                _ => match star {
                    Some((place, from)) => {
                        star = Some((place, from + 1));
                        at = place + 1;
                        seen = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern.iter().skip(at).all(|one| *one == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        let table = [
            ("openssl", "openssl", true),
            ("openssl", "openssl3", false),
            ("linux-image-*", "linux-image-6.1.0-31-amd64", true),
            ("linux-image-*", "linux-headers-6.1", false),
            ("*", "", true),
            ("*ssl*", "libssl3", true),
            ("lib?sl3", "libssl3", true),
            ("lib?sl3", "libsl3", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("Debian:*", "Debian:stable-security", true),
        ];
        for (pattern, text, fits) in table {
            assert_eq!(Glob::new(pattern).matches(text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = "*a".repeat(60);
        assert!(!Glob::new(&format!("{pattern}b")).matches(&"a".repeat(20_000)));
    }
}
