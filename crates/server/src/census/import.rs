//! The inventory of a machine that reaches no server, from the file that `fettle agent scan` wrote there.
//! It goes the way of a check-in: the same caps, the same digests, the same sets. Nobody signed it:
//! who imports it vouches for it, and it never takes the place of what an agent reports.

use super::check_in::{check_packages, facts_columns, service_columns};
use crate::access::Actor;
use crate::ops::OpsError;
use crate::problem::Refusal;
use crate::{AppState, clock};
use fettle_content::sha256_hex;
use fettle_domain::machine::HostState;
use fettle_domain::package::InstalledPackage;
use fettle_domain::{HostId, Timestamp};
use fettle_store::systems::audit;
use fettle_store::systems::host::{self, HostFactsColumns};
use fettle_store::systems::host_import::{self, HostImport};
use fettle_store::systems::host_likeness;
use fettle_store::systems::inventory::{self, PackageDictionary};
use fettle_store::systems::package_dictionary::Learned;
use fettle_store::{Connection, StoreError};
use fettle_wire::scan::{FORMAT, Imported, Scan, VERSION};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of short texts, and how many of them.
const TEXT: usize = 300;
const TEXTS: usize = 50;
/// How far the machine's clock may be ahead.
const AHEAD: Duration = Duration::from_secs(24 * 3600);
/// Tries when another server writes the same rows at the same moment.
const TRIES: u32 = 3;

/// What a file comes to.
struct Taken {
    import: HostImport,
    facts: HostFactsColumns,
    /// By what the machine is known again when it enrols.
    marks: Vec<String>,
    packages: (String, Vec<InstalledPackage>),
    services: (String, String, i64),
}

