//! What is left to a person when an undo cannot be completed: the commands, ready to be typed.

use super::plan;
use super::session::Session;
use super::snapshot::Snapshot;
use super::status::{Entry, argument};
use fettle_domain::package::InstallState;
use fettle_plugin::{PluginError, StepRequest};
use std::path::Path;

/// The commands that bring back what is not back yet, and those that show whether all is well then.
pub(super) fn commands(session: &Session<'_, '_>, request: &StepRequest) -> Result<Vec<String>, PluginError> {
    let database = session.database()?;
    let root = match session.root.is_host() {
        true => String::new(),
        false => format!(" --root={}", quoted(&session.root.path)),
    };
    let mut commands = Vec::new();
    if database.journal || database.unfinished().next().is_some() {
        commands.push(format!("dpkg{root} --force-confold --configure -a"));
    }
    let snapshot = Snapshot::read(request).ok().flatten();
    let (mut files, mut removals) = (Vec::new(), Vec::new());
    for step in request.manifest.steps.iter().filter(|step| !plan::is_reached(&database, step, &step.from)) {
        let kept = snapshot.iter().flat_map(|snapshot| &snapshot.files).find(|file| file.package == step.name);
        match (&step.from, kept) {
            (Some(_), Some(kept)) => files.push(quoted(&plan::old_folder(request).join(&kept.file))),
            (Some(from), None) => {
                commands.push(format!("apt-get install --allow-downgrades {}={from}", step.name));
            }
            (None, _) if database.find(&step.name, &step.architecture).is_some_and(is_half) => {
                // dpkg removes only what is unpacked whole.
                let file = step.file.iter().map(|file| quoted(&plan::new_folder(request).join(&file.name)));
                commands.extend(file.map(|file| format!("dpkg{root} --unpack {file}")));
                removals.push(argument(&step.name, &step.architecture, &database.native));
            }
            (None, _) => removals.push(argument(&step.name, &step.architecture, &database.native)),
        }
    }
    if !files.is_empty() {
        // A script of the installed package that refuses is the usual cause: it can be looked at and set aside.
        commands.push(format!("dpkg{root} --force-downgrade --force-confold --install {}", files.join(" ")));
    }
    if !removals.is_empty() {
        commands.push(format!("dpkg{root} --purge {}", removals.join(" ")));
    }
    commands.push(format!("dpkg{root} --audit"));
    Ok(commands)
}

fn is_half(entry: &Entry) -> bool {
    entry.state == Some(InstallState::HalfInstalled)
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+~:%@=".contains(&byte);
    if text.bytes().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word() {
        assert_eq!(quoted(Path::new("/var/lib/a_1%3a2+b~1.deb")), "/var/lib/a_1%3a2+b~1.deb");
        assert_eq!(quoted(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
