//! What hosts and the server say to each other, JSON over mutually authenticated TLS, under `/agent/v1`.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /agent/v1/enrol` (no client certificate) | [`EnrolRequest`] | [`EnrolReply`] |
//! | `POST /agent/v1/renew` (also an expired certificate, within the grace) | [`RenewRequest`] | [`RenewReply`] |
//! | `POST /agent/v1/clone` (after `identity-cloned`) | [`CloneRequest`] | [`CloneReply`] |
//! | `POST /agent/v1/check-in` | [`CheckIn`] | [`CheckInReply`] |
//! | `GET /agent/v1/work?after=N&wait=SECONDS&link=LINK` (long poll) | – | [`Work`] |
//! | `POST /agent/v1/report` | [`Report`] | [`ReportReply`] |
//! | `POST /agent/v1/log` | [`crate::log::LogPart`] | [`crate::log::LogReply`] |
//!
//! Errors are RFC 9457 problem details with a stable `type` (see [`problem`]).

use crate::offer::Envelope;
use fettle_domain::host::{Kernel, OsRelease};
use fettle_domain::machine::{DeploymentEvent, TaskState};
use fettle_domain::package::InstalledPackage;
use fettle_domain::plan::{Job, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, HostId, LogRequestId, RehearsalId, Timestamp};
use serde::{Deserialize, Serialize};

/// Stable `type` values of problem details that agents act on.
pub mod problem {
    /// The enrolment token is not known here.
    pub const TOKEN_UNKNOWN: &str = "urn:fettle:problem:token-unknown";
    /// The enrolment token has no uses left.
    pub const TOKEN_USED_UP: &str = "urn:fettle:problem:token-used-up";
    /// The enrolment token's time is over.
    pub const TOKEN_EXPIRED: &str = "urn:fettle:problem:token-expired";
    /// The host was revoked: stop and say so.
    pub const HOST_REVOKED: &str = "urn:fettle:problem:host-revoked";
    /// No client certificate of this server's authority was presented.
    pub const CERTIFICATE_REQUIRED: &str = "urn:fettle:problem:certificate-required";
    /// The certificate's time is over: renew it, everything else is refused.
    pub const CERTIFICATE_EXPIRED: &str = "urn:fettle:problem:certificate-expired";
    /// It has been over for longer than the grace: a person must enrol the host anew.
    pub const CERTIFICATE_EXPIRED_FOR_GOOD: &str = "urn:fettle:problem:certificate-expired-for-good";
    /// A newer certificate of this host is in use.
    pub const CERTIFICATE_SUPERSEDED: &str = "urn:fettle:problem:certificate-superseded";
    /// Another machine uses this identity and keeps it: ask for one of your own (`/agent/v1/clone`).
    pub const IDENTITY_CLONED: &str = "urn:fettle:problem:identity-cloned";
    /// A person has yet to accept this host.
    pub const HOST_PENDING: &str = "urn:fettle:problem:host-pending";
    /// The newest check-in under this identity was not this machine's: check in, then ask again.
    pub const CHECK_IN_FIRST: &str = "urn:fettle:problem:check-in-first";
}

/// First contact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The whole token text as printed by `fettle host token create`.
    pub token: String,
    /// PKCS#10 certificate signing request, PEM. The key stays on the host.
    pub csr: String,
    /// Agent version.
    pub agent_version: String,
    /// What the host is.
    pub facts: HostFacts,
}

/// Identity for the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnrolReply {
    /// The host's id, also the subject of its certificate.
    pub host: HostId,
    /// Client certificate, PEM.
    pub certificate: String,
    /// The server's certificate authority, PEM.
    pub authority: String,
    /// Raw ed25519 public keys (base64) whose signatures on offers count.
    pub offer_keys: Vec<String>,
    /// The server's clock.
    pub server_time: Timestamp,
}

/// A host asks for a certificate over a new key, with the present one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// PKCS#10 certificate signing request, PEM. The key stays on the host.
    pub csr: String,
}

/// The next certificate. The present one counts until the next one is first used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenewReply {
    /// Client certificate, PEM.
    pub certificate: String,
    /// The server's clock.
    pub server_time: Timestamp,
}

