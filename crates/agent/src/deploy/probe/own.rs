//! The administrator's own checks and commands: `checks.toml` in the host's folder of settings.
//!
//! ```toml
//! checks = [
//!   "http=http://127.0.0.1:8080/health,contains=ok,within=2m",
//!   "command=self-test,when=always",
//! ]
//!
//! [command.self-test]
//! argv = ["/usr/local/sbin/shop-self-test", "--quick"]
//! user = "shop"          # nobody when absent
//! ```
//!
//! Who may write this file may run commands; so it is refused unless only root may.

use crate::deploy::command::{self, User};
use crate::disk::files;
use crate::facts;
use fettle_domain::health::{HealthCheck, MOST_CHECKS};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE: &str = "checks.toml";
/// Cap of the file, of its commands, and of one command's words.
const LONGEST: u64 = 64 << 10;
const MOST_COMMANDS: usize = 64;
const MOST_WORDS: usize = 64;
/// Of a command's output the end is kept.
const MOST_OUTPUT: u64 = 16 << 10;
/// As whom commands run when the file does not say.
const NOBODY: &str = "nobody";

/// What the file says; empty without one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OwnChecks {
    pub(crate) checks: Vec<HealthCheck>,
    pub(super) commands: BTreeMap<String, OwnCommand>,
}

/// A command of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnCommand {
    /// Absolute path of the program, then its arguments: never a shell's line.
    argv: Vec<String>,
    /// Name of the user it runs as.
    #[serde(default)]
    user: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    checks: Vec<String>,
    #[serde(default)]
    command: BTreeMap<String, OwnCommand>,
}

impl OwnChecks {
    /// Where the file is.
    pub(crate) fn path(etc: &Path) -> PathBuf {
        etc.join(FILE)
    }

    /// Reads it; `Err` says what is wrong and what to do.
    pub(crate) fn load(etc: &Path) -> Result<Self, String> {
        let path = Self::path(etc);
        let Some(text) = read(&path)? else { return Ok(Self::default()) };
        let wrong = |why: String| format!("{}: {why}", path.display());
        let written: Written = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if written.checks.len() > MOST_CHECKS || written.command.len() > MOST_COMMANDS {
            return Err(wrong(format!("at most {MOST_CHECKS} checks and {MOST_COMMANDS} commands may stand in it")));
        }
        let mut checks: Vec<HealthCheck> = Vec::new();
        for text in &written.checks {
            let check: HealthCheck = text.parse().map_err(|error| wrong(format!("the check {error}")))?;
            if checks.iter().any(|other| other.name == check.name) {
                return Err(wrong(format!("two checks are called `{}`: give one another name", check.name)));
            }
            checks.push(check);
        }
        for (name, command) in &written.command {
            command.check().map_err(|why| wrong(format!("[command.{name}]: {why}")))?;
        }
        Ok(Self { checks, commands: written.command })
    }
}

impl OwnCommand {
    fn check(&self) -> Result<(), String> {
        match self.argv.first() {
            Some(program) if program.starts_with('/') => {}
            _ => return Err("`argv` begins with the absolute path of a program".to_owned()),
        }
        if self.argv.len() > MOST_WORDS || self.argv.iter().any(|word| word.contains('\0')) {
            return Err(format!("`argv` has more than {MOST_WORDS} words, or a zero byte"));
        }
        Ok(())
    }
}

/// The file, if only root (or who runs the agent) may have written it. Looked at is the open file, so
/// that it cannot be another one a moment later.
fn read(path: &Path) -> Result<Option<String>, String> {
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot open {}: {error}; it must be a plain file", path.display())),
    };
    let about = file.metadata().map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
    trusted(path, &about)?;
    if let Some(folder) = path.parent() {
        let about =
            std::fs::metadata(folder).map_err(|error| format!("cannot look at {}: {error}", folder.display()))?;
        trusted(folder, &about)?;
    }
    if !about.is_file() {
        return Err(format!("{} is no regular file", path.display()));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("{} is longer than {LONGEST} bytes", path.display()));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| format!("{} is not UTF-8 text", path.display()))
}

fn trusted(path: &Path, about: &std::fs::Metadata) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    if about.uid() != 0 && about.uid() != own {
        let text = "is not owned by root, so it is not obeyed: chown root it, or remove it";
        return Err(format!("{} {text}", path.display()));
    }
    // A folder with the sticky bit lets nobody replace another's file.
    let sticky = about.is_dir() && about.mode() & 0o1000 != 0;
    if about.mode() & 0o022 != 0 && !sticky {
        let text = "may be written by others than root, so it is not obeyed: chmod go-w it, or remove it";
        return Err(format!("{} {text}", path.display()));
    }
    Ok(())
}

