//! Processes as far as `/proc` shows them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

/// What matters of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// systemd unit of the system; empty when none.
    pub(super) unit: String,
    /// What it belongs to.
    pub(super) holder: Holder,
    /// Executable as seen inside the root; empty when it is not shown to us.
    pub(super) executable: String,
    /// Inodes of its sockets.
    pub(super) sockets: Vec<u64>,
    /// Its executable and the libraries it has mapped, as far as they were replaced or deleted.
    pub(super) replaced: BTreeSet<String>,
}

/// What a process belongs to, as far as its control group tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// A unit of the system.
    Unit,
    /// It is the init system itself.
    Init,
    /// A person's session, or a person's own services.
    Session,
    /// A container or virtual machine.
    Container,
    /// Nothing of these: started by hand, by an init script, by another program.
    Other,
}

/// Longest line of `maps` that is read, and most lines: a process can map as much as it likes.
const LONGEST_LINE: u64 = 8 << 10;
const MOST_LINES: usize = 100_000;
/// Most replaced files of one process that are named.
const MOST_REPLACED: usize = 256;
/// Most descriptors of one process that are looked at.
const MOST_DESCRIPTORS: usize = 65_536;

/// All processes whose root is this one. For `/` also those whose root is not shown to us.
pub(super) fn all(proc: &Path, root: &Path) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir(proc) else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| read(&proc.join(pid.to_string()), pid, root)).collect()
}

fn read(folder: &Path, pid: u32, root: &Path) -> Option<Process> {
    let whole_host = root == Path::new("/");
    match std::fs::read_link(folder.join("root")) {
        Ok(own) if own == root => {}
        Err(_) if whole_host => {}
        _ => return None,
    }
    let cgroup = crate::disk::files::text(folder.join("cgroup"));
    let unit = unit_of(&cgroup);
    let link = std::fs::read_link(folder.join("exe")).ok();
    // Kernel threads have no executable; neither have other users' processes for the unprivileged.
    if link.is_none() && unit.is_empty() {
        return None;
    }
    let link = link.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default();
    let (executable, deleted) = match link.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (link.as_str(), false),
    };
    Some(Process {
        pid,
        holder: holder_of(pid, &cgroup),
        unit,
        replaced: replaced_files(folder, root, executable, deleted),
        executable: inside(executable, root),
        sockets: sockets(folder),
    })
}

fn replaced_files(folder: &Path, root: &Path, executable: &str, deleted: bool) -> BTreeSet<String> {
    let mut replaced = mapped_replaced_files(folder, root);
    let executable = inside(executable, root);
    if deleted && is_lasting(&executable) {
        replaced.insert(executable);
    }
    replaced
}

/// The path as seen inside the root, without the names that dpkg gives a file for a moment.
fn inside(path: &str, root: &Path) -> String {
    let path = [".dpkg-new", ".dpkg-tmp"].iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path);
    match Path::new(path).strip_prefix(root) {
        Ok(rest) if !path.is_empty() => format!("/{}", rest.display()),
        _ => path.to_owned(),
    }
}

fn sockets(folder: &Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(folder.join("fd")) else { return Vec::new() };
    entries
        .flatten()
        .take(MOST_DESCRIPTORS)
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

fn mapped_replaced_files(folder: &Path, root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(file) = File::open(folder.join("maps")) else { return found };
    let mut reader = BufReader::with_capacity(16 << 10, file);
    let mut line = Vec::new();
    for _ in 0..MOST_LINES {
        line.clear();
        let mut limited = std::io::Read::take(&mut reader, LONGEST_LINE);
        match limited.read_until(b'\n', &mut line) {
            Ok(length) if length > 0 => {}
            _ => break,
        }
        if let Some(path) = replaced_code(&String::from_utf8_lossy(&line), root) {
            found.insert(path);
            if found.len() == MOST_REPLACED {
                break;
            }
        }
    }
    found
}

/// The file of a line of `maps`, as seen inside the root, when it is *code* of a regular file that is
/// gone. Data is left out on purpose: caches and databases are deleted while in use every day.
fn replaced_code(line: &str, root: &Path) -> Option<String> {
    let line = line.trim_end().strip_suffix(" (deleted)")?;
    let executable = line.split_whitespace().nth(1).is_some_and(|permissions| permissions.contains('x'));
    let path = inside(line.find('/').and_then(|at| line.get(at..))?, root);
    (executable && is_lasting(&path)).then_some(path)
}

/// Whether a path is a place where packages put files, not one of the kernel, of a moment or of people.
fn is_lasting(path: &str) -> bool {
    let elsewhere = [
        "/dev/",
        "/memfd:",
        "/SYSV",
        "/tmp/",
        "/var/tmp/",
        "/run/",
        "/var/run/",
        "/drm",
        "/i915",
        "/anon_hugepage",
        "/[aio]",
        "/home/",
        "/proc/",
    ];
    !elsewhere.iter().any(|prefix| path.starts_with(prefix))
}

fn group_path(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        // Unified hierarchy `0::/path`, or the named one of old systemd.
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    })
}

