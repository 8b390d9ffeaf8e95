//! Inventories of packages: content-addressed sets over a dictionary of unique package versions.
//! Hosts with the same packages share one row, whatever their number.

use super::package_dictionary::Learned;
use crate::{Connection, Result, Row, StoreError, Value};
use fettle_domain::package::{InstallState, InstalledPackage};
use fettle_domain::{HostId, Timestamp};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, HashMap};

pub use super::package_dictionary::PackageDictionary;

/// A digest as the database keeps it: 32 bytes instead of 64 characters of hex; none when empty.
pub(super) fn digest_value(hex: &str) -> Result<Value> {
    let refused = || StoreError::Refused {
        cause: format!("`{}` is no sha-256 digest", hex.chars().take(80).collect::<String>()),
    };
    if hex.is_empty() {
        return Ok(Value::Blob(Vec::new()));
    }
    if hex.len() != 64 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(refused());
    }
    let bytes =
        (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    bytes.collect::<Option<Vec<u8>>>().map(Value::Blob).ok_or_else(refused)
}

/// The same back as lowercase hex.
pub(super) fn digest_text(row: &Row, column: usize) -> Result<String> {
    use std::fmt::Write as _;
    let bytes = row.blob(column)?;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Whether a set is known. What is no digest is not.
pub fn package_set_exists(connection: &mut Connection, digest: &str) -> Result<bool> {
    let Ok(digest) = digest_value(digest) else { return Ok(false) };
    Ok(connection.query_one("SELECT 1 FROM package_set WHERE digest = ?1", &[digest])?.is_some())
}

/// Keeps a set under its digest; again is fine. `packages` is sorted and names no package version
/// twice, `digest` was verified by the caller. What it learned is remembered after the commit.
pub fn package_set_put(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    digest: &str,
    packages: &[InstalledPackage],
) -> Result<Learned> {
    if package_set_exists(connection, digest)? {
        // It may be about to be swept: it is wanted again.
        connection.execute(
            "UPDATE package_set SET unused_since = 0 WHERE digest = ?1 AND unused_since <> 0",
            &[digest_value(digest)?],
        )?;
        return Ok(Learned::default());
    }
    let (ids, learned) = dictionary.ids(connection, packages.iter().map(|installed| &installed.package))?;
    let mut members: RoaringBitmap = ids.iter().copied().collect();
    members.optimize();
    let number = i64::try_from(packages.len()).unwrap_or(i64::MAX);
    if members.len() != packages.len() as u64 {
        return Err(StoreError::Refused { cause: "a package set names one package version twice".into() });
    }
    connection.execute(
        "INSERT INTO package_set (digest, packages, members, marks, unused_since) VALUES (?1, ?2, ?3, ?4, 0) ON CONFLICT (digest) DO NOTHING",
        &[digest_value(digest)?, number.into(), bytes_of(&members)?.into(), marks_of(packages, &ids).to_bytes()?.into()],
    )?;
    Ok(learned)
}

fn bytes_of(set: &RoaringBitmap) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(set.serialized_size());
    set.serialize_into(&mut bytes)
        .map_err(|error| StoreError::Refused { cause: format!("cannot write a set: {error}") })?;
    Ok(bytes)
}

/// What departs from the ordinary (automatic, of the set's usual origin, complete, not held): sets
/// of members by what they have in common. Most members depart in nothing.
#[derive(Debug, Clone, PartialEq, Default)]
struct Marks(BTreeMap<String, RoaringBitmap>);

/// Not installed as a mere dependency.
const MANUAL: &str = "manual";
/// Held back by the administrator.
const HELD: &str = "held";
/// `usual:` and the usual origin, of an empty set.
const USUAL: &str = "usual:";
/// `origin:` and another origin.
const ORIGIN: &str = "origin:";
/// `state:` and a state that is not complete.
const STATE: &str = "state:";

impl Marks {
    fn note(&mut self, label: String, id: u32) {
        self.0.entry(label).or_default().insert(id);
    }

