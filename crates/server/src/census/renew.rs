//! Certificates of hosts that are known: the next one for the same host, and one of its own for the
//! copy of a host.

use super::check_in::columns_of;
use super::likeness::marks_of;
use crate::admission;
use crate::extract::Body;
use crate::identity::{HostCertificate, PeerCertificate};
use crate::problem::Refusal;
use crate::settings::ClonePolicy;
use crate::{AppState, PeerHost, clock};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use fettle_domain::machine::HostEvent;
use fettle_domain::reason::Reason;
use fettle_domain::{HostId, Timestamp};
use fettle_store::Connection;
use fettle_store::systems::audit::{self, AuditRecord};
use fettle_store::systems::{host, host_identity, host_likeness, work};
use fettle_wire::agent::{CloneReply, CloneRequest, RenewReply, RenewRequest, problem};
use fettle_wire::api::problem::kind;
use fettle_wire::offer::{Envelope, EnvelopeSignature, HOST_CHANGE_TYPE, HostChange};

/// Copies of one host that may wait for a person.
const COPIES: u64 = 16;

/// `POST /agent/v1/renew`. The certificate shown may have expired; that its grace is not over was
/// looked at before (`agent_api`).
pub(super) async fn renew(
    State(state): State<AppState>,
    Extension(peer): Extension<PeerHost>,
    Body(request): Body<RenewRequest>,
) -> Result<Json<RenewReply>, Refusal> {
    let (peer, now) = (peer.require()?, clock::now());
    let standing = state.store.read(move |connection| work::work_standing(connection, peer.host)).await?;
    let standing = standing.ok_or_else(|| Refusal::host_revoked(peer.host))?;
    admission::admit(&state, peer, standing.state, &standing.keys).await?;
    let certificate = issue(&state, &request.csr, peer.host, now)?;
    if certificate.key == peer.key {
        return Err(bad_request("csr", "it is over the key of the present certificate: make a new one"));
    }
    let made = certificate.clone();
    state.store.write(move |connection| keep(connection, peer, &made, now)).await??;
    tracing::info!(host.id = %peer.host, certificate.expires_at = %certificate.expires_at, "renewed a host's certificate");
    Ok(Json(RenewReply { certificate: certificate.pem, server_time: now }))
}

type Kept = fettle_store::Result<Result<(), Refusal>>;

fn keep(connection: &mut Connection, peer: PeerCertificate, made: &HostCertificate, now: Timestamp) -> Kept {
    // Read again: it may have been revoked, or renewed by another request, since.
    let Some(standing) = work::work_standing(connection, peer.host)? else {
        return Ok(Err(Refusal::host_revoked(peer.host)));
    };
    if let Err(refusal) = admission::check(peer, standing.state, &standing.keys, now) {
        return Ok(Err(refusal));
    }
    host_identity::host_key_issued(connection, peer.host, &made.key, made.expires_at)?;
    let text = if now < peer.expires_at {
        format!("the present one expires at {}, the next one at {}", peer.expires_at, made.expires_at)
    } else {
        format!(
            "the former one expired at {}, within the grace; the next one expires at {}",
            peer.expires_at, made.expires_at
        )
    };
    host::host_note(connection, peer.host, now, "renew", "agent", &[Reason::new("identity.renewed", text)])?;
    let record = AuditRecord {
        actor: format!("host {}", peer.host),
        action: "host.renew",
        object: peer.host.to_string(),
        detail: serde_json::json!({ "expires_at": made.expires_at, "former_expires_at": peer.expires_at }),
    };
    audit::append(connection, now, &record)?;
    Ok(Ok(()))
}