/// Runs a command of the file, inside the root that is looked at.
pub(super) fn run(command: &OwnCommand, root: &Path, limit: Duration, scratch: &Path) -> Result<String, String> {
    let name = command.user.as_deref().unwrap_or(NOBODY);
    let user = user(root, name)?;
    let program = command.argv.first().map(String::as_str).unwrap_or_default();
    let place = root.join(program.trim_start_matches('/'));
    let about = std::fs::metadata(&place).map_err(|error| format!("cannot run {program}: {error}"))?;
    // Else who may write the program would act as its user.
    if user.id == 0 {
        trusted(&place, &about)?;
    }
    let own = rustix::process::geteuid();
    if !own.is_root() {
        if user.id != own.as_raw() {
            return Err(format!("cannot run {program} as {name}: the agent does not run as root"));
        }
        let argv: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        return command::run_as(&argv, limit, scratch, None, MOST_OUTPUT);
    }
    if facts::is_live(root) {
        let argv: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        return command::run_as(&argv, limit, scratch, Some(user), MOST_OUTPUT);
    }
    let spec = format!("--userspec={}:{}", user.id, user.group);
    let root = root.display().to_string();
    let mut argv = vec!["chroot", &spec, "--groups=", &root];
    argv.extend(command.argv.iter().map(String::as_str));
    command::run_as(&argv, limit, scratch, None, MOST_OUTPUT)
}

/// A user of the root's `/etc/passwd`.
fn user(root: &Path, name: &str) -> Result<User, String> {
    let table = files::text(root.join("etc/passwd"));
    let found = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (own, id, group) = (fields.next()?, fields.nth(1)?, fields.next()?);
        (own == name).then(|| Some(User { id: id.parse().ok()?, group: group.parse().ok()? }))?
    });
    found.ok_or_else(|| format!("there is no user `{name}` on this host: name one in checks.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        folder
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn checks_and_commands_are_read_and_mistakes_named() {
        let etc = folder(
            "checks = [\"unit=shop.service\", \"command=self-test,when=always\"]\n[command.self-test]\nargv = [\"/bin/true\"]\n",
        );
        let own = OwnChecks::load(etc.path()).unwrap();
        assert_eq!((own.checks.len(), own.commands.len()), (2, 1));
        assert_eq!(OwnChecks::load(&etc.path().join("none")).unwrap(), OwnChecks::default());
        for (text, part) in [
            ("checks = [\"shell=rm\"]", "no kind `shell`"),
            ("checks = [\"port=80\", \"port=80\"]", "two checks are called"),
            ("checks = 3", "line 1"),
            ("chekcs = []", "chekcs"),
            ("[command.x]\nargv = [\"sh\", \"-c\", \"x\"]", "[command.x]: `argv` begins with the absolute path"),
            ("[command.x]\nargv = []", "absolute path"),
            ("[command.x]\nargv = \"/bin/sh -c x\"", "line 2"),
        ] {
            let why = OwnChecks::load(folder(text).path()).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        let etc = folder("checks = []");
        let file = etc.path().join(FILE);
        assert!(OwnChecks::load(etc.path()).is_ok());
        mode(&file, 0o664);
        assert!(OwnChecks::load(etc.path()).unwrap_err().contains("chmod go-w"));
        mode(&file, 0o644);
        mode(etc.path(), 0o777);
        assert!(OwnChecks::load(etc.path()).unwrap_err().contains("may be written by others"));
        mode(etc.path(), 0o755);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(12_345), None).unwrap();
            assert!(OwnChecks::load(etc.path()).unwrap_err().contains("not owned by root"));
        }
        let real = etc.path().join("real");
        std::fs::rename(&file, &real).unwrap();
        std::os::unix::fs::symlink(&real, &file).unwrap();
        assert!(OwnChecks::load(etc.path()).unwrap_err().contains("must be a plain file"));
    }

    #[test]
    fn commands_run_as_their_user_and_nobody_else() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let run = |argv: &[&str], user: Option<&str>| {
            let command = OwnCommand {
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                user: user.map(str::to_owned),
            };
            super::run(&command, Path::new("/"), Duration::from_secs(20), scratch.path())
        };
        let id = |text: &str| user(Path::new("/"), text).unwrap().id.to_string();
        assert_eq!(run(&["/usr/bin/id", "-u"], None).unwrap().trim(), id("nobody"));
        assert_eq!(run(&["/usr/bin/id", "-G"], None).unwrap().split_whitespace().count(), 1, "no group but its own");
        assert_eq!(run(&["/usr/bin/id", "-u"], Some("root")).unwrap().trim(), "0");
        assert!(run(&["/usr/bin/id"], Some("no-such-user")).unwrap_err().contains("no user `no-such-user`"));
        let why = run(&["/bin/ls", "/no/such/place"], None).unwrap_err();
        assert!(why.contains("exit status: 2") && why.contains("/no/such/place"), "{why}");
        let program = scratch.path().join("program");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        mode(&program, 0o777);
        let why = run(&[program.to_str().unwrap()], Some("root")).unwrap_err();
        assert!(why.contains("may be written by others"), "{why}");
    }
}
