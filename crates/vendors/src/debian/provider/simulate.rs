//! Reads what apt says it would do: the steps of a simulation, what cannot be met, and where files come from.

use super::text;

/// One package in a simulation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Simulated {
    /// Name without architecture.
    pub name: String,
    /// Architecture as far as apt says it; of a removal only when it is a foreign one.
    pub architecture: Option<String>,
    /// Installed version.
    pub from: Option<String>,
    /// New version; none for a removal.
    pub to: Option<String>,
}

/// The steps of `apt-get -s`: one entry a package, however often it is mentioned.
pub(super) fn steps(output: &str) -> Vec<Simulated> {
    let mut steps: Vec<Simulated> = Vec::new();
    for step in output.lines().filter_map(step) {
        if !steps.iter().any(|known| {
            known.name == step.name
                && known.architecture == step.architecture
                && known.to.is_some() == step.to.is_some()
        }) {
            steps.push(step);
        }
    }
    steps
}

/// `Inst NAME [OLD] (NEW ORIGIN [ARCH]) …`, `Remv NAME [OLD] …`, `Purg NAME [OLD]`.
fn step(line: &str) -> Option<Simulated> {
    let (word, rest) = line.split_once(' ')?;
    let (full, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (name, suffix) = match full.split_once(':') {
        Some((name, architecture)) => (name, Some(architecture)),
        None => (full, None),
    };
    let from = rest.strip_prefix('[').and_then(|rest| rest.split(']').next()).map(str::to_owned);
    let step = match word {
        "Inst" => {
            let new = rest.split_once('(')?.1.split(')').next()?;
            let version = new.split(' ').next()?;
            let architecture = new.rsplit_once('[').and_then(|(_, rest)| rest.split(']').next());
            Simulated {
                name: name.to_owned(),
                architecture: architecture.or(suffix).map(str::to_owned),
                from,
                to: Some(version.to_owned()),
            }
        }
        "Remv" | "Purg" => Simulated { name: name.to_owned(), architecture: suffix.map(str::to_owned), from, to: None },
        _ => return None,
    };
    let version = |text: &Option<String>| text.as_deref().is_none_or(text::is_version);
    (text::is_name(&step.name) && version(&step.from) && version(&step.to)).then_some(step)
}

/// A relation that apt could not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unmet {
    /// In apt's words: `tb-app : Depends: tb-lib (>= 1.1) but 1.0-1 is to be installed`.
    pub text: String,
    /// The package that is missing or has the wrong version.
    pub on: String,
    /// Relation and version, as `(">=", "1.1")`.
    pub version: Option<(String, String)>,
    /// Whether another version of it would help (a dependency, not a conflict).
    pub positive: bool,
}

/// What stands under "The following packages have unmet dependencies".
pub(super) fn unmet(output: &str) -> Vec<Unmet> {
    let mut found = Vec::new();
    let mut package = String::new();
    let lines = output.lines().skip_while(|line| !line.contains("unmet dependencies")).skip(1);
    for line in lines.take_while(|line| line.starts_with(' ')).take(200) {
        let mut line = line.trim();
        if let Some((name, rest)) = line.split_once(" : ") {
            package = name.trim().to_owned();
            line = rest.trim();
        }
        let Some((kind, rest)) = line.split_once(": ") else { continue };
        let on = rest.split([' ', ':']).next().unwrap_or_default();
        let version = rest.split_once('(').and_then(|(_, rest)| rest.split_once(')')).and_then(|(inside, _)| {
            let (relation, version) = inside.split_once(' ')?;
            Some((relation.to_owned(), version.to_owned()))
        });
        found.push(Unmet {
            text: format!("{package} : {line}"),
            on: on.to_owned(),
            version,
            positive: matches!(kind, "Depends" | "PreDepends"),
        });
    }
    found
}

/// One line of `--print-uris`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uri {
    /// Where it comes from.
    pub uri: String,
    /// File name in apt's cache.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Lowercase hex sha-256, when the index has one.
    pub sha256: Option<String>,
}

/// `'URI' FILE SIZE SHA256:HEX`.
pub(super) fn uris(output: &str) -> Vec<Uri> {
    output.lines().filter_map(uri).collect()
}

