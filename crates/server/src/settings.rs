//! Configuration of the server. `app` reads it from file, environment and flags; here stand the
//! keys, their defaults and what they mean (the configuration reference is made from this).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}

impl Default for HostSettings {
    fn default() -> Self {
        Self { check_in_seconds: 300, silent_after: 3 }
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
        Self { requester_may_approve: false, approvals: 1, rehearsal_minutes: 15, window_hours: 24, silence_minutes: 60, success_percent: 100 }
    }
}
