//! What a foreign plug-in answers is input like any other: of the type that was asked for, within bounds, and
//! speaking for nobody but itself.

use crate::Applied;
use crate::digest::is_sha256;
use crate::protocol::Hello;
use crate::provider::Candidate;
use fettle_domain::advisory::{Advisory, FeedName, Statement, VulnerabilityFacts};
use fettle_domain::package::{Ecosystem, InstalledPackage};
use fettle_domain::plan::{Manifest, PackageFile, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_domain::version::Scheme;

/// Longest name of a package, a record, a release; longest version.
const NAME: usize = 256;
/// Longest note, description or sentence.
const TEXT: usize = 64 << 10;
/// Aliases of one statement.
const ALIASES: usize = 1000;
/// Steps of a manifest (the plan linter takes half of it).
const STEPS: usize = 20_000;
/// Reasons of one answer.
const REASONS: usize = 10_000;
/// Bytes of the data that an act leaves for its undo: it goes into the agent's journal.
const DATA: usize = 1 << 20;

type Checked = Result<(), String>;

/// The first line.
pub fn hello(hello: &Hello) -> Checked {
    let name = &hello.name;
    let good = !name.is_empty()
        && name.len() <= 40
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !good {
        return Err(format!("its name `{}` is not of the form [a-z][a-z0-9-]*", shown(name)));
    }
    word("its title", &hello.title, 200)?;
    match (&hello.feed, &hello.provider) {
        (Some(feed), None) => {
            if !(feed.url.starts_with("https://") || feed.url.starts_with("http://")) || feed.url.len() > 2000 {
                return Err(format!("its address `{}` is no http(s) URL", shown(&feed.url)));
            }
            word("its address", &feed.url, 2000)
        }
        (None, Some(provider)) => {
            if Ecosystem::parse(&provider.ecosystem).is_none() {
                let known: Vec<&str> = Ecosystem::ALL.into_iter().map(Ecosystem::as_str).collect();
                return Err(format!("its ecosystem `{}` is none of {}", shown(&provider.ecosystem), known.join(", ")));
            }
            if provider.commands.len() > 100 || provider.database_files.len() > 100 {
                return Err("it names more than 100 commands or database files".to_owned());
            }
            if let Some(command) = provider.commands.iter().find(|it| it.is_empty() || it.contains(['/', '\0'])) {
                return Err(format!("`{}` is no name of a command", shown(command)));
            }
            let leads_out =
                |file: &&String| file.is_empty() || file.split('/').any(|part| part == "..") || file.contains('\0');
            match provider.database_files.iter().find(leads_out) {
                Some(file) => Err(format!("`{}` is no path below the root", shown(file))),
                None => Ok(()),
            }
        }
        _ => Err("it is not exactly one of feed and provider".to_owned()),
    }
}

/// An inventory.
pub fn inventory(packages: &[InstalledPackage], ecosystem: Ecosystem, most: usize) -> Checked {
    if packages.len() > most {
        return Err(format!("{} packages, more than {most}", packages.len()));
    }
    for installed in packages {
        let package = &installed.package;
        if package.ecosystem != ecosystem {
            return Err(format!("{} is of {}, not of {ecosystem}", shown(&package.name), package.ecosystem));
        }
        word("a package's name", &package.name, NAME)?;
        for (what, text) in [
            ("version", &package.version),
            ("architecture", &package.architecture),
            ("source", &package.source),
            ("source version", &package.source_version),
        ] {
            word(&format!("the {what} of {}", package.name), text, NAME)?;
        }
        line(&format!("the origin of {}", package.name), &installed.origin, NAME)?;
    }
    Ok(())
}

/// Newer versions.
pub fn candidates(candidates: &[Candidate], most: usize) -> Checked {
    if candidates.len() > most {
        return Err(format!("{} candidates, more than {most}", candidates.len()));
    }
    for candidate in candidates {
        word("a candidate's name", &candidate.name, NAME)?;
        word("a candidate's version", &candidate.version, NAME)?;
        word("a candidate's architecture", &candidate.architecture, NAME)?;
        word("a candidate's source version", &candidate.source_version, NAME)?;
        line("a candidate's origin", &candidate.origin, NAME)?;
    }
    Ok(())
}

/// A digest of the installed set.
pub fn digest(text: &str) -> Checked {
    if is_sha256(text) { Ok(()) } else { Err(format!("`{}` is no sha-256", shown(text))) }
}

/// A dry run.
pub fn outcome(outcome: &RehearsalOutcome, ecosystem: Ecosystem) -> Checked {
    match outcome {
        RehearsalOutcome::Possible { manifest, notes } => {
            self::manifest(manifest, ecosystem)?;
            reasons(notes)
        }
        RehearsalOutcome::NothingToDo => Ok(()),
        RehearsalOutcome::Impossible { reasons: why } => reasons(why),
    }
}

fn manifest(manifest: &Manifest, ecosystem: Ecosystem) -> Checked {
    if manifest.ecosystem != ecosystem {
        return Err(format!("a manifest of {}, not of {ecosystem}", manifest.ecosystem));
    }
    if manifest.steps.len() > STEPS {
        return Err(format!("a manifest of {} steps, more than {STEPS}", manifest.steps.len()));
    }
    digest(&manifest.base_digest)?;
    for step in &manifest.steps {
        word("a package's name", &step.name, NAME)?;
        word("an architecture", &step.architecture, NAME)?;
        for version in step.from.iter().chain(&step.to) {
            word(&format!("a version of {}", step.name), version, NAME)?;
        }
        if let Some(file) = &step.file {
            package_file(file)?;
        }
    }
    Ok(())
}

fn package_file(file: &PackageFile) -> Checked {
    let name = &file.name;
    word("a package file's name", name, NAME)?;
    if name.contains('/') || name.starts_with('.') || name.starts_with('-') {
        return Err(format!("`{}` is no name of a package file: it leads elsewhere", shown(name)));
    }
    word(&format!("the address of {name}"), &file.uri, 4096)?;
    if file.uri.starts_with('-') {
        return Err(format!("the address of {name} begins with `-`"));
    }
    digest(&file.sha256)
}

/// What an act left.
pub fn applied(applied: &Applied) -> Checked {
    let size = serde_json::to_vec(&applied.data).map_or(usize::MAX, |bytes| bytes.len());
    if size > DATA {
        return Err(format!("{size} bytes of data for the undo, more than {DATA}"));
    }
    reasons(&applied.notes)
}

/// Sentences for people.
pub fn reasons(reasons: &[Reason]) -> Checked {
    if reasons.len() > REASONS {
        return Err(format!("{} reasons, more than {REASONS}", reasons.len()));
    }
    for reason in reasons {
        word("a reason's topic", &reason.topic, 200)?;
        line("a reason's text", &reason.text, TEXT)?;
        line("a reason's source", &reason.source, TEXT)?;
    }
    Ok(())
}

/// A statement of a feed; an error leaves this one out.
pub fn advisory(advisory: &Advisory, feed: &FeedName) -> Checked {
    if advisory.feed != *feed {
        return Err(format!("it speaks for the feed `{}`", shown(&advisory.feed.0)));
    }
    for (what, text) in [
        ("its record", &advisory.record),
        ("its vulnerability", &advisory.vulnerability.0),
        ("its release", &advisory.release),
        ("its source package", &advisory.source),
    ] {
        word(what, text, NAME)?;
    }
    if advisory.aliases.len() > ALIASES {
        return Err(format!("it has more than {ALIASES} aliases"));
    }
    advisory.aliases.iter().try_for_each(|alias| word("an alias", alias, NAME))?;
    line("its severity", &advisory.severity, NAME)?;
    text("its note", &advisory.note)?;
    let scheme = Scheme::of(advisory.ecosystem);
    let versions: Vec<&String> = match &advisory.statement {
        Statement::Fixed { introduced, fixed } => introduced.iter().chain([fixed]).collect(),
        Statement::LastAffected { introduced, last } => introduced.iter().chain([last]).collect(),
        Statement::Unfixed { introduced, .. } => introduced.iter().collect(),
        Statement::NotAffected | Statement::UnderInvestigation => Vec::new(),
    };
    versions.into_iter().try_for_each(|version| scheme.validate(version).map_err(|error| error.to_string()))
}

/// Facts about a flaw; an error leaves them out.
pub fn fact(vulnerability: &str, facts: &VulnerabilityFacts) -> Checked {
    word("its vulnerability", vulnerability, NAME)?;
    text("its description", &facts.description)?;
    if let Some(cvss) = &facts.cvss {
        line("its CVSS vector", &cvss.vector, NAME)?;
        if !(0.0..=10.0).contains(&cvss.score) {
            return Err(format!("its CVSS score {} is not between 0 and 10", cvss.score));
        }
    }
    if let Some(epss) = &facts.epss
        && !((0.0..=1.0).contains(&epss.score) && (0.0..=1.0).contains(&epss.percentile))
    {
        return Err("its EPSS score is not between 0 and 1".to_owned());
    }
    if let Some(kev) = &facts.kev {
        word("its KEV date", &kev.date_added, 10)?;
        word("its KEV due date", &kev.due_date, 10)?;
    }
    Ok(())
}

/// Not empty, one line, no blanks at its ends, not too long.
fn word(what: &str, text: &str, most: usize) -> Checked {
    if text.trim().is_empty() {
        return Err(format!("{what} is empty"));
    }
    line(what, text, most)
}

fn line(what: &str, text: &str, most: usize) -> Checked {
    if text.len() > most {
        return Err(format!("{what} has {} bytes, more than {most}", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} holds a control character: `{}`", shown(text)));
    }
    Ok(())
}

fn text(what: &str, text: &str) -> Checked {
    if text.len() > TEXT { Err(format!("{what} has {} bytes, more than {TEXT}", text.len())) } else { Ok(()) }
}

fn shown(text: &str) -> String {
    super::session::clean(text, 80)
}
