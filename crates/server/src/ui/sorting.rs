//! Lists that are sorted by the heads of their columns: plain links, so that the address carries the
//! order, the filter and the length of a page, and no script is needed.

use super::part::link;
use crate::ops::Part;
use maud::{Markup, html};
use serde::Deserialize;

/// How a list is sorted now, and where the heads of its columns lead.
pub struct Sorting<'a> {
    /// `COLUMN` or `-COLUMN`.
    pub now: &'a str,
    /// The address of the list in another order, from its beginning, narrowed as it is.
    pub address: &'a dyn Fn(&str) -> String,
    /// What it can be sorted by as it is narrowed; `None`: by every column that has such a head.
    pub served: Option<&'a [&'static str]>,
}

impl<'a> Sorting<'a> {
    /// By what the address says, else in the list's own order.
    pub fn new(said: &'a str, usual: &'a str, address: &'a dyn Fn(&str) -> String) -> Self {
        Self { now: if said.is_empty() { usual } else { said }, address, served: None }
    }

    /// The same where what the list is narrowed to leaves only these columns.
    #[must_use]
    pub fn within(mut self, served: &'a [&'static str]) -> Self {
        self.served = Some(served);
        self
    }

    /// The head of a column: a link that sorts by it, and turns the order of the one that it is sorted by.
    /// `first` is what a first click asks for: the end of the column that people look for.
    pub fn head(&self, words: &str, first: &str) -> Markup {
        let column = first.trim_start_matches('-');
        if self.served.is_some_and(|served| !served.contains(&column)) {
            return html! { th scope="col" { (words) } };
        }
        let descending = self.now.starts_with('-');
        if self.now.trim_start_matches('-') != column {
            return html! { th scope="col" { a.sort href=((self.address)(first)) { (words) span.arrow aria-hidden="true" { "↕" } } } };
        }
        let (turned, arrow, order) = if descending {
            (column.to_owned(), "▼", "descending")
        } else {
            (format!("-{column}"), "▲", "ascending")
        };
        html! { th scope="col" aria-sort=(order) { a.sort href=((self.address)(&turned)) { (words) span.arrow aria-hidden="true" { (arrow) } } } }
    }
}

/// An order that a list had before it was narrowed is given up when it cannot be served any more; what is
/// no column at all is left to be refused.
pub fn kept(sort: &str, all: &[&str], served: &[&str]) -> String {
    let column = sort.trim_start_matches('-');
    if all.contains(&column) && !served.contains(&column) { String::new() } else { sort.to_owned() }
}

/// The address's part of a list that is narrowed by nothing.
#[derive(Debug, Default, Deserialize)]
pub struct Pages {
    #[serde(default)]
    sort: String,
    #[serde(default)]
    limit: String,
    #[serde(default)]
    after: String,
}

impl Pages {
    /// How it is sorted.
    pub fn sort(&self) -> &str {
        &self.sort
    }

    /// What the operation is asked for.
    pub fn part(&self) -> Part {
        let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Part { sort: filled(&self.sort), after: filled(&self.after), limit: self.limit.parse().ok() }
    }

    /// The list in another order, from its beginning.
    pub fn by(&self, path: &str, sort: &str) -> String {
        link(path, &[("sort", sort), ("limit", &self.limit)])
    }

    /// Where it goes on.
    pub fn next(&self, path: &str, next: Option<&String>) -> Option<String> {
        next.map(|next| link(path, &[("sort", &self.sort), ("limit", &self.limit), ("after", next)]))
    }
}
