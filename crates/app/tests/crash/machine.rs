//! A throwaway Debian machine whose power can be cut: everything that changes lies on a disk of its own (an
//! image with ext4 on a loop device), so that what was not synced is really lost, and all its processes live
//! in one process namespace.

use crate::support::{self, Testbed};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Bytes of a machine's disk; the file is sparse.
const DISK: u64 = 160 << 20;
/// The agent's folder, inside.
pub const STATE: &str = "/var/lib/fettle";

/// A machine, switched on or off.
pub struct Machine {
    folder: PathBuf,
    lower: PathBuf,
    on: Option<(Child, String)>,
}

impl Machine {
    /// A machine with an empty disk.
    pub fn new(folder: &Path, testbed: &Testbed) -> Self {
        fs::create_dir_all(folder).unwrap();
        let image = folder.join("image");
        fs::File::create(&image).unwrap().set_len(DISK).unwrap();
        support::run(
            Command::new("mkfs.ext4")
                .args(["-q", "-F", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
                .arg(&image),
        );
        let machine = Self { folder: folder.to_owned(), lower: testbed.folder.join("root"), on: None };
        machine.mount();
        machine
    }

    /// A machine whose disk is a copy of this image.
    pub fn of_image(folder: &Path, testbed: &Testbed, image: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        copy_image(image, &folder.join("image"));
        let machine = Self { folder: folder.to_owned(), lower: testbed.folder.join("root"), on: None };
        machine.mount();
        machine
    }

    fn mount(&self) {
        let (disk, root) = (self.folder.join("disk"), self.root());
        for path in [&disk, &root] {
            fs::create_dir_all(path).unwrap();
        }
        support::run(Command::new("mount").args(["-o", "loop"]).arg(self.folder.join("image")).arg(&disk));
        for name in ["upper", "work"] {
            fs::create_dir_all(disk.join(name)).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            self.lower.display(),
            disk.join("upper").display(),
            disk.join("work").display()
        );
        support::run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&root));
        let program = self.path("/usr/local/bin/fettle");
        if !program.exists() {
            fs::File::create(&program).unwrap();
        }
        support::run(Command::new("mount").arg("--bind").arg(crate::place().join("fettle")).arg(&program));
    }

    fn unmount(&self) {
        for path in [self.root(), self.folder.join("disk")] {
            support::run(Command::new("umount").arg("-R").arg(path));
        }
    }

