//! Running services: what listens or is a unit, which package it belongs to, and whether it still
//! uses files that were replaced. Read from `/proc`; without root only one's own processes show
//! their files, and nothing is guessed about the others.

mod process;
mod replaced;
#[cfg(test)]
mod replaced_tests;
mod sockets;

use crate::disk::files;
use fettle_wire::agent::Service;
pub(crate) use process::Holder;
use process::Process;
pub(crate) use replaced::{Use, UsedFile, uses};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

/// Says which package owns a file. The agent knows no package manager: the program hands this in.
pub trait PackageOwner: Send + Sync {
    /// Name of the package that owns `path` (absolute, as seen inside `root`).
    fn owner_of(&self, root: &Path, path: &Path) -> Option<String>;
}

/// Lists services; remembers owners, since asking costs a search through all packages' files.
#[derive(Default)]
pub(crate) struct ServiceScan {
    owners: BTreeMap<String, String>,
}

impl ServiceScan {
    /// Forgets owners: the packages changed.
    pub(crate) fn packages_changed(&mut self) {
        self.owners.clear();
    }

    /// All services of this root with their packages, sorted.
    pub(crate) fn services(&mut self, root: &Path, owner: Option<&dyn PackageOwner>) -> Vec<Service> {
        let mut used = BTreeMap::new();
        let mut owner_of = |path: &str| {
            let known = self.owners.get(path).or_else(|| used.get(path)).cloned();
            let name = known.unwrap_or_else(|| ask_owner(owner, root, path));
            used.insert(path.to_owned(), name.clone());
            name
        };
        let found = found(root).into_iter().map(|Found { mut service, replaced }| {
            if !service.executable.is_empty() {
                service.package = owner_of(&service.executable);
            }
            let outdated: BTreeSet<String> = replaced.iter().map(|path| owner_of(path)).collect();
            service.outdated_packages = outdated.into_iter().filter(|name| !name.is_empty()).collect();
            service
        });
        let services = found.collect();
        // Only owners of what runs now are kept, so that the table stays small.
        self.owners = used;
        services
    }
}

/// The owner of a file. A replaced library may have another number now (`libx.so.1.2` became
/// `libx.so.1.3`): then the owner of the shorter name that stayed (`libx.so.1`) is meant.
fn ask_owner(owner: Option<&dyn PackageOwner>, root: &Path, path: &str) -> String {
    let Some(owner) = owner else { return String::new() };
    let mut path = path;
    loop {
        if let Some(name) = owner.owner_of(root, Path::new(path)) {
            return name;
        }
        match path.rsplit_once('.') {
            Some((shorter, number)) if shorter.contains(".so") && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                path = shorter;
            }
            _ => return String::new(),
        }
    }
}

/// A service and the replaced files it still uses.
struct Found {
    service: Service,
    replaced: BTreeSet<String>,
}

/// All services of this root, sorted; packages are left empty.
pub(crate) fn running(root: &Path) -> Vec<Service> {
    found(root).into_iter().map(|found| found.service).collect()
}

fn found(root: &Path) -> Vec<Found> {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let scripts = InitScripts::read(&root);
    let processes = process::all(Path::new("/proc"), &root);
    let sockets = sockets::listening(Path::new("/proc/net"));
    combine(processes, &sockets, |executable| scripts.of(executable))
}

