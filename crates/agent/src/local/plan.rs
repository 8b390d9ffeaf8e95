//! A dry run without the server: what exactly would happen, by the same provider and with the same
//! answer that a rehearsal gives.

use crate::clock::Stop;
use crate::deploy::rehearse::dry_run;
use crate::deploy::tasks::told;
use crate::inventory::Silent;
use crate::policy::{Policy, PolicyError};
use fettle_domain::package::Ecosystem;
use fettle_domain::plan::{Job, RehearsalOutcome, WantedPackage, WantedVersion};
use fettle_domain::reason::Reason;
use fettle_domain::version::Scheme;
use fettle_plugin::{Candidate, Provider, ProviderContext};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time to ask what the repositories offer.
const LIMIT: Duration = Duration::from_secs(600);
/// For the package manager's lock, while indexes are fetched.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// Topic of the note that indexes were not refreshed.
const INDEXES: &str = "rehearsal.indexes-as-they-are";
/// Packages that may be named.
const MOST: usize = 10_000;

/// What `fettle agent plan` was told.
pub struct PlanOptions {
    /// The host's file system.
    pub root: PathBuf,
    /// The host's own policy; need not exist.
    pub policy: PathBuf,
    /// The package managers.
    pub providers: Vec<Arc<dyn Provider>>,
    /// `NAME` or `NAME=VERSION`; empty: everything for which something newer is offered.
    pub packages: Vec<String>,
    /// Only what the security archives offer.
    pub security: bool,
    /// Fetch the indexes first (needs root).
    pub refresh: bool,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not a package as it can be named.
    #[error("`{0}` is no package: use NAME or NAME=VERSION")]
    Package(String),
    /// Too many.
    #[error("{0} packages: at most {MOST} can be planned at once")]
    Many(usize),
    /// Both at once.
    #[error("--security plans what the security archives offer: name no packages with it")]
    Both,
    /// Refreshing needs root.
    #[error("--refresh writes the package indexes: run it as root, or without --refresh for what they say now")]
    Root,
    /// The host's policy is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// No package manager.
    #[error("no package manager that this agent knows is at work here")]
    NoProvider,
}

/// Makes the dry run. Changes nothing (with `refresh`: nothing but indexes).
pub fn plan(options: &PlanOptions) -> Result<RehearsalOutcome, PlanError> {
    if options.security && !options.packages.is_empty() {
        return Err(PlanError::Both);
    }
    if options.packages.len() > MOST {
        return Err(PlanError::Many(options.packages.len()));
    }
    let policy = Policy::load(&options.policy)?;
    let allowed = |provider: &&Arc<dyn Provider>| policy.allows_provider(&provider.manifest().name);
    let provider = options.providers.iter().find(allowed).ok_or(PlanError::NoProvider)?;
    if options.refresh && provider.manifest().root && !rustix::process::geteuid().is_root() {
        return Err(PlanError::Root);
    }
    let ecosystem = provider.ecosystem();
    let mut refresh = options.refresh;
    let wanted = if options.packages.is_empty() {
        let context = ProviderContext {
            root: options.root.clone(),
            events: &Silent,
            deadline: Instant::now() + LIMIT,
            lock_patience: LOCK_PATIENCE,
            limits: policy.limits,
        };
        match provider.candidates(&context, refresh) {
            // Fetched a moment ago.
            Ok(offered) => {
                refresh = false;
                if options.security { security(offered, ecosystem) } else { everything(offered) }
            }
            Err(error) => return Ok(RehearsalOutcome::Impossible { reasons: told(&error) }),
        }
    } else {
        options.packages.iter().map(|text| wanted(text, ecosystem)).collect::<Result<_, _>>()?
    };
    if wanted.is_empty() {
        return Ok(RehearsalOutcome::NothingToDo);
    }
    let job = Job { ecosystem, wanted, allow_removals: false };
    let mut outcome = dry_run(&options.root, &options.providers, &policy, &Stop::default(), &job, refresh);
    if let RehearsalOutcome::Possible { notes, .. } = &mut outcome {
        notes.retain(|note| note.topic != INDEXES);
        if !options.refresh {
            notes
                .push(Reason::new(INDEXES, "the package indexes were taken as they are; --refresh fetches them first"));
        }
    }
    Ok(outcome)
}

fn wanted(text: &str, ecosystem: Ecosystem) -> Result<WantedPackage, PlanError> {
    let (name, version) = text.split_once('=').map_or((text, None), |(name, version)| (name, Some(version)));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
    // Debian policy 5.6.7; a name that begins with `-` would be an option.
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let right = version.is_none_or(|version| Scheme::of(ecosystem).validate(version).is_ok());
    if !begins || name.len() < 2 || name.len() > 200 || !name.chars().all(plain) || !right {
        return Err(PlanError::Package(text.chars().filter(|c| !c.is_control()).take(80).collect()));
    }
    let version = match version {
        Some(version) => WantedVersion::Exactly { version: version.to_owned() },
        None => WantedVersion::Candidate,
    };
    Ok(WantedPackage { name: name.to_owned(), version })
}

/// The newest that a security archive offers of each package: what another archive offers above it is
/// not asked for.
fn security(offered: Vec<Candidate>, ecosystem: Ecosystem) -> Vec<WantedPackage> {
    let mut newest: BTreeMap<String, String> = BTreeMap::new();
    for candidate in offered.into_iter().filter(|candidate| candidate.security) {
        let newer = newest.get(&candidate.name).is_none_or(|known| {
            Scheme::of(ecosystem).compare(known, &candidate.version).is_ok_and(|order| order == Ordering::Less)
        });
        if newer {
            newest.insert(candidate.name, candidate.version);
        }
    }
    newest
        .into_iter()
        .map(|(name, version)| WantedPackage { name, version: WantedVersion::Exactly { version } })
        .collect()
}

fn everything(offered: Vec<Candidate>) -> Vec<WantedPackage> {
    let names: std::collections::BTreeSet<String> = offered.into_iter().map(|candidate| candidate.name).collect();
    names.into_iter().map(|name| WantedPackage { name, version: WantedVersion::Candidate }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, version: &str, security: bool) -> Candidate {
        Candidate {
            name: name.into(),
            architecture: "amd64".into(),
            version: version.into(),
            source_version: version.into(),
            origin: String::new(),
            security,
        }
    }

    #[test]
    fn of_each_package_the_newest_security_version_is_wanted_and_no_other() {
        let offered = vec![
            candidate("a", "1.9", true),
            candidate("a", "1.10", true),
            candidate("a", "2", false),
            candidate("b", "3", false),
        ];
        let wanted = security(offered.clone(), Ecosystem::Debian);
        assert_eq!(
            wanted,
            [WantedPackage { name: "a".into(), version: WantedVersion::Exactly { version: "1.10".into() } }]
        );
        assert_eq!(everything(offered).len(), 2);
    }

    #[test]
    fn what_is_no_package_is_named() {
        for wrong in ["-o=1", "a", "Foo", "foo=", "foo=1 2", "foo;rm"] {
            assert!(
                matches!(wanted(wrong, Ecosystem::Debian), Err(PlanError::Package(text)) if text == wrong),
                "{wrong}"
            );
        }
        let exact = wanted("libssl3=3.0-1", Ecosystem::Debian).unwrap();
        assert_eq!(exact.version, WantedVersion::Exactly { version: "3.0-1".into() });
    }
}
