//! Hosts: what a machine says of itself.

use serde::{Deserialize, Serialize};

/// The operating system release (os-release(5)).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OsRelease {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`; empty on rolling releases.
    pub version_id: String,
    /// `VERSION_CODENAME`, such as `bookworm`: the release name in Debian's data.
    pub codename: String,
    /// `PRETTY_NAME`, for people.
    pub pretty_name: String,
}

/// The kernel: what runs and what would run after a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kernel {
    /// `uname -r`, such as `6.1.0-18-amd64`.
    pub running_release: String,
    /// Package version of the running kernel where the kernel tells it (`uname -v` on Debian);
    /// empty when it does not, as for a kernel that is not the distribution's.
    pub running_version: String,
    /// Release of the newest installed kernel image; empty where none is (containers).
    pub newest_installed_release: String,
    /// Package version of the newest installed kernel image.
    pub newest_installed_version: String,
}

/// How the server stands to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Management {
    /// An agent runs there.
    Agent,
    /// None runs there: its inventory is imported from files.
    Agentless,
    /// Seen by passive discovery only.
    Unmanaged,
}

/// By what machines are told apart, whatever they are called. Empty: not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MachineMarks {
    /// Digest of machine-id(5): drawn when the system is installed, copied with an image.
    pub machine_id: String,
    /// Digest of the firmware's product UUID: of the hardware or the virtual machine, not of the disk.
    pub product_uuid: String,
    /// MAC addresses, sorted.
    pub macs: Vec<String>,
    /// The name it gives itself.
    pub name: String,
}
