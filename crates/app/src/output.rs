//! Answers on the terminal: tables that fit their width, plain lists, JSON.
#![cfg_attr(not(feature = "full"), allow(dead_code, reason = "the agent alone prints less"))]

use crate::failure::Failure;
use serde_json::Value;
use std::io::{IsTerminal as _, Write as _};

/// Narrowest width that is respected.
const NARROW: usize = 40;

/// Prints text to standard output. A closed pipe (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::from),
    }
}

/// Prints a line.
pub fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Prints the API's own form.
pub fn json(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    line(&text)
}

/// Columns of the terminal: $COLUMNS, else the terminal's own, else 80.
pub fn width() -> usize {
    crate::environment::columns().unwrap_or(80).max(NARROW)
}

/// Whether a person watches.
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// One column of a table.
#[derive(Clone, Copy)]
pub struct Column {
    /// Heading.
    pub title: &'static str,
    /// Where the value stands in an item (JSON pointer).
    pub pointer: &'static str,
    /// Whether it may be cut to make the table fit.
    pub flexible: bool,
}

/// A column that keeps its width.
pub const fn fixed(title: &'static str, pointer: &'static str) -> Column {
    Column { title, pointer, flexible: false }
}

/// A column that is cut when the table gets too wide.
pub const fn flexible(title: &'static str, pointer: &'static str) -> Column {
    Column { title, pointer, flexible: true }
}

/// The `items` of an answer as a table, with where to go on; `empty` is said when there are none.
pub fn table(answer: &Value, columns: &[Column], width: usize, empty: &str) -> String {
    let none = Vec::new();
    let items = answer.get("items").and_then(Value::as_array).unwrap_or(&none);
    if items.is_empty() {
        return format!("{empty}\n");
    }
    let cells: Vec<Vec<String>> =
        items.iter().map(|item| columns.iter().map(|column| cell(item.pointer(column.pointer))).collect()).collect();
    let mut text = render(columns, &cells, width);
    if let Some(next) = answer.get("next").and_then(Value::as_str) {
        text.push_str(&format!("\nMore: --after {next}\n"));
    }
    text
}

/// A value as a cell.
pub fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => time_text(text).unwrap_or_else(|| text.clone()),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(" "),
        Some(other) => other.to_string(),
    };
    // What a host or feed says must not move the cursor or colour the terminal.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `2026-11-25T04:35:58.25Z` as `2026-11-25 04:35`.
fn time_text(text: &str) -> Option<String> {
    fettle_domain::Timestamp::parse(text)?;
    Some(text.get(..16)?.replace('T', " "))
}

fn render(columns: &[Column], rows: &[Vec<String>], width: usize) -> String {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.title.chars().count()).collect();
    for row in rows {
        for (wide, cell) in widths.iter_mut().zip(row) {
            *wide = (*wide).max(cell.chars().count());
        }
    }
    shrink(columns, &mut widths, width);
    let mut text = String::new();
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for (cell, wide) in row.iter().zip(&widths) {
            line.push_str(&fit(cell, *wide));
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Takes columns that may be cut down, the widest first, until the table fits.
fn shrink(columns: &[Column], widths: &mut [usize], width: usize) {
    let gaps = 2 * columns.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let widest = widths
            .iter_mut()
            .zip(columns)
            .filter(|(wide, column)| column.flexible && **wide > 8)
            .max_by_key(|(wide, _)| **wide);
        match widest {
            Some((wide, _)) => *wide -= 1,
            None => return,
        }
    }
}

fn fit(cell: &str, wide: usize) -> String {
    if cell.chars().count() <= wide {
        return format!("{cell:<wide$}");
    }
    let kept: String = cell.chars().take(wide.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Pairs of label and value, one a line, wrapped with a hanging indent.
pub fn pairs(pairs: &[(&str, String)], width: usize) -> String {
    let label = pairs.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + 2;
    let mut text = String::new();
    for (name, value) in pairs {
        for (index, part) in wrap(value, width.saturating_sub(label).max(20)).iter().enumerate() {
            let head = if index == 0 { *name } else { "" };
            text.push_str(format!("{head:<label$}{part}").trim_end());
            text.push('\n');
        }
    }
    text
}

/// Lines of at most `width` characters, broken at spaces where possible.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_fits_its_width_and_says_where_to_go_on() {
        let answer = json!({ "items": [
            { "name": "a-very-long-host-name.of.a.very.long.domain.example.org", "state": "managed", "at": "2026-11-25T04:35:58.25Z", "ok": true },
            { "name": "b\u{1b}[31m", "state": "silent", "at": null, "ok": false },
        ], "next": "abc" });
        let columns = [flexible("HOST", "/name"), fixed("STATE", "/state"), fixed("SEEN", "/at"), fixed("OK", "/ok")];
        insta::assert_snapshot!(table(&answer, &columns, 60, "none"), @r"
        HOST                          STATE    SEEN              OK
        a-very-long-host-name.of.a.…  managed  2026-11-25 04:35  yes
        b [31m                        silent   -                 no

        More: --after abc
        ");
    }

    #[test]
    fn pairs_hang() {
        let text = pairs(&[("Name", "x".into()), ("Reason", "one two three four five six seven eight".into())], 40);
        insta::assert_snapshot!(text, @r"
        Name    x
        Reason  one two three four five six
                seven eight
        ");
    }
}
