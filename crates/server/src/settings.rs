//! Configuration of the server. `app` reads it from file, environment and flags; here stand the
//! keys, their defaults and what they mean (the configuration reference is made from this).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// All of it. Every key has a default, an unknown key is an error.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The port, its certificate and its limits.
    pub server: ServerSettings,
    /// People's sign-in.
    pub sign_in: SignInSettings,
    /// Enrolled hosts.
    pub hosts: HostSettings,
    /// Vulnerability feeds.
    pub feeds: FeedSettings,
    /// Changes.
    pub changes: ChangeSettings,
}

/// The port, its certificate and its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServerSettings {
    /// Further DNS names or IP addresses of this server, to stand in its TLS certificate.
    pub names: Vec<String>,
    /// Connections at once, waiting agents included; further ones wait to be accepted.
    pub connections: usize,
    /// Seconds that open requests get to end after Ctrl-C.
    pub shutdown_seconds: u64,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { names: Vec::new(), connections: 200_000, shutdown_seconds: 20 }
    }
}

/// People's sign-in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SignInSettings {
    /// Minutes without a request after which a session ends.
    pub idle_minutes: u64,
    /// Hours after which a session ends in any case.
    pub session_hours: u64,
    /// Wrong passwords for one account within the window before it must wait.
    pub failures_per_account: u32,
    /// Wrong passwords from one address (IPv6: from one /64) within the window before it must wait.
    pub failures_per_address: u32,
    /// Minutes of that window.
    pub window_minutes: u64,
    /// Characters a password needs at least.
    pub password_length: usize,
}

impl Default for SignInSettings {
    fn default() -> Self {
        Self {
            idle_minutes: 60,
            session_hours: 12,
            failures_per_account: 5,
            failures_per_address: 30,
            window_minutes: 15,
            password_length: 12,
        }
    }
}

/// Enrolled hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostSettings {
    /// Seconds between an agent's check-ins.
    pub check_in_seconds: u64,
    /// Check-ins an agent may miss before its host counts as silent.
    pub silent_after: u32,
    /// Days a host's certificate lives; the agent renews it when a third of them is left.
    pub certificate_days: u64,
    /// Days after its end during which a certificate is still good for asking for the next one, and for nothing else.
    pub certificate_grace_days: u64,
    /// What becomes of a copy of an enrolled machine: `ask` keeps it waiting until a person accepts it as a host of its own, `enrol` makes it one at once.
    pub clones: ClonePolicy,
}

/// What becomes of a copy of an enrolled machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClonePolicy {
    /// A person accepts it.
    Ask,
    /// It becomes a host at once.
    Enrol,
}

impl HostSettings {
    /// How long a host's certificate lives.
    pub(crate) fn certificate_life(&self) -> Duration {
        Duration::from_secs(self.certificate_days.saturating_mul(DAY))
    }

    /// How long it may be over and still be renewed.
    pub(crate) fn certificate_grace(&self) -> Duration {
        Duration::from_secs(self.certificate_grace_days.saturating_mul(DAY))
    }
}

const DAY: u64 = 24 * 3600;

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            check_in_seconds: 300,
            silent_after: 3,
            certificate_days: 90,
            certificate_grace_days: 365,
            clones: ClonePolicy::Ask,
        }
    }
}

/// Vulnerability feeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FeedSettings {
    /// Names of the feeds that are loaded on their own; empty means none (then only `fettle feed sync`).
    pub sync: Vec<String>,
    /// Hours between two loads.
    pub sync_hours: u64,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self { sync: Vec::new(), sync_hours: 6 }
    }
}

/// Changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChangeSettings {
    /// Whether who asked for a change may approve it.
    pub requester_may_approve: bool,
    /// Approvals a change needs.
    pub approvals: u32,
    /// Minutes that hosts get to answer a dry run; who has not answered then is left out.
    pub rehearsal_minutes: u64,
    /// Hours that a change's window lasts where the change names no other.
    pub window_hours: u64,
    /// Minutes without a word after which a host counts as failed, where the change names no other.
    pub silence_minutes: u64,
    /// Per cent of the hosts that must succeed, where the change names no other.
    pub success_percent: u8,
}

