//! What a program needs of the system that it is installed on.

/// Needs of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Oldest glibc with all symbols that it names; `None` for a static program or a script.
    pub(super) glibc: Option<(u32, u32)>,
    /// It unwinds with the shared libgcc.
    pub(super) libgcc: bool,
}

const SYMBOL: &[u8] = b"GLIBC_";

impl Needs {
    /// Reads them off the names in the program: every version of a symbol stands there as text
    /// (`GLIBC_2.34`). A text of the program's own that looks like one could only make the need stricter.
    pub(super) fn of(program: &[u8]) -> Self {
        let mut needs = Self::default();
        if !program.starts_with(b"\x7fELF") || !contains(program, b"libc.so.6\0") {
            return needs;
        }
        needs.libgcc = contains(program, b"libgcc_s.so.1\0");
        for (at, _) in program.windows(SYMBOL.len()).enumerate().filter(|(_, window)| *window == SYMBOL) {
            let rest = program.get(at + SYMBOL.len()..).unwrap_or_default();
            let text: String =
                rest.iter().take(8).take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
            let mut numbers = text.split('.').map(|part| part.parse::<u32>().ok());
            if let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) {
                needs.glibc = needs.glibc.max(Some((major, minor)));
            }
        }
        needs
    }

    /// `Depends:` of a `.deb`.
    pub(super) fn deb(&self) -> Vec<String> {
        let libc = self.glibc.map(|(major, minor)| format!("libc6 (>= {major}.{minor})"));
        let libgcc = self.libgcc.then(|| "libgcc-s1 (>= 4.2)".to_owned());
        libc.into_iter().chain(libgcc).collect()
    }

    /// `Requires` of an `.rpm`.
    pub(super) fn rpm(&self) -> Vec<String> {
        let libc = self.glibc.map(|(major, minor)| format!("libc.so.6(GLIBC_{major}.{minor})(64bit)"));
        let libgcc = self.libgcc.then(|| "libgcc_s.so.1()(64bit)".to_owned());
        libc.into_iter().chain(libgcc).collect()
    }

    /// For a person.
    pub(super) fn shown(&self) -> String {
        match self.glibc {
            Some((major, minor)) => {
                format!("glibc {major}.{minor} or newer{}", if self.libgcc { ", libgcc" } else { "" })
            }
            None => "nothing (static)".to_owned(),
        }
    }
}

fn contains(program: &[u8], word: &[u8]) -> bool {
    program.windows(word.len()).any(|window| window == word)
}
