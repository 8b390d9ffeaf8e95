//! Inventories of packages: content-addressed sets over a dictionary of unique package versions.
//! Hosts with the same packages share one row, whatever their number.

use crate::patches::advisory::numbered_rows;
use crate::{Connection, Result, StoreError, Value};
use fettle_domain::HostId;
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Entries of the dictionary that are remembered; a fleet of one release has some ten thousand.
const REMEMBERED: usize = 2_000_000;
/// Rows in one statement.
const ROWS: usize = 150;

/// The dictionary in memory, so that intake rarely asks the database. Entries are never changed or
/// removed, so what is remembered stays true.
#[derive(Default)]
pub struct PackageDictionary(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    by_version: HashMap<Arc<PackageVersion>, u32>,
    by_id: HashMap<u32, Arc<PackageVersion>>,
}

impl Remembered {
    fn learn(&mut self, id: u32, package: PackageVersion) {
        if self.by_id.len() >= REMEMBERED {
            *self = Self::default();
        }
        let package = Arc::new(package);
        self.by_version.insert(package.clone(), id);
        self.by_id.insert(id, package);
    }
}

/// What departs from the ordinary (automatic, of the set's usual origin, complete, not held).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Marks {
    /// The usual origin.
    #[serde(rename = "o")]
    origin: String,
    /// Other origins, with the packages that have them.
    #[serde(rename = "p", default, skip_serializing_if = "BTreeMap::is_empty")]
    origins: BTreeMap<String, Vec<u32>>,
    /// Installed by hand.
    #[serde(rename = "m", default, skip_serializing_if = "Vec::is_empty")]
    manual: Vec<u32>,
    /// Held back.
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<u32>,
    /// Not completely installed.
    #[serde(rename = "s", default, skip_serializing_if = "BTreeMap::is_empty")]
    states: BTreeMap<u32, InstallState>,
}

impl PackageDictionary {
    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ids of these package versions; new ones are added.
    fn ids(&self, connection: &mut Connection, packages: &[InstalledPackage]) -> Result<Vec<u32>> {
        let missing: Vec<PackageVersion> = {
            let remembered = self.lock();
            packages
                .iter()
                .filter(|installed| !remembered.by_version.contains_key(&installed.package))
                .map(|installed| installed.package.clone())
                .collect()
        };
        for chunk in missing.chunks(ROWS) {
            self.add(connection, chunk)?;
        }
        let remembered = self.lock();
        packages
            .iter()
            .map(|installed| {
                remembered.by_version.get(&installed.package).copied().ok_or_else(|| StoreError::Corrupt {
                    what: format!("dictionary entry of {}", installed.package.name),
                })
            })
            .collect()
    }

    fn add(&self, connection: &mut Connection, packages: &[PackageVersion]) -> Result<()> {
        let mut values: Vec<Value> = Vec::with_capacity(packages.len() * 6);
        for package in packages {
            values.extend([
                package.ecosystem.as_str().into(),
                (&package.name).into(),
                (&package.version).into(),
                (&package.architecture).into(),
                (&package.source).into(),
                (&package.source_version).into(),
            ]);
        }
        const KEY: &str = "ecosystem, name, version, architecture, source, source_version";
        let rows = numbered_rows(packages.len(), 6, "", 1);
        // ON CONFLICT with an update of nothing returns the id of old rows too, on both databases.
        let found = connection.query(
            &format!("INSERT INTO package_version ({KEY}) VALUES {rows} ON CONFLICT ({KEY}) DO UPDATE SET name = excluded.name RETURNING id, {KEY}"),
            &values,
        )?;
        let mut remembered = self.lock();
        for row in &found {
            let (id, package) = read_version(row)?;
            remembered.learn(id, package);
        }
        Ok(())
    }

    /// Package versions of these ids.
    fn versions(&self, connection: &mut Connection, ids: &RoaringBitmap) -> Result<Vec<(u32, Arc<PackageVersion>)>> {
        let missing: Vec<u32> = {
            let remembered = self.lock();
            ids.iter().filter(|id| !remembered.by_id.contains_key(id)).collect()
        };
        for chunk in missing.chunks(500) {
            let marks: Vec<String> = (1..=chunk.len()).map(|number| format!("?{number}")).collect();
            let values: Vec<Value> = chunk.iter().map(|id| Value::from(*id)).collect();
            let rows = connection.query(
                &format!(
                    "SELECT id, ecosystem, name, version, architecture, source, source_version FROM package_version WHERE id IN ({})",
                    marks.join(", ")
                ),
                &values,
            )?;
            let mut remembered = self.lock();
            for row in &rows {
                let (id, package) = read_version(row)?;
                remembered.learn(id, package);
            }
        }
        let remembered = self.lock();
        ids.iter()
            .map(|id| {
                remembered
                    .by_id
                    .get(&id)
                    .map(|package| (id, package.clone()))
                    .ok_or_else(|| StoreError::Corrupt { what: format!("package_version {id} is missing") })
            })
            .collect()
    }
}

