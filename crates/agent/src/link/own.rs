//! A machine that was copied from another host becomes a host of its own: it asks for an identity
//! when the server says that the other one keeps theirs, and shows it as soon as the executor obeys
//! for it.
//!
//! Which host's orders a machine obeys is not for the half of the agent that speaks to the network to
//! say. So the server signs the change like an order, and the executor reads that at its next start
//! (`executor::trust`); this half only follows.

use super::client::Client;
use super::identity::{About, Identity};
use super::renewal::{self, RenewalError, Tended};
use super::tls;
use crate::clock;
use crate::disk::StateDir;
use crate::disk::files::{self, DiskError};
use crate::disk::state::{self, StateError};
use fettle_domain::HostId;
use fettle_wire::agent::CloneRequest;

/// Asks for an identity of this machine's own and keeps it for the executor's next start.
pub(super) async fn ask(client: &Client, state: &StateDir) -> Result<Tended, RenewalError> {
    let not_now = |why: &str| RenewalError::NotNow(why.to_owned());
    if state.identity_change().exists() {
        // It is there, and the executor did not take it at its start: a change of the host is half done.
        return if client.may_try() {
            Ok(Tended::NewIdentity)
        } else {
            Err(not_now("this machine is a copy of another host; its own identity waits for the end of a change"))
        };
    }
    let present = client.identity().ok_or_else(|| not_now("this host is not enrolled"))?;
    let facts = client.facts().ok_or_else(|| not_now("nothing was said of this machine yet"))?;
    let (key, csr) = renewal::key_and_request(state)?;
    let request = CloneRequest { csr, agent_version: env!("CARGO_PKG_VERSION").to_owned(), facts };
    let reply = client.own_identity(&request).await?;
    tls::belong_together(&reply.certificate, &key)
        .map_err(|_| RenewalError::Answer("the certificate is not for this host's key".to_owned()))?;
    let about = About { host: reply.host, enrolled_at: clock::now(), ..present.about.clone() };
    let own = Identity { about, certificate: reply.certificate, key, ..present };
    own.store_in(&state.identity_own())?;
    // Last: from here on the executor may act on it.
    state::write_json(&state.identity_change(), &reply.change)?;
    renewal::forget(state)?;
    tracing::warn!(host.id = %own.about.host, "this machine is a copy of another host: it becomes a host of its own");
    Ok(Tended::NewIdentity)
}

/// At the start of this half: shows the identity of the host that the executor obeys for (`obeyed`),
/// where that is the one that waited. Which host is shown then; `shown` as before when nothing waited.
pub(crate) fn settle(client: &Client, state: &StateDir, shown: HostId, obeyed: HostId) -> Result<HostId, StateError> {
    let Some(own) = Identity::load_from(&state.identity_own())? else { return Ok(shown) };
    if own.about.host != obeyed {
        return Ok(shown);
    }
    if obeyed != shown {
        for path in [state.last_contact(), state.acknowledged_digests(), state.acknowledged_packages()] {
            files::remove(&path)?;
        }
        own.store(state)?;
        client
            .change_to(own)
            .map_err(|error| StateError::Unreadable { path: state.identity(), why: error.to_string() })?;
        client.begin_chain();
    }
    discard(state)?;
    Ok(obeyed)
}

/// Removes an identity that waits.
pub(super) fn discard(state: &StateDir) -> Result<(), DiskError> {
    files::remove(&state.identity_change())?;
    files::remove(&state.identity_own())
}