/// Processes of one unit and executable become one service; of a unit that does not listen, the
/// oldest process speaks for it, because its helpers come and go.
fn combine(processes: Vec<Process>, sockets: &BTreeMap<u64, String>, script: impl Fn(&str) -> String) -> Vec<Found> {
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    let mut units: BTreeMap<String, Unit> = BTreeMap::new();
    for process in processes {
        let unit = if process.unit.is_empty() { script(&process.executable) } else { process.unit.clone() };
        let listens: BTreeSet<String> =
            process.sockets.iter().filter_map(|inode| sockets.get(inode)).cloned().collect();
        if !unit.is_empty() {
            units.entry(unit.clone()).or_default().add(&process, !listens.is_empty());
        }
        if !listens.is_empty() {
            let group = groups.entry((unit, process.executable)).or_default();
            group.listens.extend(listens);
            group.replaced.extend(process.replaced);
        }
    }
    for (name, unit) in &units {
        if !unit.listens {
            groups.entry((name.clone(), unit.executable.clone())).or_default();
        }
    }
    let found = groups.into_iter().map(|((unit, executable), mut group)| {
        group.replaced.extend(units.get(&unit).map(|unit| unit.replaced.clone()).unwrap_or_default());
        let service = Service {
            unit,
            executable,
            package: String::new(),
            listens: group.listens.into_iter().collect(),
            restart_pending: !group.replaced.is_empty(),
            outdated_packages: Vec::new(),
        };
        Found { service, replaced: group.replaced }
    });
    found.collect()
}

#[derive(Default)]
struct Group {
    listens: BTreeSet<String>,
    replaced: BTreeSet<String>,
}

#[derive(Default)]
struct Unit {
    oldest: u32,
    executable: String,
    listens: bool,
    replaced: BTreeSet<String>,
}

impl Unit {
    fn add(&mut self, process: &Process, listens: bool) {
        if self.oldest == 0 || process.pid < self.oldest {
            self.oldest = process.pid;
            self.executable.clone_from(&process.executable);
        }
        self.listens |= listens;
        self.replaced.extend(process.replaced.iter().cloned());
    }
}

/// Init scripts by the executables they name: how a host without systemd restarts a service.
struct InitScripts(Vec<(String, String)>);

impl InitScripts {
    fn read(root: &Path) -> Self {
        if is_systemd(root) {
            return Self(Vec::new());
        }
        let Ok(entries) = std::fs::read_dir(root.join("etc/init.d")) else { return Self(Vec::new()) };
        let scripts = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().to_str()?.to_owned();
            let text = files::text(entry.path());
            (is_plain_name(&name) && text.starts_with("#!")).then_some((name, text))
        });
        let mut scripts: Vec<_> = scripts.collect();
        scripts.sort_unstable();
        Self(scripts)
    }

    /// The script that names this executable as a whole word.
    fn of(&self, executable: &str) -> String {
        let named = |text: &str| {
            text.split(|c: char| c.is_whitespace() || "\"'=;$(){}".contains(c)).any(|word| word == executable)
        };
        self.0
            .iter()
            .find(|(_, text)| !executable.is_empty() && named(text))
            .map_or_else(String::new, |(name, _)| name.clone())
    }
}

/// Addresses at which a TCP port listens, or a UDP port is bound.
pub(crate) fn bound(protocol: &str, port: u16) -> Vec<SocketAddr> {
    sockets::bound(Path::new("/proc/net"), protocol, port)
}

/// How many processes of this root run an executable, named as seen inside the root.
pub(crate) fn processes_of(root: &Path, executable: &str) -> usize {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    // `/sbin/x` may be `/usr/sbin/x` by a link of the folder.
    let real = root.join(executable.trim_start_matches('/')).canonicalize().ok();
    let real = real.and_then(|path| Some(format!("/{}", path.strip_prefix(&root).ok()?.display())));
    let is_it = |found: &str| found == executable || real.as_deref() == Some(found);
    process::all(Path::new("/proc"), &root).iter().filter(|process| is_it(&process.executable)).count()
}

/// Whether systemd is the init of this root.
pub(crate) fn is_systemd(root: &Path) -> bool {
    root.join("run/systemd/system").is_dir()
}