/// A machine that was told that another one has its identity asks for one of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloneRequest {
    /// PKCS#10 certificate signing request over a new key, PEM.
    pub csr: String,
    /// Agent version.
    pub agent_version: String,
    /// What the machine is.
    pub facts: HostFacts,
}

/// An identity of its own for the copy of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloneReply {
    /// Which host it is from now on.
    pub host: HostId,
    /// Client certificate, PEM.
    pub certificate: String,
    /// DSSE envelope around a [`crate::offer::HostChange`].
    pub change: Envelope,
    /// The server's clock.
    pub server_time: Timestamp,
}

/// What a host says of itself, apart from packages and services.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostFacts {
    /// Kernel's host name.
    pub name: String,
    /// Fully qualified name where known, else empty.
    pub fqdn: String,
    /// IP addresses without loopback, sorted.
    pub addresses: Vec<String>,
    /// MAC addresses, sorted.
    pub macs: Vec<String>,
    /// Operating system release.
    pub os: OsRelease,
    /// Kernel.
    pub kernel: Kernel,
    /// Kernel's boot id: changes with each boot.
    pub boot_id: String,
    /// Machine architecture as the package manager names it (`amd64`).
    pub architecture: String,
    /// `none`, `container`, `kvm`, … as far as it can be told.
    pub virtualisation: String,
    /// From the agent's configuration.
    pub location: String,
    /// From the agent's configuration.
    pub tags: Vec<String>,
    /// A reboot is needed: the reasons; empty when not.
    pub reboot_pending: Vec<String>,
    /// Whether the agent may change the host.
    pub read_only: bool,
    /// Digest of machine-id(5), which itself is not for others; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine_id: String,
    /// Digest of the firmware's product UUID; empty in containers, without root, and where it is a maker's filler.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub product_uuid: String,
}

/// A running service: what listens or is a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Service {
    /// systemd unit or init script; empty when neither is known.
    pub unit: String,
    /// Executable path.
    pub executable: String,
    /// Package that owns the executable; empty when none.
    pub package: String,
    /// Listening sockets, `tcp 0.0.0.0:22`, sorted.
    pub listens: Vec<String>,
    /// Uses files that were replaced or deleted since it started: restart needed.
    pub restart_pending: bool,
    /// Packages whose replaced files it still uses, sorted: their fix is installed but not running.
    #[serde(default)]
    pub outdated_packages: Vec<String>,
}

/// The three parts of an inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// [`HostFacts`].
    Facts,
    /// Packages.
    Packages,
    /// Services.
    Services,
}

/// Digests of the three parts (lowercase hex sha-256 of their canonical JSON, packages sorted).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SectionDigests {
    /// Of the facts.
    pub facts: String,
    /// Of the packages.
    pub packages: String,
    /// Of the services.
    pub services: String,
}

/// A sign of life; carries a section only when it changed since the server acknowledged it, or was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckIn {
    /// Agent version.
    pub agent_version: String,
    /// The agent's clock.
    pub time: Timestamp,
    /// What the host has now.
    pub digests: SectionDigests,
    /// Ties this check-in to the one before: two machines with one identity break the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
    /// Facts, when changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<HostFacts>,
    /// Packages, when changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<PackagesReport>,
    /// Services, when changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<Service>>,
}

/// Two links of the chain of a host's check-ins. Each is drawn at random by the agent (32 digits of
/// lowercase hex). A repeated check-in repeats its link; a copy of the machine cannot know the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Link of the last check-in that was answered; empty before the first.
    pub previous: String,
    /// Link of this one.
    pub link: String,
}

/// Packages, whole or as the difference to what the server has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case", try_from = "ReportFields")]
pub enum PackagesReport {
    /// All of them.
    Complete {
        /// Sorted.
        packages: Vec<InstalledPackage>,
    },
    /// What changed since the set with digest `base`.
    Difference {
        /// Digest of the set it is applied to.
        base: String,
        /// Entries of the base set that are gone (a changed entry stands here in its old form).
        removed: Vec<InstalledPackage>,
        /// Entries that are new.
        added: Vec<InstalledPackage>,
    },
}

