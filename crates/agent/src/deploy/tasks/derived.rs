//! Checks that nobody has to write: what listened before listens again, what was active is active.

use crate::deploy::system::System;
use fettle_domain::reason::Reason;
use fettle_wire::agent::Service;

/// What ran before and does not now.
pub(super) fn missing(before: &[Service], now: &[Service], system: &dyn System) -> Vec<Reason> {
    let ephemeral = system.first_ephemeral_port();
    let mut reasons = Vec::new();
    for service in before.iter().filter(|service| is_the_hosts(service)) {
        let same: Vec<&Service> = now.iter().filter(|other| is_same(service, other)).collect();
        let name = if service.unit.is_empty() { &service.executable } else { &service.unit };
        if service.listens.is_empty() {
            if same.is_empty()
                && let Some(why) = system.why_failed(&service.unit)
            {
                reasons
                    .push(Reason::new("health.not-active", format!("{name} was active before and is not now: {why}")));
            }
            continue;
        }
        for listens in lasting(service, ephemeral) {
            if !same.iter().any(|other| other.listens.contains(listens)) {
                reasons.push(Reason::new(
                    "health.not-listening",
                    format!("{name} listened on {listens} before and does not now"),
                ));
            }
        }
    }
    reasons
}

/// What was compared, when nothing is missing.
pub(super) fn all_there(before: &[Service], system: &dyn System) -> Reason {
    let ephemeral = system.first_ephemeral_port();
    let services: Vec<&Service> = before.iter().filter(|service| is_the_hosts(service)).collect();
    let sockets: usize = services.iter().map(|service| lasting(service, ephemeral).count()).sum();
    let text = format!(
        "what ran before does so: {} services are there, {sockets} sockets of theirs listen as before",
        services.len()
    );
    Reason::from_source("health.holds", text, "the inventory before the change")
}

fn lasting(service: &Service, ephemeral: u16) -> impl Iterator<Item = &String> {
    service.listens.iter().filter(move |listens| port(listens) < ephemeral)
}

/// Units and init scripts are the host's. Of programs that nobody started as a service only those
/// from places where daemons live: a developer may stop an own server at any time.
fn is_the_hosts(service: &Service) -> bool {
    let places = ["/usr/sbin/", "/sbin/", "/usr/lib/", "/usr/libexec/", "/lib/", "/opt/"];
    !service.unit.is_empty() || places.iter().any(|place| service.executable.starts_with(place))
}

/// By unit, since a new version may bring an executable of another name.
fn is_same(before: &Service, now: &Service) -> bool {
    if before.unit.is_empty() { before.executable == now.executable } else { before.unit == now.unit }
}

fn port(listens: &str) -> u16 {
    listens.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::bench::SimulatedHost;

    fn service(unit: &str, executable: &str, listens: &[&str]) -> Service {
        Service {
            unit: unit.to_owned(),
            executable: executable.to_owned(),
            package: String::new(),
            listens: listens.iter().map(|text| (*text).to_owned()).collect(),
            restart_pending: false,
            outdated_packages: Vec::new(),
        }
    }

    #[test]
    fn what_ran_before_must_run_after() {
        let host = SimulatedHost::default();
        let before = [
            service("web.service", "/usr/sbin/web1", &["tcp 0.0.0.0:80", "tcp 0.0.0.0:50123"]),
            service("cron.service", "/usr/sbin/cron", &[]),
            service("", "/usr/sbin/exim4", &["tcp 127.0.0.1:25"]),
            service("", "/home/dev/server", &["tcp 0.0.0.0:3000"]),
        ];
        let after = [
            service("web.service", "/usr/sbin/web2", &["tcp 0.0.0.0:80", "tcp 0.0.0.0:41000"]),
            service("cron.service", "/usr/sbin/cron", &[]),
            service("", "/usr/sbin/exim4", &["tcp 127.0.0.1:25"]),
        ];
        assert_eq!(missing(&before, &after, &host), []);
        assert!(all_there(&before, &host).text.contains("3 services are there, 2 sockets"));
        let texts: Vec<String> = missing(&before, &[], &host).into_iter().map(|reason| reason.text).collect();
        assert_eq!(
            texts,
            [
                "web.service listened on tcp 0.0.0.0:80 before and does not now",
                "cron.service was active before and is not now: no process of it runs",
                "/usr/sbin/exim4 listened on tcp 127.0.0.1:25 before and does not now",
            ]
        );
    }
}