/// A name that can be given to an init system without meaning anything else.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 256
        && !name.starts_with(['-', '.'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@:\\+".contains(&byte))
}

/// The unit this process itself runs in; empty when none.
pub(crate) fn own_unit() -> String {
    process::unit_of(&files::text("/proc/self/cgroup"))
}

/// This program's own file.
pub(crate) fn own_executable() -> std::path::PathBuf {
    std::fs::read_link("/proc/self/exe").unwrap_or_default()
}

/// Lowest port that the kernel hands out by itself: ports from here on may differ after a restart.
pub(crate) fn first_ephemeral_port() -> u16 {
    files::text("/proc/sys/net/ipv4/ip_local_port_range")
        .split_whitespace()
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, unit: &str, executable: &str, sockets: &[u64], replaced: bool) -> Process {
        Process {
            pid,
            holder: if unit.is_empty() { Holder::Other } else { Holder::Unit },
            unit: unit.to_owned(),
            executable: executable.to_owned(),
            sockets: sockets.to_vec(),
            replaced: if replaced { BTreeSet::from([format!("{executable}.lib.so.1.2")]) } else { BTreeSet::new() },
        }
    }

    #[test]
    fn processes_become_services() {
        let sockets = BTreeMap::from([
            (1, "tcp 0.0.0.0:80".to_owned()),
            (2, "tcp [::]:80".to_owned()),
            (3, "tcp 127.0.0.1:25".to_owned()),
        ]);
        let services = combine(
            vec![
                process(90, "nginx.service", "/usr/sbin/nginx", &[1, 2, 77], false),
                process(91, "nginx.service", "/usr/sbin/nginx", &[1, 2], true),
                process(40, "cron.service", "/usr/sbin/cron", &[], false),
                process(41, "cron.service", "/bin/sh", &[], false),
                process(50, "", "/usr/sbin/exim4", &[3], false),
                process(60, "", "/bin/bash", &[], true),
            ],
            &sockets,
            |executable| if executable.ends_with("exim4") { "exim4".to_owned() } else { String::new() },
        );
        let shown: Vec<String> = services
            .iter()
            .map(|Found { service, .. }| {
                format!(
                    "{}|{}|{}|{}",
                    service.unit,
                    service.executable,
                    service.listens.join(","),
                    service.restart_pending
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "cron.service|/usr/sbin/cron||false",
                "exim4|/usr/sbin/exim4|tcp 127.0.0.1:25|false",
                "nginx.service|/usr/sbin/nginx|tcp 0.0.0.0:80,tcp [::]:80|true",
            ]
        );
    }

    #[test]
    fn the_owner_of_a_renamed_library_is_found_by_its_lasting_name() {
        struct Owner;
        impl PackageOwner for Owner {
            fn owner_of(&self, _root: &Path, path: &Path) -> Option<String> {
                (path == Path::new("/usr/lib/libx.so.1")).then(|| "libx1".to_owned())
            }
        }
        let ask = |path: &str| ask_owner(Some(&Owner), Path::new("/"), path);
        assert_eq!(ask("/usr/lib/libx.so.1.2.3"), "libx1");
        assert_eq!(ask("/usr/lib/liby.so.1.2.3"), "");
        assert_eq!(ask("/usr/sbin/daemon"), "");
    }

    #[test]
    fn init_scripts_are_found_by_the_executable_they_name() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/init.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ssh"), "#!/bin/sh\nstart-stop-daemon --exec /usr/sbin/sshd\n").unwrap();
        std::fs::write(folder.join("README"), "/usr/sbin/sshd\n").unwrap();
        let scripts = InitScripts::read(root.path());
        assert_eq!(scripts.of("/usr/sbin/sshd"), "ssh");
        assert_eq!(scripts.of("/usr/sbin/ss"), "");
        assert_eq!(scripts.of(""), "");
    }

    #[test]
    fn a_listening_socket_of_our_own_is_seen_with_its_executable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = format!("tcp {}", listener.local_addr().unwrap());
        let mut scan = ServiceScan::default();
        let services = scan.services(Path::new("/"), None);
        let own = services.iter().find(|service| service.listens.contains(&wanted)).expect("our socket");
        assert_eq!(Path::new(&own.executable), own_executable());
    }

    #[test]
    fn names_for_the_init_system_are_plain() {
        assert!(is_plain_name("getty@tty1.service") && is_plain_name(r"systemd-fsck@dev-disk\x2d1.service"));
        for bad in ["", "-f", "../x", "a b", "a/b", "a;b", "a\nb"] {
            assert!(!is_plain_name(bad), "{bad}");
        }
    }
}
