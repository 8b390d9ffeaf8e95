//! What several nouns need: queries of lists, reasons and histories in words.

#[cfg(feature = "full")]
use crate::cli::Page;
use serde_json::Value;

#[cfg(feature = "full")]
/// The query of a list's page with what it is narrowed to.
pub fn query(page: &Page, filters: &[(&'static str, Option<String>)]) -> Vec<(&'static str, String)> {
    let mut query = vec![("limit", page.limit.to_string())];
    if let Some(after) = &page.after {
        query.push(("after", after.clone()));
    }
    query.extend(filters.iter().filter_map(|(name, value)| value.clone().map(|value| (*name, value))));
    query
}

/// A text at a JSON pointer; empty when there is none.
pub fn text(value: &Value, pointer: &str) -> String {
    match crate::output::cell(value.pointer(pointer)) {
        nothing if nothing == "-" => String::new(),
        text => text,
    }
}

/// Reasons and histories as `fettle explain` and `show` print them.
pub fn reasons(value: &Value, pointer: &str, width: usize) -> String {
    let mut lines = String::new();
    for reason in value.pointer(pointer).and_then(Value::as_array).into_iter().flatten() {
        let source = text(reason, "/source");
        let sentence =
            if source.is_empty() { text(reason, "/text") } else { format!("{} [{source}]", text(reason, "/text")) };
        for (index, line) in crate::output::wrap(&sentence, width.saturating_sub(4)).iter().enumerate() {
            lines.push_str(if index == 0 { "  - " } else { "    " });
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

#[cfg(feature = "full")]
/// The history of anything: when, what, who.
pub fn history(value: &Value, pointer: &str) -> String {
    let mut lines = String::new();
    for event in value.pointer(pointer).and_then(Value::as_array).into_iter().flatten() {
        lines.push_str(&format!("  {}  {} by {}\n", text(event, "/at"), text(event, "/event"), text(event, "/actor")));
    }
    lines
}
