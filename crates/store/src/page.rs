//! Pages of sorted lists. A page begins behind the *place* of the former one's last row, never behind a
//! number of rows: what comes or goes meanwhile makes no other row appear twice or not at all, and the
//! hundredth page costs what the first does.
//!
//! A long list is read state by state and merged: within one state an index of (state, keys of the
//! order) gives exactly the rows of the page, whichever states are wanted and however many rows are in
//! the others.

use crate::{Connection, Result, Row, Value};
use std::fmt;

/// What a key of an order holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// BIGINT.
    Number,
    /// TEXT.
    Text,
    /// Sixteen bytes.
    Id,
}

/// One key of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Column, or an expression that is never NULL.
    pub(crate) column: &'static str,
    /// What it holds.
    pub kind: KeyKind,
}

/// A key that is a number.
pub(crate) const fn number(column: &'static str) -> Key {
    Key { column, kind: KeyKind::Number }
}

/// A key that is a text.
pub(crate) const fn text(column: &'static str) -> Key {
    Key { column, kind: KeyKind::Text }
}

/// A key that is an id.
pub(crate) const fn id(column: &'static str) -> Key {
    Key { column, kind: KeyKind::Id }
}

/// The columns that one list can be sorted by.
pub trait SortColumn: Copy + Eq + fmt::Debug + Send + Sync + 'static {
    /// All of them; the first is the list's own order.
    const ALL: &'static [Self];
    /// The name people use.
    fn as_str(self) -> &'static str;
    /// What is compared, the last one unique so that no two rows have the same place.
    fn keys(self) -> &'static [Key];
}

/// The columns of one list: name and keys of each, the list's own order first.
macro_rules! sort_columns {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal [$($kind:ident $column:literal),+],)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $crate::page::SortColumn for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            fn keys(self) -> &'static [$crate::page::Key] {
                match self { $(Self::$variant => const { &[$($crate::page::$kind($column)),+] }),+ }
            }
        }
    };
}
pub(crate) use sort_columns;

/// An order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order<C> {
    /// By which column.
    pub by: C,
    /// The greatest first.
    pub descending: bool,
}

impl<C: SortColumn> Order<C> {
    /// The least first.
    pub const fn ascending(by: C) -> Self {
        Self { by, descending: false }
    }

    /// The greatest first.
    pub const fn descending(by: C) -> Self {
        Self { by, descending: true }
    }

    /// From `COLUMN` or `-COLUMN`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
        C::ALL.iter().find(|column| column.as_str() == name).map(|by| Self { by: *by, descending })
    }
}

impl<C: SortColumn> fmt::Display for Order<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.descending { "-" } else { "" }, self.by.as_str())
    }
}

/// The place of a row in a sorted list: its values of the order's keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Place(Vec<Value>);

impl Place {
    /// From values that came from outside; `None` when they are not those of the order's keys.
    pub fn new<C: SortColumn>(order: Order<C>, values: Vec<Value>) -> Option<Self> {
        let keys = order.by.keys();
        let fits = |(key, value): (&Key, &Value)| match (key.kind, value) {
            (KeyKind::Number, Value::Int(_)) | (KeyKind::Text, Value::Text(_)) => true,
            (KeyKind::Id, Value::Blob(bytes)) => bytes.len() == 16,
            _ => false,
        };
        (keys.len() == values.len() && keys.iter().zip(&values).all(fits)).then_some(Self(values))
    }

    /// The values, in the order of the keys.
    pub fn values(&self) -> &[Value] {
        &self.0
    }
}

/// Which part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<C> {
    /// In which order.
    pub order: Order<C>,
    /// Behind this place; `None`: from the beginning.
    pub after: Option<Place>,
    /// Rows at most.
    pub limit: u32,
}

impl<C: SortColumn> Page<C> {
    /// The first page.
    pub const fn first(order: Order<C>, limit: u32) -> Self {
        Self { order, after: None, limit }
    }
}

/// Rows of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<T> {
    /// In their order.
    pub items: Vec<T>,
    /// Where the next page begins; `None` when nothing follows.
    pub next: Option<Place>,
}

/// What a list reads, apart from its order.
pub(crate) struct Query {
    columns: &'static str,
    from: &'static str,
    conditions: Vec<String>,
    pieces: Vec<String>,
    values: Vec<Value>,
    few: bool,
}

impl Query {
    /// Columns of a record, from tables.
    pub(crate) fn new(columns: &'static str, from: &'static str) -> Self {
        Self { columns, from, conditions: Vec::new(), pieces: Vec::new(), values: Vec::new(), few: false }
    }

