//! Tables of version cases, so that an ordering can be checked against what the real tool says.
//!
//! One case a line, tab-separated: `a`, `op`, `b`, and columns that are not looked at. `op` is `<`,
//! `=` or `>` ("a op b is true"), or `valid` / `invalid` (b empty). Lines that start with `#` are
//! comments; a first line `a op b …` is the header.

use super::Scheme;
use std::cmp::Ordering;
use std::fmt;

/// What came of checking a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableResult {
    /// How many cases agree.
    pub passed: usize,
    /// The cases that do not, in the table's order.
    pub failed: Vec<Disagreement>,
}

/// A case where the table and the ordering differ, or that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// Line number in the text, from 1.
    pub line: usize,
    /// The case as the table has it (`1.0 < 1.1`), cut to 400 characters.
    pub case: String,
    /// What the ordering says, or what is wrong with the line.
    pub found: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: table says `{}`, found {}", self.line, self.case, self.found)
    }
}

impl fmt::Display for TableResult {
    /// Each disagreement on a line of its own, then `N passed, M failed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for disagreement in &self.failed {
            writeln!(f, "{disagreement}")?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed.len())
    }
}

/// Checks every case of a table against a scheme's ordering.
pub fn check(scheme: Scheme, text: &str) -> TableResult {
    let mut result = TableResult::default();
    let mut header_possible = true;
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut columns = line.split('\t');
        let (a, op, b) = (columns.next(), columns.next(), columns.next().unwrap_or(""));
        let is_header = header_possible && a == Some("a") && op == Some("op");
        header_possible = false;
        if is_header {
            continue;
        }
        let found = match (a, op) {
            (Some(a), Some(op)) => check_case(scheme, a, op, b),
            _ => Err("fewer than three tab-separated columns".to_owned()),
        };
        match found {
            Ok(()) => result.passed += 1,
            Err(found) => {
                let case = [a.unwrap_or(""), op.unwrap_or(""), b].join(" ");
                let case = case.trim_end().chars().take(400).collect();
                result.failed.push(Disagreement { line: index + 1, case, found });
            }
        }
    }
    result
}

fn check_case(scheme: Scheme, a: &str, op: &str, b: &str) -> Result<(), String> {
    let wanted = match op {
        "<" => Ordering::Less,
        "=" => Ordering::Equal,
        ">" => Ordering::Greater,
        "valid" => return scheme.validate(a).map_err(|error| error.to_string()),
        "invalid" => {
            return match scheme.validate(a) {
                Ok(()) => Err("it is valid".to_owned()),
                Err(_) => Ok(()),
            };
        }
        _ => return Err(format!("the operator `{op}`, which is none of < = > valid invalid")),
    };
    match scheme.compare(a, b) {
        Ok(order) if order == wanted => Ok(()),
        Ok(order) => Err(format!("`{}`", sign(order))),
        Err(error) => Err(error.to_string()),
    }
}

fn sign(order: Ordering) -> &'static str {
    match order {
        Ordering::Less => "<",
        Ordering::Equal => "=",
        Ordering::Greater => ">",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_table_is_told_line_by_line() {
        let text = "# comment\na\top\tb\tkind\n1.0\t<\t1.1\tx\n1.0\t>\t1.1\tx\n1_0\tvalid\t\tx\n1\t~\t2\tx\nnonsense\n";
        let result = check(Scheme::Dpkg, text);
        assert_eq!(
            result.to_string(),
            "line 4: table says `1.0 > 1.1`, found `<`\n\
             line 5: table says `1_0 valid`, found `1_0` is not a valid dpkg version: the upstream version has a character outside `A-Za-z0-9.-+~:`\n\
             line 6: table says `1 ~ 2`, found the operator `~`, which is none of < = > valid invalid\n\
             line 7: table says `nonsense`, found fewer than three tab-separated columns\n\
             1 passed, 4 failed"
        );
    }
}