    /// Label and set, each after its length.
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (label, set) in &self.0 {
            let mut set = set.clone();
            set.optimize();
            for part in [label.as_bytes(), &bytes_of(&set)?] {
                let length = u32::try_from(part.len())
                    .map_err(|_| StoreError::Refused { cause: "a mark is too long".into() })?;
                bytes.extend(length.to_le_bytes());
                bytes.extend(part);
            }
        }
        Ok(bytes)
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut marks = Self::default();
        while !bytes.is_empty() {
            let label = std::str::from_utf8(take_part(&mut bytes)?).ok()?;
            let set = RoaringBitmap::deserialize_from(take_part(&mut bytes)?).ok()?;
            marks.0.insert(label.to_owned(), set);
        }
        Some(marks)
    }

    fn set(&self, label: &str) -> RoaringBitmap {
        self.0.get(label).cloned().unwrap_or_default()
    }

    /// Sets whose label begins so, with the rest of the label.
    fn labelled<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a RoaringBitmap)> {
        self.0.iter().filter_map(move |(label, set)| label.strip_prefix(prefix).map(|rest| (rest, set)))
    }
}

fn take_part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(part)
}

fn marks_of(packages: &[InstalledPackage], ids: &[u32]) -> Marks {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for installed in packages {
        *numbers.entry(&installed.origin).or_default() += 1;
    }
    let usual = numbers.into_iter().max_by(|a, b| (a.1, a.0).cmp(&(b.1, b.0))).map_or("", |(origin, _)| origin);
    let mut marks = Marks::default();
    marks.0.insert(format!("{USUAL}{usual}"), RoaringBitmap::new());
    for (installed, id) in packages.iter().zip(ids) {
        if installed.origin != usual {
            marks.note(format!("{ORIGIN}{}", installed.origin), *id);
        }
        if !installed.automatic {
            marks.note(MANUAL.to_owned(), *id);
        }
        if installed.held {
            marks.note(HELD.to_owned(), *id);
        }
        if installed.state != InstallState::Installed {
            marks.note(format!("{STATE}{}", state_str(installed.state)), *id);
        }
    }
    marks
}

fn state_str(state: InstallState) -> &'static str {
    match state {
        InstallState::Installed => "installed",
        InstallState::Unpacked => "unpacked",
        InstallState::HalfConfigured => "half-configured",
        InstallState::HalfInstalled => "half-installed",
    }
}

fn parse_state(text: &str) -> Option<InstallState> {
    use InstallState as S;
    [S::Installed, S::Unpacked, S::HalfConfigured, S::HalfInstalled].into_iter().find(|state| state_str(*state) == text)
}

/// The packages of a set, sorted as the agent had them.
pub fn package_set_get(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    digest: &str,
) -> Result<Vec<InstalledPackage>> {
    let row = connection
        .query_one("SELECT members, marks FROM package_set WHERE digest = ?1", &[digest_value(digest)?])?
        .ok_or_else(|| StoreError::not_found(format!("package set {digest}")))?;
    let corrupt = |what: &str| StoreError::Corrupt { what: format!("package_set.{what}") };
    let members = RoaringBitmap::deserialize_from(row.blob(0)?).map_err(|_| corrupt("members"))?;
    let marks = Marks::from_bytes(row.blob(1)?).ok_or_else(|| corrupt("marks"))?;
    let usual = marks.labelled(USUAL).next().map_or("", |(origin, _)| origin);
    let (manual, held) = (marks.set(MANUAL), marks.set(HELD));
    let mut packages: Vec<InstalledPackage> = dictionary
        .versions(connection, &members)?
        .into_iter()
        .map(|(id, package)| {
            let origin = marks.labelled(ORIGIN).find(|(_, set)| set.contains(id)).map_or(usual, |(origin, _)| origin);
            let state =
                marks.labelled(STATE).find(|(_, set)| set.contains(id)).and_then(|(state, _)| parse_state(state));
            InstalledPackage {
                package: (*package).clone(),
                origin: origin.to_owned(),
                held: held.contains(id),
                automatic: !manual.contains(id),
                state: state.unwrap_or_default(),
            }
        })
        .collect();
    packages.sort_unstable();
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
    match digest_text(&row, 0)?.as_str() {
        "" => Ok(Vec::new()),
        digest => package_set_get(connection, dictionary, digest),
    }
}