fn uri(line: &str) -> Option<Uri> {
    let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let mut words = rest.split(' ');
    let (file, size) = (words.next()?, words.next()?.parse().ok()?);
    let sha256 = words.next().and_then(|hash| hash.strip_prefix("SHA256:")).map(str::to_ascii_lowercase);
    let sha256 = sha256.filter(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    (text::is_file_name(file) && uri.len() < 4096).then(|| Uri {
        uri: uri.to_owned(),
        file: file.to_owned(),
        size,
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lines of the real apt 2.6.
    const REAL: &str = "\
Reading package lists...
Remv tb-peer [1.0-1]
Inst perl-base [5.36.0-7+deb12u3] (5.36.0-7+deb12u4 Debian-Security:real [amd64])
Conf perl-base (5.36.0-7+deb12u4 Debian-Security:real [amd64])
Inst tb-abi-2 (1.0-1 TB-Security:stable-security [all])
Inst tb-order [9:1.0~rc1-1] (9:1.0-1 TB-Main:stable-updates [all]) []
Inst libc6:i386 [2.36-9] (2.36-9+deb12u1 Debian:12.9/oldstable, Debian-Security:12/oldstable-security [i386]) [libc6:i386 on libgcc-s1:i386 ]
Remv libold:i386 [1] [libx:amd64 ]
Inst evil;name [1] (2 X [all])
";

    #[test]
    fn reads_the_steps() {
        let seen: Vec<String> = steps(REAL)
            .iter()
            .map(|s| {
                format!("{} {:?} {:?} -> {:?}", s.name, s.architecture, s.from, s.to)
                    .replace("Some(", "")
                    .replace(')', "")
            })
            .collect();
        insta::assert_snapshot!(seen.join("\n"), @r#"
        tb-peer None "1.0-1" -> None
        perl-base "amd64" "5.36.0-7+deb12u3" -> "5.36.0-7+deb12u4"
        tb-abi-2 "all" None -> "1.0-1"
        tb-order "all" "9:1.0~rc1-1" -> "9:1.0-1"
        libc6 "i386" "2.36-9" -> "2.36-9+deb12u1"
        libold "i386" "1" -> None
        "#);
    }

    #[test]
    fn reads_what_cannot_be_met() {
        let output = "x\nThe following packages have unmet dependencies:\n tb-app : Depends: tb-lib (>= 1.1) but 1.0-1 is to be installed\n          Conflicts: tb-peer\n tb-broken : PreDepends: tb-does-not-exist but it is not installable\nE: Unable";
        let found = unmet(output);
        assert_eq!(found[0].text, "tb-app : Depends: tb-lib (>= 1.1) but 1.0-1 is to be installed");
        assert_eq!((found[0].on.as_str(), found[0].positive), ("tb-lib", true));
        assert_eq!(found[0].version, Some((">=".into(), "1.1".into())));
        assert_eq!((found[1].text.as_str(), found[1].positive), ("tb-app : Conflicts: tb-peer", false));
        assert_eq!((found[2].on.as_str(), &found[2].version), ("tb-does-not-exist", &None));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn reads_where_files_come_from() {
        let hash = "3cfc31c298ee8ae4df953452953356a88a0f6af0e0a7137ab2c02814baf7f4eb";
        let found = uris(&format!(
            "'http://h/pool/a_1%2b_all.deb' a_9%3a1.0-1_all.deb 772 SHA256:{hash}\n'http://h/b' ../b.deb 1 SHA256:{hash}\n'http://h/c' c.deb 1 MD5Sum:00\n"
        ));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].sha256.as_deref(), Some(hash));
        assert_eq!((found[0].file.as_str(), found[0].size), ("a_9%3a1.0-1_all.deb", 772));
        assert_eq!(found[1].sha256, None);
    }

    proptest! {
        #[test]
        fn any_output_is_read_without_harm(text in "\\PC{0,400}") {
            let text = format!("Inst {text}\nThe following packages have unmet dependencies:\n {text}\n'{text}' {text}");
            let _ = (steps(&text), unmet(&text), uris(&text));
        }
    }
}
