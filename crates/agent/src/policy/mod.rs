//! The host's own policy, `/etc/fettle/policy.toml`: what this host lets its server do at all. Only
//! root writes it; neither the server nor the network-facing half can change it. An order outside of
//! it is refused, whoever signed and approved it.

mod file;
mod glob;
mod window;

pub use file::PolicyError;

use crate::clock;
use fettle_domain::Timestamp;
use fettle_domain::plan::{Manifest, PackageStep};
use fettle_domain::reason::Reason;
use fettle_plugin::{Candidate, ResourceLimits};
use fettle_wire::offer::{Offer, OfferAction};
use glob::Glob;
use std::time::Duration;
use window::Window;

/// How soon is looked again whether a person has confirmed.
const CONFIRMATION_LOOK: Duration = Duration::from_secs(5);

/// What the host allows. Without a file everything that is signed and approved is allowed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    /// Nothing is ever changed.
    pub(crate) read_only: bool,
    providers: Option<Vec<String>>,
    allowed_origins: Vec<Glob>,
    forbidden_packages: Vec<Glob>,
    confirm: Vec<Glob>,
    forbid_removals: bool,
    forbid_reboot: bool,
    allow_without_back_out: bool,
    windows: Vec<Window>,
    /// For everything that changes packages.
    pub(crate) limits: ResourceLimits,
}

/// What keeps a permitted order waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The host's own window opens then.
    Window(Timestamp),
    /// Somebody on the host has to confirm; looked at again then.
    Confirmation(Timestamp),
}

impl Hold {
    /// When to look again.
    pub(crate) fn until(self) -> Timestamp {
        match self {
            Hold::Window(at) | Hold::Confirmation(at) => at,
        }
    }
}

impl Policy {
    /// Whether this provider may be run on this host.
    pub(crate) fn allows_provider(&self, name: &str) -> bool {
        self.providers.as_ref().is_none_or(|listed| listed.iter().any(|one| one == name))
    }

    /// Whether the host may be rebooted.
    pub(crate) fn allows_reboot(&self) -> bool {
        !self.forbid_reboot
    }

    /// Whether a change may begin for which no former package files could be kept.
    pub(crate) fn allows_change_without_back_out(&self) -> bool {
        self.allow_without_back_out
    }

    /// Judges an order, as far as that can be told from the order alone.
    pub(crate) fn judge(&self, offer: &Offer, now: Timestamp) -> Result<(), Reason> {
        let refuse = |text: String| Err(Reason::new("order.host-policy", format!("this host's policy {text}")));
        if self.read_only {
            return refuse("is read-only".to_owned());
        }
        if offer.action == OfferAction::Deploy {
            self.judge_manifest(&offer.manifest)?;
        }
        let earliest = now.max(offer.window_start);
        match self.opening(earliest) {
            Some(opening) if opening <= offer.window_end => Ok(()),
            Some(opening) => refuse(format!(
                "allows changes only in its own windows, the next of which opens at {opening}, when the window of the order is over ({})",
                offer.window_end
            )),
            None => refuse("has windows that never open".to_owned()),
        }
    }

    /// Judges what would be changed; so a dry run already says what an order would be refused for.
    pub(crate) fn judge_manifest(&self, manifest: &Manifest) -> Result<(), Reason> {
        let refuse = |text: String| Err(Reason::new("order.host-policy", format!("this host's policy {text}")));
        if let Some(step) = self.first(manifest, &self.forbidden_packages) {
            return refuse(format!("forbids changes of the package {}", step.name));
        }
        match manifest.steps.iter().find(|step| step.to.is_none()) {
            Some(step) if self.forbid_removals => {
                refuse(format!("forbids removals, and this would remove {}", step.name))
            }
            _ => Ok(()),
        }
    }

    /// Whether each new version comes from an origin that is allowed. `offered` is what the host's own
    /// repositories offer now, as their signed indexes say: what the order claims does not count.
    pub(crate) fn judge_origins(&self, manifest: &Manifest, offered: &[Candidate]) -> Result<(), Reason> {
        if self.allowed_origins.is_empty() {
            return Ok(());
        }
        for step in &manifest.steps {
            let Some(to) = &step.to else { continue };
            let origins: Vec<&str> = offered
                .iter()
                .filter(|one| one.name == step.name && one.version == *to)
                .map(|one| one.origin.as_str())
                .collect();
            if !origins.iter().any(|origin| self.allowed_origins.iter().any(|allowed| allowed.matches(origin))) {
                let found =
                    if origins.is_empty() { "no repository of this host".to_owned() } else { origins.join(", ") };
                return Err(Reason::new(
                    "order.host-policy",
                    format!(
                        "this host's policy allows only packages of its listed origins; {} {to} comes from {found}",
                        step.name
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether origins have to be looked at.
    pub(crate) fn limits_origins(&self) -> bool {
        !self.allowed_origins.is_empty()
    }

    /// Why an order has to wait now, if so.
    pub(crate) fn hold(&self, offer: &Offer, confirmed: bool, now: Timestamp) -> Option<Hold> {
        if !confirmed && self.needs_confirmation(&offer.manifest) {
            return Some(Hold::Confirmation(now.after(CONFIRMATION_LOOK)));
        }
        match self.opening(now) {
            Some(opening) if opening <= now => None,
            Some(opening) => Some(Hold::Window(opening)),
            None => Some(Hold::Window(offer.window_end.after(Duration::from_millis(1)))),
        }
    }

    /// Whether somebody on the host has to confirm changes of these packages.
    pub(crate) fn needs_confirmation(&self, manifest: &Manifest) -> bool {
        self.first(manifest, &self.confirm).is_some()
    }

    /// What people should know who plan this change.
    pub(crate) fn note(&self, manifest: &Manifest) -> Option<Reason> {
        let step = self.first(manifest, &self.confirm)?;
        let text = format!(
            "this host's policy lets changes of {} wait until somebody there runs `fettle agent confirm`",
            step.name
        );
        Some(Reason::new("rehearsal.needs-confirmation", text))
    }

    fn first<'a>(&self, manifest: &'a Manifest, globs: &[Glob]) -> Option<&'a PackageStep> {
        manifest.steps.iter().find(|step| globs.iter().any(|glob| glob.matches(&step.name)))
    }

    /// The next moment, from `earliest` on, in which changes are allowed; `None` when there is none.
    fn opening(&self, earliest: Timestamp) -> Option<Timestamp> {
        if self.windows.is_empty() {
            return Some(earliest);
        }
        self.windows.iter().filter_map(|window| window.opening(earliest, &clock::time_zone())).min()
    }
}
