//! The dictionary of unique package versions, over which inventories are sets. Entries are never
//! changed or removed, so what was once read may be remembered for ever.

use crate::patches::advisory::numbered_rows;
use crate::{Connection, Dialect, Result, StoreError, Value};
use fettle_domain::package::{Ecosystem, PackageVersion};
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Entries that are remembered; a fleet of one release has some ten thousand, at about 300 bytes each.
const REMEMBERED: usize = 1_000_000;
/// Rows in one statement.
const ROWS: usize = 128;
const KEY: &str = "ecosystem, name, version, architecture, source, source_version";

/// The dictionary in memory, so that intake rarely asks the database. Cheap to clone: clones share it.
#[derive(Clone, Default)]
pub struct PackageDictionary(Arc<Mutex<Remembered>>);

#[derive(Default)]
struct Remembered {
    by_version: HashMap<Arc<PackageVersion>, u32>,
    by_id: HashMap<u32, Arc<PackageVersion>>,
}

/// Entries that a write used and the memory does not have. They may be remembered only after the
/// commit: an entry of a write that was given up does not exist, and its number goes to another.
#[derive(Debug, Default)]
#[must_use = "hand it to PackageDictionary::remember after the commit"]
pub struct Learned(Vec<(u32, PackageVersion)>);

impl PackageDictionary {
    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many entries are remembered.
    pub fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers what a committed write used.
    pub fn remember(&self, learned: Learned) {
        if learned.0.is_empty() {
            return;
        }
        let mut remembered = self.lock();
        if remembered.by_id.len() >= REMEMBERED {
            *remembered = Remembered::default();
        }
        for (id, package) in learned.0 {
            let package = Arc::new(package);
            remembered.by_version.insert(package.clone(), id);
            remembered.by_id.insert(id, package);
        }
    }

    /// Ids of these package versions, in their order; new ones are added.
    pub(super) fn ids<'a>(
        &self,
        connection: &mut Connection,
        packages: impl Iterator<Item = &'a PackageVersion> + Clone,
    ) -> Result<(Vec<u32>, Learned)> {
        let missing: Vec<PackageVersion> = {
            let remembered = self.lock();
            packages.clone().filter(|package| !remembered.by_version.contains_key(*package)).cloned().collect()
        };
        let mut found = HashMap::with_capacity(missing.len());
        for chunk in missing.chunks(ROWS) {
            found.extend(obtain(connection, chunk)?);
        }
        let ids: Result<Vec<u32>> = {
            let remembered = self.lock();
            packages
                .map(|package| {
                    let id = remembered.by_version.get(package).or_else(|| found.get(package)).copied();
                    id.ok_or_else(|| StoreError::Corrupt { what: format!("dictionary entry of {}", package.name) })
                })
                .collect()
        };
        Ok((ids?, Learned(found.into_iter().map(|(package, id)| (id, package)).collect())))
    }

    /// Package versions of these ids.
    pub(super) fn versions(
        &self,
        connection: &mut Connection,
        ids: &RoaringBitmap,
    ) -> Result<Vec<(u32, Arc<PackageVersion>)>> {
        let missing: Vec<u32> = {
            let remembered = self.lock();
            ids.iter().filter(|id| !remembered.by_id.contains_key(id)).collect()
        };
        let mut found: HashMap<u32, Arc<PackageVersion>> = HashMap::with_capacity(missing.len());
        for chunk in missing.chunks(ROWS) {
            // Padded with repetitions, so that there are few texts of this statement.
            let padded = chunk.len().next_power_of_two();
            let values: Vec<Value> = chunk
                .iter()
                .chain(std::iter::repeat(chunk.last().unwrap_or(&0)))
                .take(padded)
                .map(|id| (*id).into())
                .collect();
            let marks: Vec<String> = (1..=padded).map(|number| format!("?{number}")).collect();
            let rows = connection
                .query(&format!("SELECT id, {KEY} FROM package_version WHERE id IN ({})", marks.join(", ")), &values)?;
            for row in &rows {
                let (id, package) = read(row)?;
                found.insert(id, Arc::new(package));
            }
        }
        // A reader sees committed entries only.
        if connection.is_read_only() && !found.is_empty() {
            self.remember(Learned(found.iter().map(|(id, package)| (*id, (**package).clone())).collect()));
        }
        let remembered = self.lock();
        ids.iter()
            .map(|id| {
                let package = found.get(&id).or_else(|| remembered.by_id.get(&id)).cloned();
                package
                    .map(|package| (id, package))
                    .ok_or_else(|| StoreError::Corrupt { what: format!("package_version {id} is missing") })
            })
            .collect()
    }
}

