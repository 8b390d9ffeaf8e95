//! One connection to either database, with one way to speak to both.

use crate::value::{from_postgres, from_sqlite};
use crate::{Result, Row, StoreError, Value};
use postgres::types::ToSql;
use std::collections::HashMap;

/// Which database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Embedded.
    Sqlite,
    /// Server.
    Postgres,
}

/// A connection. SQL texts use `?1`, `?2`, … on both databases.
pub struct Connection {
    inner: Inner,
    read_only: bool,
}

enum Inner {
    Sqlite(rusqlite::Connection),
    Postgres { client: postgres::Client, statements: HashMap<String, postgres::Statement> },
}

impl Connection {
    /// Opens a SQLite file (or `:memory:`).
    pub(crate) fn sqlite(path: &str, read_only: bool) -> Result<Self> {
        let connection = rusqlite::Connection::open(path)?;
        connection.set_prepared_statement_cache_capacity(256);
        connection.busy_timeout(std::time::Duration::from_secs(20))?;
        connection.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16000;",
        )?;
        if read_only {
            connection.execute_batch("PRAGMA query_only=ON;")?;
        }
        Ok(Self { inner: Inner::Sqlite(connection), read_only })
    }

    /// Connects to PostgreSQL.
    pub(crate) fn postgres(url: &str, read_only: bool) -> Result<Self> {
        let mut client = postgres::Client::connect(url, postgres::NoTls)?;
        if read_only {
            client.batch_execute("SET default_transaction_read_only = on")?;
        }
        Ok(Self { inner: Inner::Postgres { client, statements: HashMap::new() }, read_only })
    }

    /// Which database this is.
    pub fn dialect(&self) -> Dialect {
        match self.inner {
            Inner::Sqlite(_) => Dialect::Sqlite,
            Inner::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// Whether it only reads: it sees nothing that is not committed.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether it can be used at all.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(&self.inner, Inner::Postgres { client, .. } if client.is_closed())
    }

    /// Whether the other side still answers.
    pub(crate) fn is_alive(&mut self) -> bool {
        match &mut self.inner {
            Inner::Sqlite(_) => true,
            Inner::Postgres { client, .. } => client.is_valid(std::time::Duration::from_secs(5)).is_ok(),
        }
    }

    /// Rows of a query.
    pub fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>> {
        match &mut self.inner {
            Inner::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let width = statement.column_count();
                let mut rows = statement.query(rusqlite::params_from_iter(values))?;
                let mut answer = Vec::new();
                while let Some(row) = rows.next()? {
                    let mut values = Vec::with_capacity(width);
                    for index in 0..width {
                        values.push(from_sqlite(row.get_ref(index)?)?);
                    }
                    answer.push(Row(values));
                }
                Ok(answer)
            }
            Inner::Postgres { client, statements } => {
                let statement = prepare(client, statements, sql)?;
                let rows = client.query(&statement, &references(values))?;
                rows.iter().map(|row| from_postgres(row).map(Row)).collect()
            }
        }
    }

    /// The first row, if any.
    pub fn query_one(&mut self, sql: &str, values: &[Value]) -> Result<Option<Row>> {
        Ok(self.query(sql, values)?.into_iter().next())
    }

    /// Changes rows; how many.
    pub fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64> {
        match &mut self.inner {
            Inner::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                Ok(statement.execute(rusqlite::params_from_iter(values))? as u64)
            }
            Inner::Postgres { client, statements } => {
                let statement = prepare(client, statements, sql)?;
                Ok(client.execute(&statement, &references(values))?)
            }
        }
    }

    /// Several statements without values.
    pub fn batch(&mut self, sql: &str) -> Result<()> {
        match &mut self.inner {
            Inner::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Inner::Postgres { client, .. } => Ok(client.batch_execute(sql)?),
        }
    }

    /// `EXPLAIN` of a query, as the database words it.
    pub fn explain(&mut self, sql: &str, values: &[Value]) -> Result<String> {
        let (prefix, column) = match self.dialect() {
            Dialect::Sqlite => ("EXPLAIN QUERY PLAN ", 3),
            Dialect::Postgres => ("EXPLAIN ", 0),
        };
        let rows = self.query(&format!("{prefix}{sql}"), values)?;
        Ok(rows.iter().filter_map(|row| row.text(column).ok()).collect::<Vec<_>>().join("\n"))
    }
}

fn references(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn prepare(
    client: &mut postgres::Client,
    statements: &mut HashMap<String, postgres::Statement>,
    sql: &str,
) -> Result<postgres::Statement> {
    if let Some(statement) = statements.get(sql) {
        return Ok(statement.clone());
    }
    // Texts made for a number of rows would fill the server's memory for ever.
    if statements.len() >= 512 {
        statements.clear();
    }
    let statement = client.prepare(&numbered_parameters(sql)).map_err(StoreError::from)?;
    statements.insert(sql.to_owned(), statement.clone());
    Ok(statement)
}

/// `?1` becomes `$1`; a `?` inside quotes stays.
fn numbered_parameters(sql: &str) -> String {
    let mut quoted = false;
    sql.chars()
        .map(|c| {
            if c == '\'' {
                quoted = !quoted;
            }
            if c == '?' && !quoted { '$' } else { c }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn parameters_are_renumbered_outside_quotes() {
        assert_eq!(super::numbered_parameters("a = ?1 AND b = '?' AND c = ?12"), "a = $1 AND b = '?' AND c = $12");
    }
}