/// Takes a file in. The caller has checked that the actor may.
pub(crate) async fn take(state: &AppState, actor: &Actor, scan: Scan) -> Result<Imported, OpsError> {
    let now = clock::now();
    let taken = Arc::new(checked(scan, actor, now)?);
    for left in (0..TRIES).rev() {
        let (taken, who, dictionary) = (taken.clone(), actor.clone(), state.packages.clone());
        let fresh = clock::fresh();
        let written =
            state.store.write(move |connection| write(connection, &dictionary, &taken, &who, fresh, now)).await;
        match written {
            Ok(Ok((imported, learned))) => {
                state.packages.remember(learned);
                state.nudges.gathering.notify_one();
                state.nudges.audit.notify_one();
                return Ok(imported);
            }
            Ok(Err(refused)) => return Err(refused),
            Err(StoreError::Conflict { .. } | StoreError::Duplicate { .. }) if left > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(OpsError::Unavailable { why: "other servers write the same host again and again: try later".to_owned() })
}

fn checked(scan: Scan, actor: &Actor, now: Timestamp) -> Result<Taken, OpsError> {
    if scan.format != FORMAT {
        return Err(OpsError::invalid(
            "format",
            "this is no inventory",
            format!("`{FORMAT}`, written by `fettle agent scan`"),
        ));
    }
    if scan.version != VERSION {
        let why = format!("the file is of version {}", scan.version);
        return Err(OpsError::invalid(
            "version",
            why,
            format!("version {VERSION}: scan again with a fettle of this server's version"),
        ));
    }
    if scan.made_at > now.after(AHEAD) {
        let why = format!("{} lies in the future; it is {now} here", scan.made_at);
        return Err(OpsError::invalid("made_at", why, "set the clock of the machine and scan again"));
    }
    let short = |field: &str, text: &str| {
        let plain = text.len() <= TEXT && !text.chars().any(char::is_control);
        let instead = format!("at most {TEXT} bytes in one line");
        if plain {
            Ok(text.to_owned())
        } else {
            Err(OpsError::invalid(field, "too long, or more than a line", instead))
        }
    };
    let mark = |field: &str, text: &str| {
        let plain = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let instead = "as `fettle agent scan` writes it, or empty";
        if plain { Ok(text.to_owned()) } else { Err(OpsError::invalid(field, "not a mark of a machine", instead)) }
    };
    if scan.missing.len() > TEXTS {
        return Err(OpsError::invalid("missing", "too many entries", format!("at most {TEXTS}")));
    }
    let missing = scan.missing.iter().map(|text| short("missing", text)).collect::<Result<Vec<_>, _>>()?;
    let digest = &scan.digests.packages;
    check_packages(&scan.packages).map_err(refused)?;
    let json =
        serde_json::to_string(&scan.packages).map_err(|error| OpsError::invalid("packages", error, "plain texts"))?;
    if sha256_hex(json.as_bytes()) != *digest {
        return Err(OpsError::invalid(
            "packages",
            "its digest is not that of the content: the file was changed or cut",
            "the file as it was written",
        ));
    }
    let import = HostImport {
        host: clock::fresh(),
        machine_id: mark("machine.id", &scan.machine.id)?,
        product_uuid: mark("machine.product_uuid", &scan.machine.product_uuid)?,
        made_at: scan.made_at,
        made_by: short("made_by", &scan.made_by)?,
        made_for: short("user", &scan.user)?,
        missing,
        imported_at: now,
        imported_by: actor.name.clone(),
    };
    let (facts, marks) = facts_columns(scan.facts, &scan.digests.facts).map_err(refused)?;
    Ok(Taken {
        import,
        facts,
        marks,
        packages: (scan.digests.packages, scan.packages),
        services: service_columns(scan.services, &scan.digests.services).map_err(refused)?,
    })
}

/// The checks of a check-in, in the words of an operation.
fn refused(refusal: Refusal) -> OpsError {
    let problem = refusal.0;
    let instead =
        if problem.advice.is_empty() { "the file as `fettle agent scan` wrote it".to_owned() } else { problem.advice };
    OpsError::Invalid { field: problem.field, why: problem.detail, instead }
}

type Written = fettle_store::Result<Result<(Imported, Learned), OpsError>>;

fn write(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    taken: &Taken,
    who: &Actor,
    fresh: HostId,
    now: Timestamp,
) -> Written {
    let (id, known_by) = match known(connection, taken)? {
        Ok(known) => known.map_or((fresh, ""), |(id, by)| (id, by)),
        Err(refused) => return Ok(Err(refused)),
    };
    let new = known_by.is_empty();
    if new {
        host::host_create_imported(connection, id, &taken.facts, &who.name, now)?;
    }
    host::host_set_facts(connection, id, &taken.facts)?;
    host_likeness::host_marks_set(connection, id, &taken.marks)?;
    let (digest, packages) = &taken.packages;
    let learned = inventory::package_set_put(connection, dictionary, digest, packages)?;
    host::host_set_packages(connection, id, digest)?;
    let (digest, json, pending) = &taken.services;
    host::host_set_services(connection, id, json, digest, *pending)?;
    host::host_mark_changed(connection, id, now)?;
    host_import::host_import_put(connection, &HostImport { host: id, ..taken.import.clone() })?;
    let detail = serde_json::json!({
        "name": taken.facts.name, "new": new, "as_of": taken.import.made_at, "packages": packages.len(),
        "digest": taken.packages.0,
    });
    audit::append(connection, now, &who.record("host.import", id, detail))?;
    let imported = Imported {
        host: id.to_string(),
        name: taken.facts.name.clone(),
        new,
        known_by: known_by.to_owned(),
        as_of: taken.import.made_at.to_string(),
        packages: packages.len() as u64,
        missing: taken.import.missing.clone(),
    };
    Ok(Ok((imported, learned)))
}

type Known = Option<(HostId, &'static str)>;

/// The host that the machine is, and by what it is known again.
fn known(connection: &mut Connection, taken: &Taken) -> fettle_store::Result<Result<Known, OpsError>> {
    let (import, name) = (&taken.import, &taken.facts.name);
    let mut found: Vec<(u8, HostId, &'static str)> = Vec::new();
    for (id, other, state) in host_import::hosts_like(connection, &import.machine_id, &import.product_uuid, name)? {
        if state != HostState::Imported {
            let what = format!(
                "{other} has an agent ({id} is {state}): what it reports itself counts, and no file takes its place"
            );
            return Ok(Err(OpsError::Conflict { what }));
        }
        let Some(former) = host_import::host_import_get(connection, id)? else { continue };
        let same = |mine: &str, other: &str| !mine.is_empty() && mine == other;
        let differs = |mine: &str, other: &str| !mine.is_empty() && !other.is_empty() && mine != other;
        if same(&import.machine_id, &former.machine_id) {
            found.push((0, id, "machine id"));
        } else if same(&import.product_uuid, &former.product_uuid) {
            found.push((1, id, "product UUID"));
        } else if !differs(&import.machine_id, &former.machine_id) && other == *name {
            found.push((2, id, "name"));
        }
    }
    found.sort_unstable();
    let Some((_, id, by)) = found.first().copied() else { return Ok(Ok(None)) };
    let former = host_import::host_import_get(connection, id)?;
    if let Some(former) = former.filter(|former| former.made_at > import.made_at) {
        let what = format!(
            "the file is of {}, and of {name} one of {} was imported already, by {}",
            import.made_at, former.made_at, former.imported_by
        );
        return Ok(Err(OpsError::Conflict { what }));
    }
    Ok(Ok(Some((id, by))))
}
