//! What agents ask (`/agent/v1`): each component brings its own routes.

use crate::identity::PeerCertificate;
use crate::problem::Refusal;
use crate::{AppState, PeerHost, clock, headers};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use fettle_domain::Timestamp;
use fettle_wire::agent::problem;
use std::time::Duration;

/// The only path that needs no certificate: it gives one.
const ENROL: &str = "/agent/v1/enrol";
/// The only path for which an expired certificate is good.
const RENEW: &str = "/agent/v1/renew";

/// All of them, with one layer around: each layer costs every waiting agent some memory.
pub(crate) fn routes(state: &AppState) -> Router<AppState> {
    let grace = state.settings.hosts.certificate_grace();
    Router::new()
        .merge(crate::census::routes())
        .merge(crate::distribute::routes())
        .method_not_allowed_fallback(crate::api::method_not_allowed)
        .layer(middleware::from_fn_with_state(grace, around))
}

/// No component can forget it: a certificate of our authority whose time is not over, or nothing but
/// enrolment and renewal. Looked at for each request: connections outlive certificates.
async fn around(State(grace): State<Duration>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerHost>().copied().unwrap_or(PeerHost(None));
    let path = request.uri().path();
    let allowed = match path {
        ENROL => Ok(()),
        path => peer.require().and_then(|peer| in_time(peer, path == RENEW, grace, clock::now())),
    };
    if let Err(refusal) = allowed {
        return refusal.at(path).into_response();
    }
    headers::add(request, next).await
}

/// Refuses a certificate whose time is over, by what its host can still do about it.
fn in_time(peer: PeerCertificate, renewing: bool, grace: Duration, now: Timestamp) -> Result<(), Refusal> {
    if now < peer.expires_at {
        return Ok(());
    }
    if now >= peer.expires_at.after(grace) {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            problem::CERTIFICATE_EXPIRED_FOR_GOOD,
            "The certificate of this host expired too long ago",
            format!("the certificate of {} expired at {}, it is {now} here", peer.host, peer.expires_at),
        )
        .advise("Enrol the host anew: `fettle host token create` prints the line, give it --force there."));
    }
    if renewing {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNAUTHORIZED,
        problem::CERTIFICATE_EXPIRED,
        "The certificate of this host has expired",
        format!("the certificate of {} expired at {}, it is {now} here", peer.host, peer.expires_at),
    )
    .advise("The agent renews it by itself; nothing else is answered before that."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_domain::HostId;

    #[test]
    fn an_expired_certificate_is_good_for_its_renewal_within_the_grace() {
        let end = Timestamp::from_unix_millis(1_764_000_000_000);
        let peer = PeerCertificate { host: HostId::new(1, [0; 10]), key: [0; 32], expires_at: end };
        let grace = Duration::from_secs(3600);
        let answer = |seconds: i64, renewing| {
            let now = Timestamp::from_unix_millis(end.unix_millis() + seconds * 1000);
            in_time(peer, renewing, grace, now).map_err(|refusal| refusal.0.kind.rsplit(':').next().unwrap().to_owned())
        };
        let (expired, over) = (Err("certificate-expired".to_owned()), Err("certificate-expired-for-good".to_owned()));
        assert_eq!((answer(-1, false), answer(-1, true)), (Ok(()), Ok(())));
        assert_eq!((answer(0, false), answer(0, true)), (expired.clone(), Ok(())));
        assert_eq!((answer(3599, false), answer(3599, true)), (expired, Ok(())));
        assert_eq!((answer(3600, false), answer(3600, true)), (over.clone(), over));
    }
}
