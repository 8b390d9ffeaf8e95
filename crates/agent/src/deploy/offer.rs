//! Whether an order is obeyed: signed by the server this host was enrolled at, meant for this host,
//! approved, in its window, no replay, and something this agent can do. Pure; the steps are numbered
//! in their order, and the first that fails is the answer.

use fettle_content::{PublicKey, envelope};
use fettle_domain::health::{HealthCheck, MOST_CHECKS};
use fettle_domain::plan::{Manifest, PackageStep};
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, HostId, Timestamp};
use fettle_wire::offer::{Envelope, OFFER_TYPE, Offer};
use std::time::Duration;

/// Cap of the payload's base64: about twice the largest manifest that is carried out.
const LONGEST_PAYLOAD: usize = 12 << 20;
/// Most packages of a manifest; a whole distribution upgrade has some 3,000.
const MOST_STEPS: usize = 20_000;
/// How far the clocks of server and host may lie apart.
const CLOCK_SKEW: Duration = Duration::from_secs(600);

/// What the agent knows when it looks at an order.
pub(crate) struct Standing<'a> {
    pub(crate) host: HostId,
    pub(crate) keys: &'a [PublicKey],
}

/// An order that is believed: signed for this host. The only way to get one is [`believe`].
#[derive(Debug, Clone)]
pub(crate) struct Believed(Offer);

impl Believed {
    pub(crate) fn offer(&self) -> &Offer {
        &self.0
    }

    pub(crate) fn into_offer(self) -> Offer {
        self.0
    }
}

/// Why an order is not obeyed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    /// The deployment it named, when it could be read and believed so far.
    pub(crate) deployment: Option<DeploymentId>,
    pub(crate) reason: Reason,
}

/// Steps 1 to 4: is it the server's word, and for us?
pub(crate) fn believe(document: &Envelope, standing: &Standing<'_>) -> Result<Believed, Refusal> {
    let refuse = |topic: &str, text: String| Refusal { deployment: None, reason: Reason::new(topic, text) };
    // 1. Bounded.
    if document.payload.len() > LONGEST_PAYLOAD || document.signatures.len() > 16 {
        return Err(refuse("order.too-big", "the order is too big to be one".to_owned()));
    }
    // 2. Type and signature: nothing inside is looked at before.
    let signatures: Vec<(String, String)> =
        document.signatures.iter().map(|signature| (signature.keyid.clone(), signature.sig.clone())).collect();
    let bytes = envelope::verify(standing.keys, OFFER_TYPE, &document.payload_type, &document.payload, &signatures)
        .map_err(|error| refuse("order.not-believed", error.to_string()))?;
    // 3. Readable.
    let offer: Offer = serde_json::from_slice(&bytes).map_err(|error| {
        refuse("order.unreadable", format!("the order cannot be read: {error}; is the server newer than this agent?"))
    })?;
    // 4. For this host.
    if offer.host != standing.host {
        return Err(refuse("order.other-host", format!("the order is for {}, this is {}", offer.host, standing.host)));
    }
    Ok(Believed(offer))
}

/// Steps 5 to 8: may it be obeyed now? `last_sequence` is the highest order ever accepted here.
pub(crate) fn check(believed: &Believed, last_sequence: u64, now: Timestamp) -> Result<(), Refusal> {
    let offer = believed.offer();
    let refuse = |topic: &str, text: String| {
        Err(Refusal { deployment: Some(offer.deployment), reason: Reason::new(topic, text) })
    };
    // 5. No replay.
    if offer.sequence <= last_sequence {
        return refuse(
            "order.replay",
            format!(
                "the order has number {}, this host has seen {last_sequence}: it is old or repeated",
                offer.sequence
            ),
        );
    }
    // 6. Time.
    if offer.issued_at > now.after(CLOCK_SKEW) {
        return refuse(
            "order.from-the-future",
            format!("the order was signed at {}, here it is {now}: set this host's clock", offer.issued_at),
        );
    }
    if now > offer.expires {
        return refuse("order.expired", format!("the order was good until {}, it is {now}", offer.expires));
    }
    if offer.window_start > offer.window_end || now > offer.window_end {
        return refuse(
            "order.window-over",
            format!("its window is {} to {}, it is {now}", offer.window_start, offer.window_end),
        );
    }
    // 7. Approved.
    if offer.approvals.iter().all(|approval| approval.by.trim().is_empty()) {
        return refuse("order.not-approved", "the order names nobody who approved it".to_owned());
    }
    if !is_sha256(&offer.plan_digest) {
        return refuse("order.no-plan", "the order does not name the approved plan by its digest".to_owned());
    }
    // 8. Well-formed.
    match malformed(&offer.manifest).or_else(|| malformed_checks(&offer.checks)) {
        Some(why) => refuse("order.malformed", why),
        None => Ok(()),
    }
}

/// Checks name paths, units and addresses of this host.
fn malformed_checks(checks: &[HealthCheck]) -> Option<String> {
    if checks.len() > MOST_CHECKS {
        return Some(format!("the order names {} health checks, more than {MOST_CHECKS}", checks.len()));
    }
    checks.iter().find_map(|check| {
        let why = check.problem()?;
        Some(format!("health check `{}`: {why}", check.name.escape_default().take(100).collect::<String>()))
    })
}

