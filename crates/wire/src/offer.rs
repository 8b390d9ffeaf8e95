//! The signed documents a host obeys. They travel inside a DSSE envelope (github.com/secure-systems-lab/dsse)
//! made and verified by `fettle-content`; the payload type names form and version, so that TUF and
//! Uptane metadata can take their place later.

use fettle_domain::health::HealthCheck;
use fettle_domain::plan::{Manifest, RebootPolicy};
use fettle_domain::{ChangeId, DeploymentId, HostId, PlanId, Timestamp};
use serde::{Deserialize, Serialize};

/// DSSE payload type of an [`Offer`].
pub const OFFER_TYPE: &str = "application/vnd.fettle.offer.v1+json";

/// DSSE payload type of a [`HostChange`].
pub const HOST_CHANGE_TYPE: &str = "application/vnd.fettle.host-change.v1+json";

/// The machine that this is given to is a host of its own: it obeys orders for that one from now on,
/// and none for the host whose copy it was. Signed like an order, because it says whose orders count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostChange {
    /// The host whose copy the machine was.
    pub former: HostId,
    /// Which host it is from now on.
    pub host: HostId,
    /// When it was signed.
    pub issued_at: Timestamp,
}

/// An order to one host: what to do, by whose approval, when at the earliest and latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What to do.
    pub action: OfferAction,
    /// The deployment.
    pub deployment: DeploymentId,
    /// The only host this is meant for.
    pub host: HostId,
    /// Its change.
    pub change: ChangeId,
    /// Its plan.
    pub plan: PlanId,
    /// Lowercase hex sha-256 of the plan that was approved.
    pub plan_digest: String,
    /// Who approved it.
    pub approvals: Vec<Approval>,
    /// What exactly is installed.
    pub manifest: Manifest,
    /// Restart services that use replaced files.
    pub restart_services: bool,
    /// Whether to reboot.
    pub reboot: RebootPolicy,
    /// What must hold before and after, besides what runs there. A command is only named: the host's
    /// own file says what it is.
    #[serde(default)]
    pub checks: Vec<HealthCheck>,
    /// Begin no earlier.
    pub window_start: Timestamp,
    /// Begin no later.
    pub window_end: Timestamp,
    /// Worthless afterwards, begun or not.
    pub expires: Timestamp,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// Grows with every document signed for this host: a lower one than seen is a replay.
    pub sequence: u64,
}

/// What an offer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OfferAction {
    /// Install the manifest.
    Deploy,
    /// Put back what this deployment replaced.
    Undo,
}

/// One approval of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// User name.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A DSSE envelope as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// What the payload is.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The signed bytes, base64.
    pub payload: String,
    /// At least one.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// Which key: lowercase hex sha-256 of the raw public key.
    pub keyid: String,
    /// ed25519 signature over the DSSE pre-authentication encoding, base64.
    pub sig: String,
}