fn read_version(row: &crate::Row) -> Result<(u32, PackageVersion)> {
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

/// Whether a set is known.
pub fn package_set_exists(connection: &mut Connection, digest: &str) -> Result<bool> {
    Ok(connection.query_one("SELECT 1 FROM package_set WHERE digest = ?1", &[digest.into()])?.is_some())
}

/// Keeps a set under its digest; again is fine. `packages` is sorted, `digest` was verified by the caller.
pub fn package_set_put(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    digest: &str,
    packages: &[InstalledPackage],
) -> Result<()> {
    if package_set_exists(connection, digest)? {
        return Ok(());
    }
    let ids = dictionary.ids(connection, packages)?;
    let mut members: RoaringBitmap = ids.iter().copied().collect();
    members.optimize();
    let mut bytes = Vec::with_capacity(members.serialized_size());
    members
        .serialize_into(&mut bytes)
        .map_err(|error| StoreError::Refused { cause: format!("cannot write a set: {error}") })?;
    let marks = serde_json::to_string(&marks_of(packages, &ids))
        .map_err(|error| StoreError::Refused { cause: format!("cannot write as JSON: {error}") })?;
    let number = i64::try_from(packages.len()).unwrap_or(i64::MAX);
    connection.execute(
        "INSERT INTO package_set (digest, packages, members, marks) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (digest) DO NOTHING",
        &[digest.into(), number.into(), bytes.into(), marks.into()],
    )?;
    Ok(())
}

fn marks_of(packages: &[InstalledPackage], ids: &[u32]) -> Marks {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for installed in packages {
        *numbers.entry(&installed.origin).or_default() += 1;
    }
    let usual = numbers.into_iter().max_by(|a, b| (a.1, a.0).cmp(&(b.1, b.0))).map_or("", |(origin, _)| origin);
    let mut marks = Marks { origin: usual.to_owned(), ..Marks::default() };
    for (installed, id) in packages.iter().zip(ids) {
        if installed.origin != usual {
            marks.origins.entry(installed.origin.clone()).or_default().push(*id);
        }
        if !installed.automatic {
            marks.manual.push(*id);
        }
        if installed.held {
            marks.held.push(*id);
        }
        if installed.state != InstallState::Installed {
            marks.states.insert(*id, installed.state);
        }
    }
    marks
}

/// The packages of a set, sorted as the agent had them.
pub fn package_set_get(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    digest: &str,
) -> Result<Vec<InstalledPackage>> {
    let row = connection
        .query_one("SELECT members, marks FROM package_set WHERE digest = ?1", &[digest.into()])?
        .ok_or_else(|| StoreError::not_found(format!("package set {digest}")))?;
    let corrupt = |what: &str| StoreError::Corrupt { what: format!("package_set.{what}") };
    let members = RoaringBitmap::deserialize_from(row.blob(0)?).map_err(|_| corrupt("members"))?;
    let marks: Marks = serde_json::from_str(row.text(1)?).map_err(|_| corrupt("marks"))?;
    let origins: HashMap<u32, &String> =
        marks.origins.iter().flat_map(|(origin, ids)| ids.iter().map(move |id| (*id, origin))).collect();
    let manual: RoaringBitmap = marks.manual.iter().copied().collect();
    let held: RoaringBitmap = marks.held.iter().copied().collect();
    let mut packages: Vec<InstalledPackage> = dictionary
        .versions(connection, &members)?
        .into_iter()
        .map(|(id, package)| InstalledPackage {
            package: (*package).clone(),
            origin: origins.get(&id).copied().unwrap_or(&marks.origin).clone(),
            held: held.contains(id),
            automatic: !manual.contains(id),
            state: marks.states.get(&id).copied().unwrap_or_default(),
        })
        .collect();
    packages.sort();
    Ok(packages)
}

/// The packages of a host; empty before its first inventory.
pub fn host_packages(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    host: HostId,
) -> Result<Vec<InstalledPackage>> {
    let row = connection
        .query_one("SELECT packages_digest FROM host WHERE id = ?1", &[host.into()])?
        .ok_or_else(|| StoreError::not_found(host))?;
    match row.text(0)? {
        "" => Ok(Vec::new()),
        digest => package_set_get(connection, dictionary, &digest.to_owned()),
    }
}

/// Removes sets that no host has any more, at most `limit`. Returns how many.
pub fn package_set_sweep(connection: &mut Connection, limit: u32) -> Result<u64> {
    connection.execute(
        "DELETE FROM package_set WHERE digest IN (
           SELECT s.digest FROM package_set s WHERE NOT EXISTS (SELECT 1 FROM host h WHERE h.packages_digest = s.digest) LIMIT ?1)",
        &[limit.into()],
    )
}