fn malformed(manifest: &Manifest) -> Option<String> {
    if manifest.steps.is_empty() || manifest.steps.len() > MOST_STEPS {
        return Some(format!("the order names {} packages", manifest.steps.len()));
    }
    manifest.steps.iter().find_map(|step| {
        let why = malformed_step(step)?;
        Some(format!("package `{}`: {why}", step.name.escape_default().take(100).collect::<String>()))
    })
}

/// Names, versions and files reach a package manager's command line and this host's folders.
fn malformed_step(step: &PackageStep) -> Option<&'static str> {
    let plain = |text: &str, more: &[u8]| {
        !text.is_empty()
            && text.len() < 256
            && !text.starts_with(['-', '.'])
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    if !plain(&step.name, b"+-._") || !plain(&step.architecture, b"-_") {
        return Some("that is no name of a package and architecture");
    }
    let versions = [&step.from, &step.to];
    if versions.into_iter().flatten().any(|version| !plain(version, b"+-._:~^")) {
        return Some("its version is no version");
    }
    match (&step.to, &step.file) {
        (None, None) if step.from.is_some() => None,
        (Some(_), Some(file)) if !plain(&file.name, b"+-._:~^%") => Some("its file has no plain name"),
        (Some(_), Some(file)) if !is_sha256(&file.sha256) => Some("its file has no sha-256"),
        (Some(_), Some(_)) => None,
        _ => Some("version and file do not fit each other"),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::bench::{Signer, offer};
    use fettle_wire::offer::OfferAction;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

    fn refused(change: impl FnOnce(&mut Offer)) -> String {
        let signer = Signer::default();
        let mut order = offer(OfferAction::Deploy, NOW, 5);
        change(&mut order);
        let standing = Standing { host: offer(OfferAction::Deploy, NOW, 5).host, keys: &[signer.public()] };
        believe(&signer.sign(&order), &standing)
            .and_then(|believed| check(&believed, 4, NOW))
            .err()
            .map_or_else(String::new, |refusal| refusal.reason.topic)
    }

    #[test]
    fn one_answer_for_each_attack() {
        assert_eq!(refused(|_| {}), "");
        assert_eq!(refused(|order| order.host = HostId::new(9, [9; 10])), "order.other-host");
        assert_eq!(refused(|order| order.sequence = 4), "order.replay");
        assert_eq!(refused(|order| order.expires = Timestamp::from_unix_millis(1)), "order.expired");
        assert_eq!(refused(|order| order.window_end = Timestamp::from_unix_millis(1)), "order.window-over");
        assert_eq!(refused(|order| order.issued_at = NOW.after(Duration::from_secs(86_400))), "order.from-the-future");
        assert_eq!(refused(|order| order.approvals.clear()), "order.not-approved");
        assert_eq!(refused(|order| order.plan_digest = "x".to_owned()), "order.no-plan");
        assert_eq!(refused(|order| order.manifest.steps.clear()), "order.malformed");
        assert_eq!(refused(|order| order.manifest.steps[0].name = "-o=Evil".to_owned()), "order.malformed");
        assert_eq!(refused(|order| order.manifest.steps[0].to = Some("1 evil".to_owned())), "order.malformed");
        let file =
            |order: &mut Offer, name: &str| order.manifest.steps[0].file.as_mut().unwrap().name = name.to_owned();
        assert_eq!(refused(|order| file(order, "../../etc/passwd")), "order.malformed");
        assert_eq!(refused(|order| order.manifest.steps[0].file = None), "order.malformed");
        let check = |order: &mut Offer, probe: fettle_domain::health::Probe| {
            let mut check: HealthCheck = "port=80".parse().unwrap();
            check.probe = probe;
            order.checks = vec![check];
        };
        use fettle_domain::health::{Expect, LogSource, Probe};
        assert_eq!(refused(|order| order.checks = vec!["port=80".parse().unwrap()]), "");
        assert_eq!(refused(|order| order.checks = vec!["port=80".parse().unwrap(); 33]), "order.malformed");
        let line = "/bin/sh -c reboot".to_owned();
        assert_eq!(refused(|order| check(order, Probe::Command { command: line })), "order.malformed");
        let source = || LogSource::File { path: "/var/log/../../etc/shadow".to_owned() };
        let log = || Probe::Log { source: source(), pattern: "root".to_owned(), expect: Expect::Present };
        assert_eq!(refused(|order| check(order, log())), "order.malformed");
    }

    #[test]
    fn a_foreign_signature_another_type_and_a_changed_byte_are_not_believed() {
        let (signer, other) = (Signer::default(), Signer::default());
        let order = offer(OfferAction::Deploy, NOW, 5);
        let standing = Standing { host: order.host, keys: &[signer.public()] };
        let topic = |document: &Envelope| believe(document, &standing).err().map(|refusal| refusal.reason.topic);
        assert_eq!(topic(&signer.sign(&order)), None);
        assert_eq!(topic(&other.sign(&order)).as_deref(), Some("order.not-believed"));
        let mut changed = signer.sign(&order);
        changed.payload_type = "application/json".to_owned();
        assert_eq!(topic(&changed).as_deref(), Some("order.not-believed"));
        let mut changed = signer.sign(&order);
        changed.payload = signer.sign(&offer(OfferAction::Deploy, NOW, 6)).payload;
        assert_eq!(topic(&changed).as_deref(), Some("order.not-believed"));
        let mut changed = signer.sign(&order);
        changed.payload = "A".repeat(LONGEST_PAYLOAD + 1);
        assert_eq!(topic(&changed).as_deref(), Some("order.too-big"));
    }
}
