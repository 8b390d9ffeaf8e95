//! The schema of both databases, as one would read it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_store::{Dialect, schema_text};
use std::path::Path;

#[test]
fn golden_schema_of_both_databases() {
    for (name, dialect) in [("schema-sqlite.sql", Dialect::Sqlite), ("schema-postgres.sql", Dialect::Postgres)] {
        let text = schema_text(dialect);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
        if std::env::var_os("FETTLE_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, text, "docs/{name} is stale; run `cargo xtask golden` and read the difference");
    }
}
