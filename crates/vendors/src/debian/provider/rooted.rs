//! Files of the host, or of another root directory. Paths in there are resolved *inside* that root,
//! so that a link in an image (`etc/motd -> /etc/shadow`) never leads to a file of the machine
//! the agent runs on.

use super::fail;
use fettle_plugin::{ErrorKind, PluginError};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An open root directory.
#[derive(Debug)]
pub(super) struct Rooted {
    /// Absolute path without links.
    pub path: PathBuf,
    handle: OwnedFd,
}

impl Rooted {
    /// Opens `root`, which must be a directory that has a dpkg database.
    pub fn new(root: &Path) -> Result<Self, PluginError> {
        let cannot = |error: io::Error| {
            fail(ErrorKind::InvalidInput, format!("cannot open the root directory {}: {error}", root.display()))
        };
        let path = std::fs::canonicalize(root).map_err(cannot)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = openat(CWD, &path, flags, Mode::empty()).map_err(|error| cannot(error.into()))?;
        Ok(Self { path, handle })
    }

    /// Whether this is the machine's own file system.
    pub fn is_host(&self) -> bool {
        self.path == Path::new("/")
    }

    fn open_with(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let relative = match path.trim_start_matches('/') {
            "" => ".",
            relative => relative,
        };
        let flags = flags | OFlags::CLOEXEC;
        Ok(openat2(&self.handle, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT)?)
    }

    /// Makes everything written to the file systems of the system's folders durable. dpkg syncs its own database and
    /// most of what it unpacks, but not configuration files, nor what scripts and triggers write: until this has
    /// returned, a power cut may leave them empty.
    pub fn sync(&self) -> io::Result<()> {
        let mut done = Vec::new();
        for folder in ["/", "/etc", "/usr", "/var", "/opt", "/srv", "/boot", "/boot/efi"] {
            let Ok(folder) = self.open(folder) else { continue };
            let device = folder.metadata()?.dev();
            if !done.contains(&device) {
                rustix::fs::syncfs(&folder)?;
                done.push(device);
            }
        }
        Ok(())
    }

    /// Opens a file for reading. Never blocks on a FIFO.
    pub fn open(&self, path: &str) -> io::Result<File> {
        Ok(File::from(self.open_with(path, OFlags::RDONLY | OFlags::NONBLOCK)?))
    }

    /// The real place of a path on the machine, every link on the way resolved inside the root.
    pub fn real(&self, path: &str) -> io::Result<PathBuf> {
        let handle = self.open_with(path, OFlags::PATH)?;
        std::fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd()))
    }

    /// The real place of a path whose last part is not followed when it is a link; its folder must exist.
    pub fn real_entry(&self, path: &str) -> io::Result<PathBuf> {
        let trimmed = path.trim_end_matches('/');
        let (folder, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        if matches!(name, "" | "." | "..") {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        Ok(self.real(folder)?.join(name))
    }

    /// The whole file, at most `cap` bytes; `None` when it is not there.
    pub fn read(&self, path: &str, cap: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > cap {
            return Err(io::Error::other(format!("{path} is larger than {cap} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Names in a folder, sorted; none when the folder is not there.
    pub fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let real = match self.real(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(real)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(folder.path().join("secret"), "outside").unwrap();
        std::fs::write(root.join("secret"), "inside").unwrap();
        symlink("/secret", root.join("etc/absolute")).unwrap();
        symlink("../../secret", root.join("etc/upwards")).unwrap();
        symlink("loop", root.join("etc/loop")).unwrap();
        let rooted = Rooted::new(&root).unwrap();
        for link in ["/etc/absolute", "etc/upwards"] {
            assert_eq!(rooted.read(link, 100).unwrap().unwrap(), b"inside");
            assert_eq!(rooted.real(link).unwrap(), rooted.path.join("secret"));
        }
        assert!(rooted.read("/etc/loop", 100).is_err());
        assert_eq!(rooted.read("/etc/none", 100).unwrap(), None);
        assert!(rooted.read("/secret", 3).is_err());
        assert_eq!(rooted.real_entry("/etc/absolute").unwrap(), rooted.path.join("etc/absolute"));
        assert!(rooted.real_entry("/etc/..").is_err());
    }
}