impl Default for ChangeSettings {
    fn default() -> Self {
        Self {
            requester_may_approve: false,
            approvals: 1,
            rehearsal_minutes: 15,
            window_hours: 24,
            silence_minutes: 60,
            success_percent: 100,
        }
    }
}

/// A value that has the right type and still cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is {found}: use {instead}")]
pub struct Complaint {
    /// The key with its table (`sign-in.session-hours`).
    pub key: &'static str,
    /// What stands there.
    pub found: String,
    /// What would be right.
    pub instead: String,
}

/// Largest value of keys that have no natural end.
const MUCH: u64 = 1_000_000;

impl Settings {
    /// Everything that cannot be used, in the order of the keys. Types are checked by reading, bounds
    /// here: for `fettle config check`, and once more at the start of the server.
    pub fn complaints(&self) -> Vec<Complaint> {
        let (server, people, hosts, changes) = (&self.server, &self.sign_in, &self.hosts, &self.changes);
        let connections = u64::try_from(server.connections).unwrap_or(u64::MAX);
        let password = u64::try_from(people.password_length).unwrap_or(u64::MAX);
        let bounds: [(&'static str, u64, u64, u64); 17] = [
            ("server.connections", connections, 16, 4 * MUCH),
            ("server.shutdown-seconds", server.shutdown_seconds, 1, 3600),
            ("sign-in.idle-minutes", people.idle_minutes, 1, 60 * 24 * 366),
            ("sign-in.session-hours", people.session_hours, 1, 24 * 366),
            ("sign-in.failures-per-account", people.failures_per_account.into(), 1, MUCH),
            ("sign-in.failures-per-address", people.failures_per_address.into(), 1, MUCH),
            ("sign-in.window-minutes", people.window_minutes, 1, 60 * 24),
            ("sign-in.password-length", password, 8, 128),
            ("hosts.check-in-seconds", hosts.check_in_seconds, 1, 24 * 3600),
            ("hosts.silent-after", hosts.silent_after.into(), 1, 1000),
            ("hosts.certificate-days", hosts.certificate_days, 1, 3650),
            ("hosts.certificate-grace-days", hosts.certificate_grace_days, 0, 3650),
            ("feeds.sync-hours", self.feeds.sync_hours, 1, 24 * 366),
            ("changes.approvals", changes.approvals.into(), 1, 100),
            ("changes.window-hours", changes.window_hours, 1, 24 * 366),
            ("changes.silence-minutes", changes.silence_minutes, 1, 60 * 24 * 366),
            ("changes.success-percent", changes.success_percent.into(), 1, 100),
        ];
        let names = server.names.iter().filter(|name| !crate::identity::is_name(name)).map(|name| Complaint {
            key: "server.names",
            found: format!("`{}`", name.chars().take(80).collect::<String>()),
            instead: "a DNS name or an IP address, without a scheme or a port".to_owned(),
        });
        let numbers = bounds.into_iter().filter(|(_, found, low, high)| !(low..=high).contains(&found)).map(
            |(key, found, low, high)| Complaint { key, found: found.to_string(), instead: format!("{low} to {high}") },
        );
        names.chain(numbers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named_with_what_would_be_right() {
        assert_eq!(Settings::default().complaints(), []);
        let mut settings = Settings::default();
        settings.sign_in.session_hours = 9000;
        settings.server.names =
            vec!["patch.example".into(), "192.0.2.1".into(), "https://patch.example".into(), "2001:db8::1".into()];
        let texts: Vec<String> = settings.complaints().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "`server.names` is `https://patch.example`: use a DNS name or an IP address, without a scheme or a port",
                "`sign-in.session-hours` is 9000: use 1 to 8784",
            ]
        );
    }
}