/// How many packages a host has, without reading them.
pub fn host_package_count(connection: &mut Connection, host: HostId) -> Result<u64> {
    let row = connection.query_one(
        "SELECT s.packages FROM host h JOIN package_set s ON s.digest = h.packages_digest WHERE h.id = ?1",
        &[host.into()],
    )?;
    row.map_or(Ok(0), |row| row.int(0)).map(|number| u64::try_from(number).unwrap_or(0))
}

/// How far a sweep went: pass it on to the next step; the start is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sweep {
    after: Vec<u8>,
    /// Sets removed so far.
    pub removed: u64,
}

/// One bounded step through the sets, `rows` of them: those that no host has any more are noted, and
/// removed when they were noted before `noted_before`. In between a host may come back to its set,
/// also by the write of another server that is not yet committed. Whether the end was reached.
pub fn package_set_sweep(
    connection: &mut Connection,
    sweep: &mut Sweep,
    rows: u32,
    now: Timestamp,
    noted_before: Timestamp,
) -> Result<bool> {
    let step = connection.query(
        "SELECT digest FROM package_set WHERE digest > ?1 ORDER BY digest LIMIT ?2",
        &[sweep.after.as_slice().into(), rows.into()],
    )?;
    let Some(last) = step.last() else { return Ok(true) };
    let (first, last, full) = (sweep.after.clone(), last.blob(0)?.to_vec(), step.len() == rows as usize);
    const UNUSED: &str = "digest > ?1 AND digest <= ?2 AND NOT EXISTS (SELECT 1 FROM host h WHERE h.packages_digest = package_set.digest)";
    let range: [Value; 2] = [first.into(), last.as_slice().into()];
    let [from, to] = range.clone();
    sweep.removed += connection.execute(
        &format!("DELETE FROM package_set WHERE {UNUSED} AND unused_since > 0 AND unused_since < ?3"),
        &[from, to, noted_before.into()],
    )?;
    let [from, to] = range;
    connection.execute(
        &format!("UPDATE package_set SET unused_since = ?3 WHERE {UNUSED} AND unused_since = 0"),
        &[from, to, now.into()],
    )?;
    sweep.after = last;
    Ok(!full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_back_and_refuse_what_is_cut() {
        let mut marks = Marks::default();
        marks.note(MANUAL.into(), 7);
        marks.note(format!("{ORIGIN}Debian:bookworm-security"), 70_000);
        marks.0.insert(format!("{USUAL}Debian:bookworm"), RoaringBitmap::new());
        let bytes = marks.to_bytes().unwrap();
        assert_eq!(Marks::from_bytes(&bytes), Some(marks));
        assert_eq!(Marks::from_bytes(&[]), Some(Marks::default()));
        let whole = (0..bytes.len()).filter(|cut| Marks::from_bytes(&bytes[..*cut]).is_some()).count();
        assert_eq!(whole, 3, "only between two sets is a cut not seen, and at the start");
    }

    #[test]
    fn digests_are_hex_or_nothing() {
        let hex = "0123456789abcdef".repeat(4);
        let Value::Blob(bytes) = digest_value(&hex).unwrap() else { panic!("no bytes") };
        assert_eq!(digest_text(&Row(vec![Value::Blob(bytes)]), 0).unwrap(), hex);
        assert_eq!(digest_value("").unwrap(), Value::Blob(Vec::new()));
        for wrong in ["0", &hex[1..], &hex.to_uppercase(), &"g".repeat(64), &"ä".repeat(32)] {
            assert!(digest_value(wrong).is_err(), "{wrong}");
        }
    }
}