/// How a [`PackagesReport`] is read: in one go. Finding the tag first would keep the whole list as a
/// tree in between.
#[derive(Deserialize)]
struct ReportFields {
    form: ReportForm,
    packages: Option<Vec<InstalledPackage>>,
    base: Option<String>,
    removed: Option<Vec<InstalledPackage>>,
    added: Option<Vec<InstalledPackage>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReportForm {
    Complete,
    Difference,
}

impl TryFrom<ReportFields> for PackagesReport {
    type Error = String;

    fn try_from(fields: ReportFields) -> Result<Self, String> {
        let missing = |field: &str| format!("missing field `{field}`");
        Ok(match fields.form {
            ReportForm::Complete => Self::Complete { packages: fields.packages.ok_or_else(|| missing("packages"))? },
            ReportForm::Difference => Self::Difference {
                base: fields.base.ok_or_else(|| missing("base"))?,
                removed: fields.removed.ok_or_else(|| missing("removed"))?,
                added: fields.added.ok_or_else(|| missing("added"))?,
            },
        })
    }
}

/// Answer to a check-in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckInReply {
    /// Sections the server does not have in this form: send them whole at once.
    pub want: Vec<Section>,
    /// The chain does not fit: nothing was taken yet. Send the facts with the same link, so that it can
    /// be seen which machine this is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chain_unsettled: bool,
    /// When to check in again (seconds).
    pub next_seconds: u64,
    /// The server's clock.
    pub server_time: Timestamp,
}

/// What is to be done, possibly empty after a long poll.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Pass it as `after` next time.
    pub cursor: u64,
    /// All outstanding items; one may come twice and is told apart by its id.
    pub items: Vec<WorkItem>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum WorkItem {
    /// Dry run; answered by [`ReportBody::Rehearsal`].
    Rehearse {
        /// Which.
        rehearsal: RehearsalId,
        /// What to try.
        job: Job,
    },
    /// A signed order (deploy or undo).
    Offer {
        /// DSSE envelope around an [`crate::offer::Offer`].
        envelope: Envelope,
    },
    /// Take back an order that has not begun to change the host.
    Withdraw {
        /// Which.
        deployment: DeploymentId,
    },
    /// Send the log that is kept of a deployment, answered by parts ([`crate::log::LogPart`]).
    SendLog {
        /// Which request of a person.
        request: LogRequestId,
        /// Whose log.
        deployment: DeploymentId,
        /// Number of the first line that is wanted.
        from: u64,
        /// Bytes of text that may still be sent.
        most_bytes: u64,
    },
}

/// What the agent has to tell. Stays in its spool until acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Link of the host's last check-in (see [`Chain`]); empty when it keeps no chain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link: String,
    /// In order of `sequence`, bounded in number and bytes.
    pub entries: Vec<ReportEntry>,
}

/// One entry of the spool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportEntry {
    /// Grows by one with each entry of this host; the server ignores what it has.
    pub sequence: u64,
    /// When it happened, by the host's clock.
    pub at: Timestamp,
    /// What.
    pub body: ReportBody,
}

/// What an entry tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ReportBody {
    /// A dry run's answer.
    Rehearsal {
        /// Which.
        rehearsal: RehearsalId,
        /// What it found.
        outcome: RehearsalOutcome,
    },
    /// A deployment went on.
    Deployment {
        /// Which.
        deployment: DeploymentId,
        /// What happened.
        event: DeploymentEvent,
        /// Why, with the evidence.
        reasons: Vec<Reason>,
    },
    /// A task of a deployment went on.
    Task {
        /// Which deployment.
        deployment: DeploymentId,
        /// Position of the task, from 1.
        number: u32,
        /// Its name (`install`).
        name: String,
        /// Where it stands now.
        state: TaskState,
        /// Why, when it failed.
        reasons: Vec<Reason>,
    },
    /// Output of a deployment.
    Output {
        /// Which deployment.
        deployment: DeploymentId,
        /// Lines, secrets masked.
        lines: Vec<String>,
    },
    /// An order was refused (signature, host, window, replay, read-only).
    Refused {
        /// Which deployment the order named, when it could be read.
        deployment: Option<DeploymentId>,
        /// Why.
        reasons: Vec<Reason>,
    },
}

/// Answer to a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportReply {
    /// Every entry up to this sequence is stored: the agent may forget it.
    pub acknowledged: u64,
}