/// `POST /agent/v1/clone`: a machine that was told that it is a copy becomes a host of its own, at
/// once or when a person accepts it. Asked again with the same key it is given the same host.
pub(super) async fn copy(
    State(state): State<AppState>,
    Extension(peer): Extension<PeerHost>,
    Body(request): Body<CloneRequest>,
) -> Result<Json<CloneReply>, Refusal> {
    let (peer, now) = (peer.require()?, clock::now());
    let standing = state.store.read(move |connection| work::work_standing(connection, peer.host)).await?;
    let standing = standing.ok_or_else(|| Refusal::host_revoked(peer.host))?;
    let policy = match admission::check(peer, standing.state, &standing.keys, now) {
        Ok(_) => state.settings.hosts.clones,
        // The copy of a certificate that was replaced since tells where it comes from as well; but it
        // may be what somebody found on an old disk, so a person looks in any case.
        Err(refusal) if refusal.0.kind == problem::CERTIFICATE_SUPERSEDED => ClonePolicy::Ask,
        Err(refusal) => return Err(refusal),
    };
    let key = state.identity.key_of_request(&request.csr).map_err(|error| bad_request("csr", &error.to_string()))?;
    let known = state.store.read(move |connection| host_identity::host_by_key(connection, &key)).await?;
    if known == Some(peer.host) {
        return Err(bad_request("csr", "it is over the key of the present certificate: make a new one"));
    }
    let id = known.unwrap_or_else(clock::fresh);
    let certificate = issue(&state, &request.csr, id, now)?;
    let pem = certificate.pem.clone();
    if known.is_none() {
        let made = state
            .store
            .write(move |connection| make(connection, peer.host, id, &request, &certificate, policy, now))
            .await?;
        made?;
    }
    let change = signed_change(&state, HostChange { former: peer.host, host: id, issued_at: now })?;
    Ok(Json(CloneReply { host: id, certificate: pem, change, server_time: now }))
}

fn signed_change(state: &AppState, change: HostChange) -> Result<Envelope, Refusal> {
    let payload = serde_json::to_vec(&change).map_err(|error| bad_request("csr", &error.to_string()))?;
    let signed = fettle_content::sign(&state.identity.offer_key, HOST_CHANGE_TYPE, &payload);
    Ok(Envelope {
        payload_type: HOST_CHANGE_TYPE.to_owned(),
        payload: signed.payload,
        signatures: vec![EnvelopeSignature { keyid: signed.key_id, sig: signed.signature }],
    })
}

fn make(
    connection: &mut Connection,
    origin: HostId,
    id: HostId,
    request: &CloneRequest,
    certificate: &HostCertificate,
    policy: ClonePolicy,
    now: Timestamp,
) -> Kept {
    let record = host::host_get(connection, origin)?;
    if record.cloned_at.is_none() {
        return Ok(Err(conflict(format!("no second machine with the identity of {origin} was noticed"))));
    }
    if host_identity::host_clones_waiting(connection, origin)? >= COPIES {
        let what = format!("{COPIES} copies of {origin} wait to be accepted or refused");
        return Ok(Err(conflict(what).advise("Accept or revoke them first: `fettle host list --state discovered`.")));
    }
    let Ok(json) = serde_json::to_string(&request.facts) else {
        return Ok(Err(bad_request("facts", "they cannot be kept")));
    };
    let columns = columns_of(&request.facts, json, "");
    let version: String = request.agent_version.chars().filter(|c| !c.is_control()).take(64).collect();
    host::host_discover(connection, id, &columns, &version, now)?;
    host_identity::host_identity_create(connection, id, &certificate.key, certificate.expires_at, Some(origin))?;
    host_likeness::host_marks_set(connection, id, &marks_of(&request.facts).1)?;
    let why = |text: String| [Reason::new("identity.told-apart", text)];
    let name = &record.name;
    host::host_note(connection, id, now, "tell-apart", "agent", &why(format!("it was a copy of {name} ({origin})")))?;
    let told = format!("its copy has an identity of its own: {id}");
    host::host_note(connection, origin, now, "tell-apart", "agent", &why(told))?;
    if policy == ClonePolicy::Enrol {
        let by = why("copies become hosts at once (hosts.clones = \"enrol\")".to_owned());
        host::host_transition(connection, id, HostEvent::Enrol, "policy", &by, now)?;
        host_identity::host_clone_settled(connection, origin)?;
    }
    let entry = AuditRecord {
        actor: format!("host {origin}"),
        action: "host.clone",
        object: id.to_string(),
        detail: serde_json::json!({ "name": columns.name, "origin": origin.to_string(), "accepted": policy == ClonePolicy::Enrol }),
    };
    audit::append(connection, now, &entry)?;
    Ok(Ok(()))
}

fn issue(state: &AppState, csr: &str, host: HostId, now: Timestamp) -> Result<HostCertificate, Refusal> {
    state
        .identity
        .issue_client_certificate(csr, host, now, state.settings.hosts.certificate_life())
        .map_err(|error| bad_request("csr", &error.to_string()))
}

fn bad_request(field: &str, why: &str) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, kind::INVALID, "The request cannot be read", why).about(field)
}

fn conflict(what: String) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, kind::CONFLICT, "The present state does not allow it", what)
}