    /// A value's mark.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    /// Narrows the list.
    pub(crate) fn only(&mut self, condition: impl Into<String>) {
        self.conditions.push(condition.into());
    }

    /// Narrows it to rows that have the text (in any letter case) in one of these columns.
    pub(crate) fn only_with(&mut self, text: &str, columns: &[&str]) {
        let mark = self.bind(format!("%{}%", text.to_lowercase().replace(['%', '_', '\\'], "")));
        let either: Vec<String> = columns.iter().map(|column| format!("lower({column}) LIKE {mark}")).collect();
        self.only(format!("({})", either.join(" OR ")));
    }

    /// Reads the list state by state and merges: each of these words stands for one part of it. The
    /// words are ours, never a caller's.
    pub(crate) fn each(&mut self, column: &str, words: impl IntoIterator<Item = &'static str>) {
        self.pieces.extend(words.into_iter().map(|word| format!("{column} = '{word}'")));
    }

    /// Says that what narrows the list leaves few rows: they are read and sorted, whatever index there is
    /// for the order. Along that one a database would go through all rows to find those few.
    pub(crate) fn few(&mut self) {
        self.few = true;
    }

    fn statement<C: SortColumn>(&mut self, page: &Page<C>) -> String {
        let columns: Vec<&str> = page.order.by.keys().iter().map(|key| key.column).collect();
        if let Some(place) = &page.after {
            let marks: Vec<String> = place.0.iter().map(|value| self.bind(value.clone())).collect();
            let behind = if page.order.descending { "<" } else { ">" };
            self.only(format!("({}) {behind} ({})", columns.join(", "), marks.join(", ")));
        }
        // One more than wanted tells whether anything follows.
        let limit = self.bind(i64::from(page.limit) + 1);
        let direction = if page.order.descending { " DESC" } else { "" };
        let by =
            |names: &[String]| names.iter().map(|name| format!("{name}{direction}")).collect::<Vec<_>>().join(", ");
        // An expression is in no index.
        let first = page.order.by.keys().first().filter(|_| self.few).map(|key| match key.kind {
            KeyKind::Number => format!("{} + 0", key.column),
            KeyKind::Text => format!("{} || ''", key.column),
            KeyKind::Id => key.column.to_owned(),
        });
        let part = |piece: &[String]| {
            let all: Vec<&str> = piece.iter().chain(&self.conditions).map(String::as_str).collect();
            let narrowed = if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) };
            let keys = columns.join(", ");
            let names = columns.iter().map(|column| (*column).to_owned());
            let names: Vec<String> = first.iter().cloned().chain(names.skip(first.iter().len())).collect();
            format!(
                "SELECT {}, {keys} FROM {}{narrowed} ORDER BY {} LIMIT {limit}",
                self.columns,
                self.from,
                by(&names)
            )
        };
        match self.pieces.as_slice() {
            [] | [_] => part(&self.pieces),
            several => {
                let parts: Vec<String> = several
                    .iter()
                    .enumerate()
                    .map(|(number, piece)| {
                        format!("SELECT * FROM ({}) AS p{number}", part(std::slice::from_ref(piece)))
                    })
                    .collect();
                // The keys are the last columns; numbers name them on both databases.
                let first = self.columns.split(", ").count() + 1;
                let numbers: Vec<String> = (first..first + columns.len()).map(|number| number.to_string()).collect();
                format!("{} ORDER BY {} LIMIT {limit}", parts.join(" UNION ALL "), by(&numbers))
            }
        }
    }

    /// Reads one page.
    pub(crate) fn page<C: SortColumn, T>(
        mut self,
        connection: &mut Connection,
        page: &Page<C>,
        read: impl Fn(&Row) -> Result<T>,
    ) -> Result<Listed<T>> {
        let statement = self.statement(page);
        let mut rows = connection.query(&statement, &self.values)?;
        let more = rows.len() > page.limit as usize;
        rows.truncate(page.limit as usize);
        let keys = page.order.by.keys().len();
        let place = |row: &Row| Place(row.0.iter().skip(row.0.len().saturating_sub(keys)).cloned().collect());
        let next = rows.last().filter(|_| more).map(place);
        Ok(Listed { items: rows.iter().map(read).collect::<Result<_>>()?, next })
    }

    /// How the database would read it.
    #[cfg(test)]
    pub(crate) fn explain<C: SortColumn>(mut self, connection: &mut Connection, page: &Page<C>) -> Result<String> {
        let statement = self.statement(page);
        connection.explain(&statement, &self.values)
    }
}

#[cfg(test)]
mod tests;
