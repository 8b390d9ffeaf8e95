//! Forms: a body of fields, believed only with the token of our pages.

use super::visitor::{PageError, Visitor};
use crate::access::cross_site;
use axum::http::HeaderMap;

/// Refuses what does not come from our own page.
pub fn check(headers: &HeaderMap, visitor: &Visitor, token: &str) -> Result<(), PageError> {
    cross_site::check(headers, &visitor.session, Some(token)).map_err(PageError)
}

/// Words of a text field, separated by spaces, commas or lines.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Lines of a text field that say something.
pub fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A field that may be left empty.
pub fn filled(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}