    /// The machine's root as the test sees it.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// A path of the machine as the test sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root().join(inside.trim_start_matches('/'))
    }

    /// Switches it on: its first process waits and reaps.
    pub fn boot(&mut self) {
        // A boot id of its own, as every boot of a machine has.
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
        fs::write(self.path("/etc/boot-id"), boot_id).unwrap();
        let script = "mount --bind /etc/boot-id /proc/sys/kernel/random/boot_id && mount -t tmpfs tmpfs /run && mkdir -p /run/lock && : >/run/up && while :; do sleep 1000 & wait $!; done";
        let child = Command::new("unshare")
            .args(["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(format!("--root={}", self.root().display()))
            .args(["--", "/bin/sh", "-c", script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let first = || fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
        support::wait_for("the machine", || {
            let first = first();
            !first.is_empty() && Path::new(&format!("/proc/{first}/root/run/up")).exists()
        });
        self.on = Some((child, first()));
    }

    /// The start of a command that runs something on the machine that is on.
    pub fn entry(&self) -> Vec<String> {
        let (_, first) = self.on.as_ref().expect("the machine is on");
        let mut entry: Vec<String> =
            ["nsenter", "--target", first, "--mount", "--pid", "--root", "--wdns=/", "--", "/usr/bin/env", "-i"]
                .map(str::to_owned)
                .to_vec();
        let variables =
            ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "RUST_LOG=info"];
        entry.extend(variables.map(str::to_owned));
        entry
    }

    /// Runs a command on the machine.
    pub fn command(&self, argv: &[&str]) -> Command {
        let entry = self.entry();
        let mut command = Command::new(&entry[0]);
        command.args(&entry[1..]).arg("DEBIAN_FRONTEND=noninteractive").args(argv).stdin(Stdio::null());
        command
    }

    /// Runs it and wants success.
    pub fn inside(&self, argv: &[&str]) -> String {
        String::from_utf8_lossy(&support::run(&mut self.command(argv)).stdout).into_owned()
    }

    /// Ends every process of it at once.
    pub fn kill(&mut self) {
        let Some((mut child, first)) = self.on.take() else { return };
        let pid = first.parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        child.wait().unwrap();
    }

    /// One round of the agent.
    pub const AGENT_ONCE: [&str; 6] = ["fettle", "agent", "run", "--once", "--state", STATE];

    /// The agent's log.
    pub fn log(&self) -> fs::File {
        fs::File::options().create(true).append(true).open(self.folder.join("agent.log")).unwrap()
    }

    /// The end of the agent's log.
    pub fn logged(&self) -> String {
        let text = fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(60).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// One round of the agent to its end; its exit code.
    pub fn agent_once(&self) -> Option<i32> {
        let mut command = self.command(&Self::AGENT_ONCE);
        command.stdout(Stdio::null()).stderr(self.log()).status().unwrap().code()
    }

    /// What `fettle agent status` says.
    pub fn status(&self) -> serde_json::Value {
        let said = self.inside(&["fettle", "agent", "status", "--state", STATE, "--output", "json"]);
        serde_json::from_str(&said).unwrap()
    }

    /// Ends the agent alone; what it started goes on.
    pub fn kill_agent(&self) {
        for (_, pid) in self.processes().into_iter().filter(|(is_agent, _)| *is_agent) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Whether an agent runs.
    pub fn has_agent(&self) -> bool {
        self.processes().into_iter().any(|(is_agent, _)| is_agent)
    }

    /// All processes of the machine, and whether each is an agent.
    fn processes(&self) -> Vec<(bool, rustix::process::Pid)> {
        let (_, first) = self.on.as_ref().expect("the machine is on");
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = space(first);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(pid) = name.parse().ok().and_then(rustix::process::Pid::from_raw) else { continue };
            if space(&name) == ours {
                let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                found.push((command.trim() == "fettle", pid));
            }
        }
        found
    }

    /// The power goes and comes back: all processes end, what was not synced is lost, the disk's journal is
    /// replayed, the machine boots.
    pub fn cut_power(&mut self) {
        self.kill();
        // What has reached the disk so far: the image file as it is now, before the file system writes the rest.
        let (image, kept) = (self.folder.join("image"), self.folder.join("image.cut"));
        copy_image(&image, &kept);
        self.unmount();
        fs::rename(&kept, &image).unwrap();
        self.mount();
        self.boot();
    }

    /// Switches it off in order and copies its disk.
    pub fn save(mut self, image: &Path) {
        self.kill();
        self.unmount();
        copy_image(&self.folder.join("image"), image);
        fs::remove_dir_all(&self.folder).unwrap();
        self.folder = PathBuf::new();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        if self.folder.as_os_str().is_empty() {
            return;
        }
        for path in [self.root(), self.folder.join("disk")] {
            let _ = Command::new("umount").args(["-R", "-l"]).arg(path).stderr(Stdio::null()).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn copy_image(from: &Path, to: &Path) {
    support::run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to));
}

/// A folder in memory for the disks of machines: only what a machine itself syncs counts, and nobody waits for the
/// disk of the machine that runs the tests.
pub struct Place(PathBuf);

impl Place {
    /// Makes it; first ends what killed test runs left there.
    pub fn new(folder: &Path) -> Self {
        for left in fs::read_dir(folder.parent().unwrap()).into_iter().flatten().flatten() {
            if !Path::new("/proc").join(left.file_name()).exists() {
                unmount_below(&left.path());
                let _ = fs::remove_dir(left.path());
            }
        }
        fs::create_dir_all(folder).unwrap();
        support::run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=3g", "tmpfs"]).arg(folder));
        // A copy of the program: a build that goes on beside a long series does not change it.
        fs::copy(env!("CARGO_BIN_EXE_fettle"), folder.join("fettle")).unwrap();
        Self(folder.to_owned())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        unmount_below(&self.0);
        let _ = fs::remove_dir(&self.0);
    }
}

fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut left: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    left.retain(|path| Path::new(path).starts_with(folder));
    for path in left.into_iter().rev() {
        let _ = Command::new("umount").args(["-l", path]).status();
    }
}
