//! The plan linter: a manifest comes from a host, so it is judged like any input before people are
//! asked to approve it. An error leaves the host out; a warning is told to the approver.

use fettle_domain::plan::{HostPlan, Job, PackageStep};
use fettle_domain::reason::Reason;
use fettle_domain::version::Scheme;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Packages of one host's manifest at most.
const MOST_STEPS: usize = 10_000;

/// Packages that no change may remove: without them the host cannot be repaired.
const NEVER_REMOVED: [&str; 12] = [
    "apt",
    "base-files",
    "bash",
    "coreutils",
    "dpkg",
    "init",
    "libc6",
    "login",
    "openssh-server",
    "sudo",
    "systemd",
    "util-linux",
];

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LintLevel {
    /// The approver should know.
    Warning,
    /// The host cannot be part of the plan.
    Error,
}

/// What the linter found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// How bad.
    pub level: LintLevel,
    /// What, in words.
    pub reason: Reason,
}

fn error(topic: &str, text: String) -> Lint {
    Lint { level: LintLevel::Error, reason: Reason::new(topic, text) }
}

fn warning(topic: &str, text: String) -> Lint {
    Lint { level: LintLevel::Warning, reason: Reason::new(topic, text) }
}

/// Judges one host's part of a plan against the job it answers.
pub fn lint_host(host: &HostPlan, job: &Job) -> Vec<Lint> {
    let manifest = &host.manifest;
    let mut lints = Vec::new();
    if manifest.steps.is_empty() {
        lints.push(error("lint.empty", "the manifest changes nothing".to_owned()));
    }
    if manifest.steps.len() > MOST_STEPS {
        lints.push(error(
            "lint.too-many-steps",
            format!("the manifest has {} packages, more than {MOST_STEPS}", manifest.steps.len()),
        ));
        return lints;
    }
    if manifest.ecosystem != job.ecosystem {
        lints.push(error(
            "lint.ecosystem",
            format!("the manifest is for {}, the job for {}", manifest.ecosystem, job.ecosystem),
        ));
    }
    if !is_sha256(&manifest.base_digest) {
        lints.push(error(
            "lint.base-digest",
            "the manifest does not say which installed set it was made for".to_owned(),
        ));
    }
    let mut seen = BTreeSet::new();
    for step in &manifest.steps {
        if !seen.insert((&step.name, &step.architecture)) {
            lints.push(error(
                "lint.twice",
                format!("{} ({}) stands in the manifest twice", step.name, step.architecture),
            ));
        }
        lints.extend(lint_step(step, job.allow_removals));
    }
    lints.extend(unanswered(host, job));
    lints
}

fn lint_step(step: &PackageStep, allow_removals: bool) -> Vec<Lint> {
    let name = &step.name;
    let mut lints = Vec::new();
    for text in [Some(name), Some(&step.architecture), step.from.as_ref(), step.to.as_ref()].into_iter().flatten() {
        if !is_plain(text) {
            let shown: String = text.chars().take(60).flat_map(char::escape_default).collect();
            lints.push(error("lint.text", format!("`{shown}` is no package name, architecture or version")));
            return lints;
        }
    }
    match (&step.from, &step.to) {
        (None, None) => lints.push(error("lint.no-versions", format!("{name} goes from nothing to nothing"))),
        (Some(from), None) if NEVER_REMOVED.contains(&name.as_str()) => {
            lints.push(error(
                "lint.removes-essential",
                format!("{name} {from} would be removed: the host could not be repaired without it"),
            ));
        }
        (Some(from), None) if !allow_removals => {
            lints.push(error(
                "lint.removes",
                format!("{name} {from} would be removed, which the change does not allow"),
            ));
        }
        (Some(from), None) => lints.push(warning("lint.removes", format!("{name} {from} is removed"))),
        (Some(from), Some(to)) if from == to => lints.push(warning("lint.same", format!("{name} stays at {to}"))),
        (Some(from), Some(to)) if Scheme::Dpkg.compare(to, from) == Ok(Ordering::Less) => {
            lints.push(warning("lint.downgrade", format!("{name} goes back from {from} to {to}")));
        }
        (_, Some(_)) => {}
    }
    if step.to.is_some() {
        match &step.file {
            None => lints.push(error("lint.no-file", format!("{name} has no package file"))),
            Some(file) if !is_sha256(&file.sha256) => {
                lints.push(error("lint.no-digest", format!("the package file of {name} has no sha-256")))
            }
            Some(file) if file.name.contains('/') || !is_plain(&file.name.replace('%', "")) => {
                lints.push(error("lint.file-name", format!("the package file of {name} has a name that is none")));
            }
            Some(_) => {}
        }
    }
    lints
}

/// Wanted packages that the manifest does not bring: the approver should know that less is done.
fn unanswered(host: &HostPlan, job: &Job) -> Vec<Lint> {
    let brought: BTreeSet<&str> =
        host.manifest.steps.iter().filter(|step| step.to.is_some()).map(|step| step.name.as_str()).collect();
    let missing: Vec<&str> =
        job.wanted.iter().map(|wanted| wanted.name.as_str()).filter(|name| !brought.contains(name)).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let shown = missing.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    vec![warning(
        "lint.not-brought",
        format!("{} of {} wanted packages are not changed: {shown}", missing.len(), job.wanted.len()),
    )]
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Printable, short, without anything a shell, a path or a page could take for more than text.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 300
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-' | b'~' | b':' | b'_'))
}
