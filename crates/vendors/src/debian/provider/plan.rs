//! The manifest as this provider handles it: checked before use, its folders, and the proof.

use super::status::{Database, state_word};
use super::{described, fail, files, text};
use fettle_domain::package::{Ecosystem, InstallState};
use fettle_domain::plan::{Manifest, PackageStep};
use fettle_plugin::{ErrorKind, PluginError, StepRequest};
use std::collections::HashSet;
use std::path::PathBuf;

/// More steps than any upgrade of a whole release has.
const STEPS_CAP: usize = 20_000;

/// Refuses a manifest that does not have the form [`super::rehearse`] makes, before anything in it becomes
/// an argument or a path.
pub(super) fn check(manifest: &Manifest) -> Result<(), PluginError> {
    let wrong = |what: String| Err(fail(ErrorKind::InvalidInput, format!("the manifest is not valid: {what}")));
    if manifest.ecosystem != Ecosystem::Debian {
        return wrong(format!("its ecosystem is {}, this provider's is debian", manifest.ecosystem));
    }
    if manifest.steps.len() > STEPS_CAP {
        return wrong(format!("it has {} steps, more than {STEPS_CAP}", manifest.steps.len()));
    }
    let mut seen = HashSet::new();
    let mut names = HashSet::new();
    for step in &manifest.steps {
        let shown: String = step.name.chars().take(100).collect();
        if !text::is_name(&step.name) || !text::is_architecture(&step.architecture) {
            return wrong(format!("`{shown}` is no package name with architecture"));
        }
        if !seen.insert((&step.name, &step.architecture)) {
            return wrong(format!("{shown} appears twice"));
        }
        if step.from.is_none() && step.to.is_none() {
            return wrong(format!("{shown} has neither version"));
        }
        if let Some(bad) = step.from.iter().chain(&step.to).find(|version| !text::is_version(version)) {
            return wrong(format!("{shown}: `{}` is no version", bad.chars().take(100).collect::<String>()));
        }
        match (&step.to, &step.file) {
            (None, None) => {}
            (Some(_), Some(file)) if text::is_file_name(&file.name) && names.insert(&file.name) => {
                let hex =
                    file.sha256.len() == 64 && file.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if !hex || file.uri.starts_with('-') || file.uri.chars().any(char::is_whitespace) {
                    return wrong(format!("{shown}: its file has no usable address or sha-256"));
                }
            }
            _ => {
                return wrong(format!(
                    "{shown}: it must have one package file of its own exactly when it is installed"
                ));
            }
        }
    }
    Ok(())
}

/// Where new package files lie.
pub(super) fn new_folder(request: &StepRequest) -> PathBuf {
    request.folder.join("new")
}

/// Where the files of the former versions lie.
pub(super) fn old_folder(request: &StepRequest) -> PathBuf {
    request.folder.join("old")
}

/// One digest of a manifest, to tell this deployment's own leavings from others.
pub(super) fn digest(manifest: &Manifest) -> String {
    let bytes = serde_json::to_vec(manifest).unwrap_or_default();
    files::sha256_of(bytes.as_slice()).unwrap_or_default()
}

/// The steps that are not what they should be, each with the state found.
pub(super) fn verify(database: &Database, manifest: &Manifest, reverted: bool) -> Vec<(PackageStep, String)> {
    let wrong = |step: &&PackageStep| !is_reached(database, step, if reverted { &step.from } else { &step.to });
    manifest
        .steps
        .iter()
        .filter(wrong)
        .map(|step| (step.clone(), described(database, &step.name, &step.architecture)))
        .collect()
}

/// Whether the package is installed whole in this version, or, without a version, is not installed.
pub(super) fn is_reached(database: &Database, step: &PackageStep, version: &Option<String>) -> bool {
    match (database.find(&step.name, &step.architecture), version) {
        (None, None) => true,
        (Some(entry), Some(version)) => {
            entry.package.version == *version && entry.state == Some(InstallState::Installed)
        }
        _ => false,
    }
}

/// `tb-app: 2.0-1 unpacked instead of 2.0-1`, for messages.
pub(super) fn shown(wrong: &[(PackageStep, String)], reverted: bool) -> String {
    let one = |(step, found): &(PackageStep, String)| {
        let wanted = if reverted { &step.from } else { &step.to };
        format!("{} is {found} instead of {}", step.name, wanted.as_deref().unwrap_or(state_word(None)))
    };
    let mut text = wrong.iter().take(8).map(one).collect::<Vec<_>>().join(", ");
    if wrong.len() > 8 {
        text.push_str(&format!(" and {} more", wrong.len() - 8));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_domain::plan::PackageFile;

    fn manifest(change: impl Fn(&mut PackageStep)) -> Manifest {
        let mut step = PackageStep {
            name: "a".into(),
            architecture: "all".into(),
            from: Some("1".into()),
            to: Some("2".into()),
            asked: true,
            file: Some(PackageFile {
                name: "a_2_all.deb".into(),
                uri: "http://h/a".into(),
                size: 1,
                sha256: "0".repeat(64),
            }),
        };
        change(&mut step);
        Manifest {
            ecosystem: Ecosystem::Debian,
            steps: vec![step],
            base_digest: String::new(),
            download_bytes: 1,
            disk_bytes: 0,
        }
    }

    #[test]
    fn hostile_manifests_are_refused() {
        assert!(check(&manifest(|_| {})).is_ok());
        let file = |change: fn(&mut PackageFile)| move |step: &mut PackageStep| change(step.file.as_mut().unwrap());
        let bad: Vec<(&str, Manifest)> = vec![
            ("option as name", manifest(|s| s.name = "-oDir=/".into())),
            ("path as name", manifest(|s| s.name = "/etc/a".into())),
            ("option as version", manifest(|s| s.to = Some("-1".into()))),
            ("blank in version", manifest(|s| s.from = Some("1 2".into()))),
            ("architecture", manifest(|s| s.architecture = "../x".into())),
            ("no version", manifest(|s| (s.from, s.to, s.file) = (None, None, None))),
            ("no file", manifest(|s| s.file = None)),
            ("file of a removal", manifest(|s| s.to = None)),
            ("file outside", manifest(file(|f| f.name = "../../a.deb".into()))),
            ("short digest", manifest(file(|f| f.sha256 = "00".into()))),
            ("option as address", manifest(file(|f| f.uri = "-o".into()))),
        ];
        for (what, manifest) in bad {
            assert_eq!(check(&manifest).unwrap_err().kind, ErrorKind::InvalidInput, "{what}");
        }
        let mut twice = manifest(|_| {});
        twice.steps.extend(twice.steps.clone());
        assert!(check(&twice).is_err());
    }
}
