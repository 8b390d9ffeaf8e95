//! Fetch: every package file of the manifest into `<folder>/new`.

use super::download::{Wanted, bring_all};
use super::run::Program;
use super::session::{DPKG_DEB, Session};
use super::{fail, files, plan, text};
use fettle_domain::plan::PackageStep;
use fettle_domain::reason::Reason;
use fettle_plugin::{Applied, ErrorKind, PluginError, StepRequest};
use std::path::Path;

/// Does it; what is there already and whole is not fetched again.
pub(super) fn fetch(session: &Session<'_, '_>, request: &StepRequest) -> Result<Applied, PluginError> {
    let folder = plan::new_folder(request);
    files::make_folder(&folder)?;
    let wanted: Vec<Wanted> = request.manifest.steps.iter().filter_map(wanted).collect();
    bring_all(session, &wanted, &folder, &[])?;
    let mut notes = Vec::new();
    for step in request.manifest.steps.iter().filter(|step| step.from.is_some() && step.to.is_some()) {
        notes.extend(check_inside(session, request, step)?);
    }
    Ok(Applied { data: serde_json::json!({ "files": wanted.len() }), notes })
}

fn wanted(step: &PackageStep) -> Option<Wanted> {
    let file = step.file.as_ref()?;
    Some(Wanted { uri: file.uri.clone(), name: file.name.clone(), size: file.size, sha256: file.sha256.clone() })
}

/// Whether the package file is what its name promises.
pub(super) fn check_fields(
    session: &Session<'_, '_>,
    path: &Path,
    name: &str,
    version: &str,
    architecture: &str,
) -> Result<(), PluginError> {
    let show = Program::query(DPKG_DEB)
        .args(["--show", "--showformat=${Package} ${Version} ${Architecture}"])
        .args([path.to_string_lossy()]);
    let fields = session.run_outside(show)?.stdout;
    if fields.trim() == format!("{name} {version} {architecture}") {
        return Ok(());
    }
    let found = text::printable(fields.as_bytes());
    let message = format!("{} is `{found}`, not `{name} {version} {architecture}`", path.display());
    Err(fail(ErrorKind::Denied, message)
        .advise("The signed index and the file disagree: tell the repository's operator."))
}

/// Looks into a fetched file: is it the package it should be, and does its removal script look at the version
/// it is to be replaced by? Such a script may refuse the way back, which only the undo can show.
fn check_inside(
    session: &Session<'_, '_>,
    request: &StepRequest,
    step: &PackageStep,
) -> Result<Option<Reason>, PluginError> {
    let Some(file) = &step.file else { return Ok(None) };
    let path = plan::new_folder(request).join(&file.name);
    let to = step.to.as_deref().unwrap_or_default();
    check_fields(session, &path, &step.name, to, &step.architecture)?;
    let info = session
        .run_outside(Program::query(DPKG_DEB).args(["--info"]).args([path.to_string_lossy(), "prerm".into()]))?;
    let script = if info.success { info.stdout } else { String::new() };
    if !(script.contains("upgrade") && script.contains("compare-versions")) {
        return Ok(None);
    }
    let text = format!(
        "the removal script of {} {to} looks at the version that replaces it and may refuse the way back to {}",
        step.name,
        step.from.as_deref().unwrap_or_default()
    );
    Ok(Some(Reason::from_source("apt.undo-uncertain", text, format!("{} prerm", file.name))))
}
