//! Which machine speaks under an identity: the rightful one, one restored from a back-up, or a copy;
//! and which host an enrolling machine may have been before.
//!
//! Each check-in names its own random link and the link of the one before. Copies of a machine share
//! the past and not the future: the second one to speak presents a link that is no longer the last.
//! So does a machine that was set back to a back-up. What tells these two apart is the hardware, and
//! where that is the same, whether the line that was left off ever speaks again.

use fettle_domain::host::MachineMarks;
use fettle_domain::machine::HostState;
use fettle_domain::reason::Reason;

/// What the server keeps of a host's chain. Links are opaque; empty: none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownChain {
    /// Link of the last check-in that was taken.
    pub link: Vec<u8>,
    /// Link of the one before.
    pub before: Vec<u8>,
    /// Last link of the line that was left when the machine came back from a back-up.
    pub superseded: Vec<u8>,
    /// Last link of a line that was found to be a copy's.
    pub barred: Vec<u8>,
}

/// What a machine presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedLink {
    /// Link of the check-in before, as far as the machine knows.
    pub previous: Vec<u8>,
    /// Its new link.
    pub link: Vec<u8>,
}

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaker {
    /// The host itself.
    Rightful,
    /// The host, set back to an earlier state.
    Restored(Vec<Reason>),
    /// The host; and since it left off, a copy of it spoke in its place, which is barred from now on.
    Returned(Vec<Reason>),
    /// Another machine with a copy of the identity.
    Copy(Vec<Reason>),
}

/// Decides who speaks, and how the chain stands afterwards.
pub fn who_speaks(
    known: &KnownChain,
    known_marks: &MachineMarks,
    presented: &PresentedLink,
    presented_marks: &MachineMarks,
) -> (Speaker, KnownChain) {
    let taken = KnownChain { link: presented.link.clone(), before: presented.previous.clone(), ..known.clone() };
    if presented.link == known.link {
        return (Speaker::Rightful, known.clone());
    }
    if presented.previous == known.link || known.link.is_empty() {
        return (Speaker::Rightful, taken);
    }
    let left_off = Reason::new(
        "identity.chain-broken",
        "the link it presents is not that of the last check-in under this identity: this machine is a copy, or was set back to an earlier state",
    );
    let named = |link: &Vec<u8>| !link.is_empty() && presented.previous == *link;
    if named(&known.barred) {
        let why =
            Reason::new("identity.copy-known", "the line of check-ins that it goes on with was found to be a copy's");
        return (Speaker::Copy(vec![left_off, why]), known.clone());
    }
    if named(&known.superseded) {
        let why = Reason::new(
            "identity.both-alive",
            "the line of check-ins that seemed given up for a back-up goes on: the machine that spoke meanwhile is a copy on hardware of the same marks",
        );
        let chain = KnownChain { superseded: Vec::new(), barred: known.link.clone(), ..taken };
        return (Speaker::Returned(vec![left_off, why]), chain);
    }
    match same_machine(known_marks, presented_marks) {
        (false, why) => (Speaker::Copy([vec![left_off], why].concat()), known.clone()),
        // An answer that got lost together with the agent's memory: nothing to tell.
        (true, _) if named(&known.before) => {
            (Speaker::Rightful, KnownChain { superseded: known.link.clone(), ..taken })
        }
        (true, why) => {
            let chain = KnownChain { superseded: known.link.clone(), ..taken };
            (Speaker::Restored([vec![left_off], why].concat()), chain)
        }
    }
}

