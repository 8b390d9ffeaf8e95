//! A host: from the first sight to retirement.
use super::machine;
machine! { "host",
/// Where a host stands.
HostState {
    /// Seen (on the network, or as the clone of a host), not managed.
    Discovered = "discovered",
    /// Certificate issued, first inventory awaited.
    Enrolling = "enrolling",
    /// Reports in time.
    Managed = "managed",
    /// Has not reported for longer than agreed.
    Silent = "silent",
    /// Known from files that people import: no agent runs there, and nothing is changed from here.
    Imported = "imported",
    /// Known and deliberately left alone.
    Ignored = "ignored",
    /// Revoked or taken out of service: its certificate is refused.
    Retired = "retired",
}
/// What happens to a host.
HostEvent {
    /// A certificate was issued to it.
    Enrol = "enrol",
    /// A person imported the inventory of a machine that reaches no server.
    Import = "import",
    /// A check-in with a complete inventory arrived.
    Report = "report",
    /// No check-in within the agreed time.
    FallSilent = "fall-silent",
    /// A person decided not to manage it.
    Ignore = "ignore",
    /// A person revoked it.
    Retire = "retire",
}
next = next, is_final = is_final }
fn next(state: HostState, event: HostEvent) -> Option<HostState> {
    use HostEvent as E;
    use HostState as S;
    Some(match (state, event) {
        (S::Discovered, E::Enrol) => S::Enrolling,
        (S::Discovered, E::Ignore) => S::Ignored,
        (S::Discovered | S::Imported, E::Import) => S::Imported,
        (S::Enrolling | S::Managed | S::Silent, E::Report) => S::Managed,
        (S::Enrolling | S::Managed, E::FallSilent) => S::Silent,
        (S::Discovered | S::Imported | S::Enrolling | S::Managed | S::Silent, E::Retire) => S::Retired,
        _ => return None,
    })
}
fn is_final(state: HostState) -> bool {
    matches!(state, HostState::Ignored | HostState::Retired)
}
