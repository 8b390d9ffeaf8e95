//! Enrolment: a token and a signing request become a host with a certificate. One use of the token
//! is taken in the same write that makes the host, so a refused enrolment costs nothing.

use super::check_in::columns_of;
use super::likeness::keep_and_compare;
use crate::access::limit;
use crate::extract::Body;
use crate::listener::PeerAddress;
use crate::problem::Refusal;
use crate::{AppState, clock};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fettle_domain::HostId;
use fettle_store::systems::audit::{self, AuditRecord};
use fettle_store::systems::enrolment_token::{self, TokenUse};
use fettle_store::systems::{group, host, host_identity};
use fettle_wire::agent::{EnrolReply, EnrolRequest, problem};
use fettle_wire::api::problem::kind;

/// Longest token text.
const TOKEN: usize = 512;
/// Longest signing request.
const CSR: usize = 16 << 10;

pub(super) async fn enrol(
    State(state): State<AppState>,
    Extension(address): Extension<PeerAddress>,
    Body(request): Body<EnrolRequest>,
) -> Result<Json<EnrolReply>, Refusal> {
    limit::enrolment_begin(&state, address.0).await?;
    let outcome = admit(&state, request).await;
    if outcome.as_ref().is_err_and(|refusal| refusal.0.status == StatusCode::FORBIDDEN.as_u16()) {
        tracing::info!(peer.address = %address.0, "refused an enrolment: its token is no good");
        limit::enrolment_failed(&state, address.0).await?;
    }
    outcome.map(Json)
}

async fn admit(state: &AppState, request: EnrolRequest) -> Result<EnrolReply, Refusal> {
    let secret = secret_of(state, &request.token)?;
    let now = clock::now();
    // Looked at first, so that who has no good token costs no signature; taken below.
    let digest = secret.clone();
    accept(
        state.store.read(move |connection| enrolment_token::enrolment_token_check(connection, &digest, now)).await?,
    )?;
    if request.csr.len() > CSR {
        return Err(bad_request("csr", "longer than 16 KB"));
    }
    let host: HostId = clock::fresh();
    let certificate = state
        .identity
        .issue_client_certificate(&request.csr, host, now, state.settings.hosts.certificate_life())
        .map_err(|error| bad_request("csr", &error.to_string()))?;
    let json = serde_json::to_string(&request.facts).map_err(|error| bad_request("facts", &error.to_string()))?;
    let columns = columns_of(&request.facts, json, "");
    let version: String = request.agent_version.chars().filter(|c| !c.is_control()).take(64).collect();
    let facts = request.facts;
    let (key, expires_at) = (certificate.key, certificate.expires_at);
    let taken = state
        .store
        .write(move |connection| {
            let taken = enrolment_token::enrolment_token_use(connection, &secret, now)?;
            if let TokenUse::Taken(token, group) = &taken {
                host::host_create(connection, host, &columns, &version, now)?;
                host_identity::host_identity_create(connection, host, &key, expires_at, None)?;
                keep_and_compare(connection, host, &facts, now)?;
                if let Some(group) = group {
                    group::group_add(connection, *group, host)?;
                }
                let record = AuditRecord {
                    actor: format!("host {host}"),
                    action: "host.enrol",
                    object: host.to_string(),
                    detail: serde_json::json!({ "name": columns.name, "token": token.to_string() }),
                };
                audit::append(connection, now, &record)?;
            }
            Ok(taken)
        })
        .await?;
    accept(taken)?;
    Ok(EnrolReply {
        host,
        certificate: certificate.pem,
        authority: state.identity.authority_pem().to_owned(),
        offer_keys: vec![state.identity.offer_key.public().to_base64()],
        server_time: now,
    })
}

fn accept(token: TokenUse) -> Result<(), Refusal> {
    match token {
        TokenUse::Taken(..) => Ok(()),
        TokenUse::Unknown => Err(unknown()),
        TokenUse::UsedUp => Err(refuse(
            problem::TOKEN_USED_UP,
            "The enrolment token has no uses left",
            "it was used as often as it may be, or taken back",
        )),
        TokenUse::Expired => Err(refuse(problem::TOKEN_EXPIRED, "The enrolment token has expired", "its time is over")),
    }
}

fn bad_request(field: &str, why: &str) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, kind::INVALID, "The enrolment cannot be read", why).about(field)
}

fn refuse(kind: &str, title: &str, detail: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, kind, title, detail)
        .advise("Make a new one on the server: `fettle host token create`.")
}

fn unknown() -> Refusal {
    refuse(
        problem::TOKEN_UNKNOWN,
        "The enrolment token is not known here",
        "this server did not make it, or forgot it long ago",
    )
}

/// sha-256 of the token's secret. A token that pins another authority was made by another server.
fn secret_of(state: &AppState, token: &str) -> Result<Vec<u8>, Refusal> {
    let token = token.trim();
    let mut parts = token.split('.');
    let (form, pin, secret) = (parts.next(), parts.next(), parts.next());
    let (Some("fettle1"), Some(pin), Some(secret), None) = (form, pin, secret, parts.next()) else {
        return Err(unknown());
    };
    let pinned = URL_SAFE_NO_PAD.decode(pin).unwrap_or_default();
    if token.len() > TOKEN || pinned != state.identity.authority_fingerprint() {
        return Err(unknown());
    }
    Ok(ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref().to_vec())
}
