//! By what machines are known again, taken from their facts.

use super::check_in::shown_name;
use fettle_domain::host::MachineMarks;
use fettle_domain::{HostId, Timestamp};
use fettle_process::gathering::{OtherHost, is_own_mac, likeness};
use fettle_store::systems::{host, host_likeness};
use fettle_store::{Connection, Result};
use fettle_wire::agent::HostFacts;

/// Longest mark, and MAC addresses that count.
const LONGEST: usize = 64;
const MACS: usize = 32;

/// The marks of a machine, and the same as texts to be looked up by.
pub(super) fn marks_of(facts: &HostFacts) -> (MachineMarks, Vec<String>) {
    let plain = |text: &str| -> String {
        let plain = text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain { text.to_owned() } else { String::new() }
    };
    let macs: Vec<String> = facts.macs.iter().map(|mac| plain(mac)).filter(|mac| !mac.is_empty()).take(MACS).collect();
    let marks = MachineMarks {
        machine_id: plain(&facts.machine_id),
        product_uuid: plain(&facts.product_uuid),
        macs,
        name: shown_name(facts),
    };
    let named = [("machine-id", &marks.machine_id), ("product-uuid", &marks.product_uuid)];
    let texts = named
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(kind, value)| format!("{kind}:{value}"))
        .chain(marks.macs.iter().filter(|mac| is_own_mac(mac)).map(|mac| format!("mac:{mac}")))
        .collect();
    (marks, texts)
}

/// Keeps the marks of a host that was just made, and notes the hosts that it may have been.
pub(super) fn keep_and_compare(
    connection: &mut Connection,
    id: HostId,
    facts: &HostFacts,
    now: Timestamp,
) -> Result<()> {
    let (marks, texts) = marks_of(facts);
    for other in host_likeness::hosts_alike(connection, id, &texts, &marks.name)? {
        // What cannot be read any more resembles nothing.
        let known: HostFacts = serde_json::from_str(&other.facts).unwrap_or_default();
        let reasons = likeness(&marks, &OtherHost { state: other.state, marks: marks_of(&known).0 });
        if !reasons.is_empty() {
            host_likeness::host_likeness_add(connection, id, other.id, &reasons, now)?;
            host::host_note(connection, id, now, "resemble", "enrolment", &reasons)?;
        }
    }
    host_likeness::host_marks_set(connection, id, &texts)
}