/// Looks first: an insert that meets an old row would use up a number on PostgreSQL, and numbers
/// that lie close together make small sets.
fn obtain(connection: &mut Connection, packages: &[PackageVersion]) -> Result<HashMap<PackageVersion, u32>> {
    let mut found = find(connection, packages)?;
    let new: Vec<&PackageVersion> = packages.iter().filter(|package| !found.contains_key(*package)).collect();
    if new.is_empty() {
        return Ok(found);
    }
    if connection.dialect() == Dialect::Postgres {
        // Two servers that add the same packages in different orders would wait for each other.
        connection.batch("SELECT pg_advisory_xact_lock(7370014)")?;
    }
    let values: Vec<Value> = new.iter().flat_map(|package| key_of(package)).collect();
    let rows = numbered_rows(new.len(), 6, "", 1);
    let added = connection.query(
        &format!(
            "INSERT INTO package_version ({KEY}) VALUES {rows} ON CONFLICT ({KEY}) DO NOTHING RETURNING id, {KEY}"
        ),
        &values,
    )?;
    for row in &added {
        let (id, package) = read(row)?;
        found.insert(package, id);
    }
    if new.iter().any(|package| !found.contains_key(*package)) {
        // Another server was quicker; its commit was waited for.
        let late: Vec<PackageVersion> =
            new.into_iter().filter(|package| !found.contains_key(*package)).cloned().collect();
        found.extend(find(connection, &late)?);
    }
    Ok(found)
}

fn find(connection: &mut Connection, packages: &[PackageVersion]) -> Result<HashMap<PackageVersion, u32>> {
    let Some(last) = packages.last() else { return Ok(HashMap::new()) };
    let padded = packages.len().next_power_of_two();
    let values: Vec<Value> = packages.iter().chain(std::iter::repeat(last)).take(padded).flat_map(key_of).collect();
    let rows = numbered_rows(padded, 6, "", 1);
    let sql = format!(
        "WITH wanted (a, b, c, d, e, f) AS (VALUES {rows})
         SELECT p.id, p.ecosystem, p.name, p.version, p.architecture, p.source, p.source_version FROM wanted w
         JOIN package_version p ON p.ecosystem = w.a AND p.name = w.b AND p.version = w.c AND p.architecture = w.d
          AND p.source = w.e AND p.source_version = w.f"
    );
    connection.query(&sql, &values)?.iter().map(|row| read(row).map(|(id, package)| (package, id))).collect()
}

fn key_of(package: &PackageVersion) -> [Value; 6] {
    [
        package.ecosystem.as_str().into(),
        (&package.name).into(),
        (&package.version).into(),
        (&package.architecture).into(),
        (&package.source).into(),
        (&package.source_version).into(),
    ]
}

fn read(row: &crate::Row) -> Result<(u32, PackageVersion)> {
    let corrupt = |what: &str| StoreError::Corrupt { what: format!("package_version.{what}") };
    let package = PackageVersion {
        ecosystem: Ecosystem::parse(row.text(1)?).ok_or_else(|| corrupt("ecosystem"))?,
        name: row.text(2)?.to_owned(),
        version: row.text(3)?.to_owned(),
        architecture: row.text(4)?.to_owned(),
        source: row.text(5)?.to_owned(),
        source_version: row.text(6)?.to_owned(),
    };
    Ok((u32::try_from(row.int(0)?).map_err(|_| corrupt("id"))?, package))
}