/// Whether two sets of marks may be one machine's, and why. The firmware's UUID decides where both
/// have one, then the MAC addresses, then the machine-id; who shows none of them gets the benefit of
/// the doubt, since a copy is found out as soon as both lines go on.
pub fn same_machine(known: &MachineMarks, presented: &MachineMarks) -> (bool, Vec<Reason>) {
    let both = |a: &str, b: &str| !a.is_empty() && !b.is_empty();
    let mut why = Vec::new();
    let answer = if both(&known.product_uuid, &presented.product_uuid) {
        let same = known.product_uuid == presented.product_uuid;
        why.push(Reason::new("identity.product-uuid", format!("the firmware's product UUID is {}", word(same))));
        same
    } else if !known.macs.is_empty() && !presented.macs.is_empty() {
        let shared = shared_macs(known, presented);
        why.push(Reason::new(
            "identity.macs",
            match shared.first() {
                Some(mac) => format!("it has the network card {mac} as before"),
                None => {
                    format!(
                        "none of its network cards ({}) was there before ({})",
                        some(&presented.macs),
                        some(&known.macs)
                    )
                }
            },
        ));
        !shared.is_empty()
    } else if both(&known.machine_id, &presented.machine_id) {
        known.machine_id == presented.machine_id
    } else {
        why.push(Reason::new("identity.no-marks", "it shows nothing by which its hardware could be told"));
        true
    };
    if both(&known.machine_id, &presented.machine_id) {
        let same = known.machine_id == presented.machine_id;
        let copied = if same && !answer { ", as copied with an image" } else { "" };
        why.push(Reason::new("identity.machine-id", format!("the machine-id is {}{copied}", word(same))));
    }
    if known.name != presented.name {
        why.push(Reason::new("identity.name", format!("it calls itself {}, before {}", presented.name, known.name)));
    }
    (answer, why)
}

/// Another host as an enrolling machine is compared with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherHost {
    /// Where it stands.
    pub state: HostState,
    /// By what it is told.
    pub marks: MachineMarks,
}

/// Why an enrolling machine may be the same as a host that is known, installed anew; empty when
/// nothing speaks for it. Shared hardware is enough. A mere name or machine-id is only when the host is
/// gone: names are given anew, and machines made from one image often have one machine-id.
pub fn likeness(newcomer: &MachineMarks, other: &OtherHost) -> Vec<Reason> {
    let both = |a: &str, b: &str| !a.is_empty() && a == b;
    let mut why = Vec::new();
    if both(&newcomer.product_uuid, &other.marks.product_uuid) {
        why.push(Reason::new("likeness.product-uuid", "the firmware's product UUID is the same"));
    }
    let shared = shared_macs(&other.marks, newcomer);
    if !shared.is_empty() {
        why.push(Reason::new("likeness.macs", format!("network cards are the same: {}", some(&shared))));
    }
    let gone = matches!(other.state, HostState::Silent | HostState::Retired | HostState::Imported);
    if why.is_empty() && !gone {
        return why;
    }
    if both(&newcomer.machine_id, &other.marks.machine_id) {
        why.push(Reason::new("likeness.machine-id", "the machine-id is the same: the disk, or a copy of it"));
    }
    if both(&newcomer.name, &other.marks.name) {
        why.push(Reason::new("likeness.name", format!("both are called {}", newcomer.name)));
    }
    if !why.is_empty() {
        let text = match other.state {
            HostState::Silent => "that host does not speak any more",
            HostState::Retired => "that host was revoked",
            HostState::Imported => "that host is known from a file only",
            _ => "that host still speaks: then this is another machine",
        };
        why.push(Reason::new("likeness.state", text));
    }
    why
}

fn shared_macs(known: &MachineMarks, presented: &MachineMarks) -> Vec<String> {
    presented.macs.iter().filter(|mac| is_own_mac(mac) && known.macs.contains(mac)).cloned().collect()
}

/// Whether a MAC address tells anything: container bridges take theirs from an address range (02:42)
/// that every machine has.
pub fn is_own_mac(mac: &str) -> bool {
    mac.len() == 17 && !mac.starts_with("02:42:") && mac != "00:00:00:00:00:00" && mac != "ff:ff:ff:ff:ff:ff"
}

fn word(same: bool) -> &'static str {
    if same { "the same" } else { "another" }
}

fn some(texts: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = texts.len().saturating_sub(SHOWN);
    let shown: Vec<&str> = texts.iter().take(SHOWN).map(String::as_str).collect();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}
