//! A host of many packages: dpkg's own files, as big as they are on a real one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub struct Root {
    folder: tempfile::TempDir,
    packages: usize,
}

impl Root {
    pub fn new(packages: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin", folder.path().join("bin")).unwrap();
        for name in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let os = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n";
        std::fs::write(folder.path().join("etc/os-release"), os).unwrap();
        let root = Self { folder, packages };
        root.upgrade(0);
        root
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn dpkg(&self) -> PathBuf {
        self.path().join("var/lib/dpkg")
    }

    /// Package 100 is at this revision, all others at 1. As dpkg does: a new file in place of the old.
    pub fn upgrade(&self, revision: u32) {
        let mut status = String::new();
        for number in 0..self.packages {
            let revision = if number == 100 { revision } else { 1 };
            let _ = write!(
                status,
                "Package: lib-of-some-length-{number}\nStatus: install ok installed\nPriority: optional\nSection: libs\n\
                 Installed-Size: {}\nMaintainer: Some Team of Maintainers <team-{number}@packages.example>\n\
                 Architecture: amd64\nMulti-Arch: same\nSource: source-{}\nVersion: 1.{number}.0-{revision}+deb12u1\n\
                 Depends: libc6 (>= 2.36), libgcc-s1 (>= 3.0), libstdc++6 (>= 12), lib-of-some-length-{} (>= 1.0)\n\
                 Description: one of many packages of a host\n This text is as long as such texts are, that is, some lines\n \
                 of some eighty characters each, in which a package says what\n it is good for and why anybody has it installed at \
                 all; the\n real ones go on like this for a while and list features.\nHomepage: https://packages.example/{number}\n\n",
                number * 7,
                number / 3,
                number / 2
            );
        }
        let scratch = self.dpkg().join("status-new");
        std::fs::write(&scratch, status).unwrap();
        std::fs::rename(scratch, self.dpkg().join("status")).unwrap();
    }
}
