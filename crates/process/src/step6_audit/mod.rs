//! Step 6: a deployment's own word is not proof (paper 3.6). [`prove`] compares an inventory made after
//! its end with exactly the manifest; [`findings_standing`] says how far the findings of a host may go
//! by what happened to its deployment. Whether a finding is closed is not decided here: only gathering
//! closes it, by the same inventory.

use fettle_domain::Timestamp;
use fettle_domain::machine::{DeploymentState, PlanState};
use fettle_domain::package::{InstallState, InstalledPackage};
use fettle_domain::plan::Manifest;
use fettle_domain::reason::Reason;
use std::collections::HashMap;
use std::time::Duration;

/// What comes of comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProofVerdict {
    /// What is missing for a proof.
    Awaited(Vec<Reason>),
    /// The inventory shows exactly what was promised.
    Proved(Vec<Reason>),
    /// It does not; each difference.
    Differs(Vec<Reason>),
}

/// What a host has, and when that was last known to be true.
#[derive(Debug, Clone, Copy)]
pub struct InventoryPicture<'a> {
    /// When the host last confirmed it (server's clock).
    pub confirmed_at: Timestamp,
    /// Everything installed.
    pub packages: &'a [InstalledPackage],
}

/// An inventory that shows something else may have been made before the end and arrived after it.
const STILL_UNDER_WAY: Duration = Duration::from_secs(120);
/// Differences that are told one by one.
const MOST_DIFFERENCES: usize = 50;

/// Compares a manifest (with `reverted`: its undo) with the host's inventory. `ended_at` is when the
/// server heard of the end: an inventory confirmed before says nothing.
pub fn prove(
    manifest: &Manifest,
    reverted: bool,
    ended_at: Timestamp,
    inventory: Option<InventoryPicture<'_>>,
) -> ProofVerdict {
    let Some(inventory) = inventory else {
        return ProofVerdict::Awaited(vec![Reason::new(
            "proof.no-inventory",
            "no complete inventory of this host is here",
        )]);
    };
    if inventory.confirmed_at <= ended_at {
        let text = format!(
            "the last inventory was confirmed at {}, the deployment ended at {ended_at}: a later one is awaited",
            inventory.confirmed_at
        );
        return ProofVerdict::Awaited(vec![Reason::new("proof.inventory-too-old", text)]);
    }
    let installed: HashMap<(&str, &str), &InstalledPackage> = inventory
        .packages
        .iter()
        .map(|installed| ((installed.package.name.as_str(), installed.package.architecture.as_str()), installed))
        .collect();
    let mut differences = Vec::new();
    for step in &manifest.steps {
        let wanted = if reverted { &step.from } else { &step.to };
        let found = installed.get(&(step.name.as_str(), step.architecture.as_str()));
        let text = match (wanted, found) {
            (None, None) => continue,
            (Some(wanted), Some(found))
                if *wanted == found.package.version && found.state == InstallState::Installed =>
            {
                continue;
            }
            (Some(wanted), Some(found)) if *wanted == found.package.version => {
                format!("{} {wanted} is there, but {}", step.name, state_word(found.state))
            }
            (Some(wanted), Some(found)) => {
                format!("{} should be {wanted}, the inventory shows {}", step.name, found.package.version)
            }
            (Some(wanted), None) => format!("{} should be {wanted}, the inventory does not show it", step.name),
            (None, Some(found)) => {
                format!("{} should be gone, the inventory shows {}", step.name, found.package.version)
            }
        };
        differences.push(Reason::new("proof.differs", text));
    }
    if differences.is_empty() {
        let text = format!(
            "the inventory confirmed at {} shows all {} packages exactly as planned",
            inventory.confirmed_at,
            manifest.steps.len()
        );
        return ProofVerdict::Proved(vec![Reason::new("proof.inventory", text)]);
    }
    if ended_at.until(inventory.confirmed_at) < STILL_UNDER_WAY {
        let text = format!(
            "the inventory confirmed at {} does not show it yet; it may have been made before the end: a later one is awaited",
            inventory.confirmed_at
        );
        return ProofVerdict::Awaited(vec![Reason::new("proof.inventory-too-early", text)]);
    }
    if differences.len() > MOST_DIFFERENCES {
        let more = differences.len() - MOST_DIFFERENCES;
        differences.truncate(MOST_DIFFERENCES);
        differences.push(Reason::new("proof.more", format!("and {more} more")));
    }
    ProofVerdict::Differs(differences)
}

fn state_word(state: InstallState) -> &'static str {
    match state {
        InstallState::Installed => "installed",
        InstallState::Unpacked => "only unpacked",
        InstallState::HalfConfigured => "half configured",
        InstallState::HalfInstalled => "half installed",
    }
}

/// How far a change has brought the findings of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingsStanding {
    /// The change has nothing to do with them (yet).
    Untouched,
    /// It is going to close them.
    Planned,
    /// It ran; the proof is gathering's.
    Remediated,
    /// It is not going to close them (any more).
    Released,
}

impl FindingsStanding {
    /// All, in order.
    pub const ALL: [FindingsStanding; 4] = [
        FindingsStanding::Untouched,
        FindingsStanding::Planned,
        FindingsStanding::Remediated,
        FindingsStanding::Released,
    ];

    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            FindingsStanding::Untouched => "untouched",
            FindingsStanding::Planned => "planned",
            FindingsStanding::Remediated => "remediated",
            FindingsStanding::Released => "released",
        }
    }

    /// The standing of this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.as_str() == text)
    }
}

/// How far the findings of a host should be, by its plan and deployment (absent: not made yet).
pub fn findings_standing(plan: PlanState, deployment: Option<DeploymentState>) -> FindingsStanding {
    use DeploymentState as D;
    use FindingsStanding as F;
    match deployment {
        Some(D::Succeeded) => F::Remediated,
        Some(D::Undone | D::Stuck | D::Failed | D::Withdrawn | D::Expired | D::NotApplicable | D::Undoing) => {
            F::Released
        }
        Some(D::Offered | D::Queued | D::Fetching | D::Ready | D::Applying | D::Rebooting | D::Checking) => F::Planned,
        None => match plan {
            PlanState::Draft => F::Untouched,
            PlanState::Proposed | PlanState::Approved | PlanState::Active => F::Planned,
            PlanState::Closed | PlanState::Rejected | PlanState::Superseded => F::Released,
        },
    }
}

#[cfg(test)]
mod tests;