fn holder_of(pid: u32, cgroup: &str) -> Holder {
    let path = group_path(cgroup).unwrap_or_default();
    if pid == 1 || path == "/init.scope" {
        Holder::Init
    } else if path.starts_with("/user.slice/") {
        Holder::Session
    } else if ["/machine.slice/", "/docker/", "/lxc", "/kubepods", "/libpod_parent/"]
        .iter()
        .any(|at| path.starts_with(at))
    {
        Holder::Container
    } else if unit_of(cgroup).is_empty() {
        Holder::Other
    } else {
        Holder::Unit
    }
}

/// The system unit in `/proc/PID/cgroup`; users' own services and scopes are no services of the host.
pub(super) fn unit_of(cgroup: &str) -> String {
    let path = group_path(cgroup);
    let Some(path) = path.filter(|path| path.starts_with("/system.slice/")) else { return String::new() };
    // A service may delegate groups below its own; its unit is the first that is a service.
    path.split('/').find(|part| part.ends_with(".service")).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_from_the_control_group() {
        assert_eq!(unit_of("0::/system.slice/ssh.service\n"), "ssh.service");
        assert_eq!(
            unit_of("12:pids:/x\n1:name=systemd:/system.slice/system-getty.slice/getty@tty1.service\n"),
            "getty@tty1.service"
        );
        assert_eq!(unit_of("0::/system.slice/docker.service/init\n"), "docker.service");
        for none in
            ["0::/user.slice/user-0.slice/user@0.service/app.slice/x.service", "0::/", "0::/init.scope", "", "garbage"]
        {
            assert_eq!(unit_of(none), "", "{none}");
        }
    }

    #[test]
    fn holders_are_told_apart() {
        for (pid, cgroup, holder) in [
            (1, "0::/init.scope\n", Holder::Init),
            (1, "0::/\n", Holder::Init),
            (9, "0::/user.slice/user-1000.slice/session-3.scope", Holder::Session),
            (9, "0::/machine.slice/libpod-1.scope/container", Holder::Container),
            (9, "0::/docker/0123/init", Holder::Container),
            (9, "0::/system.slice/ssh.service", Holder::Unit),
            (9, "0::/system.slice/run-r1.scope", Holder::Other),
            (9, "0::/", Holder::Other),
        ] {
            assert_eq!(holder_of(pid, cgroup), holder, "{pid} {cgroup}");
        }
    }

    #[test]
    fn only_code_of_deleted_files_counts() {
        let code =
            "7f1c00000000-7f1c00100000 r-xp 00028000 08:01 131 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)\n";
        let replaced_code = |line: &str| replaced_code(line, Path::new("/"));
        assert_eq!(replaced_code(code).as_deref(), Some("/usr/lib/x86_64-linux-gnu/libssl.so.3"));
        for other in [
            code.replace("r-xp", "r--p"),
            code.replace(" (deleted)", ""),
            code.replace("/usr/lib/x86_64-linux-gnu/libssl.so.3", "/memfd:jit"),
            code.replace("/usr/lib/x86_64-linux-gnu/libssl.so.3", "/dev/zero"),
            code.replace("/usr/lib/x86_64-linux-gnu/libssl.so.3", "/SYSV00000000"),
            code.replace("/usr/lib/x86_64-linux-gnu/libssl.so.3", "/tmp/x.so"),
            String::new(),
        ] {
            assert_eq!(replaced_code(&other), None, "{other}");
        }
    }

    #[test]
    fn a_deleted_executable_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path().join("7");
        std::fs::create_dir_all(proc.join("fd")).unwrap();
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, proc.join(name)).unwrap();
        link("/srv/root", "root");
        link("/srv/root/usr/sbin/daemon (deleted)", "exe");
        link("socket:[99]", "fd/3");
        link("/dev/null", "fd/4");
        std::fs::write(proc.join("cgroup"), "0::/system.slice/daemon.service\n").unwrap();
        let found = all(folder.path(), Path::new("/srv/root"));
        assert_eq!(
            found,
            [Process {
                pid: 7,
                holder: Holder::Unit,
                unit: "daemon.service".to_owned(),
                executable: "/usr/sbin/daemon".to_owned(),
                sockets: vec![99],
                replaced: BTreeSet::from(["/usr/sbin/daemon".to_owned()]),
            }]
        );
        assert_eq!(all(folder.path(), Path::new("/")), []);
    }
}
