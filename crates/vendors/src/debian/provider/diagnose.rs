//! What apt's messages mean: apt says 100 to everything, so its words decide what kind of refusal it was.

use super::fail;
use super::run::Ended;
use fettle_plugin::{ErrorKind, PluginError};

/// One kind of trouble with a repository or the network.
struct Trouble {
    /// What apt's line contains.
    signs: &'static [&'static str],
    kind: ErrorKind,
    what: &'static str,
    advice: &'static str,
}

/// Most serious first: where several repositories fail, the most serious one names the error.
const TROUBLES: [Trouble; 10] = [
    Trouble {
        signs: &[
            "Hash Sum mismatch",
            "has unexpected size",
            "File has unexpected size",
            "Hashes of received file",
            "does not match the expected",
        ],
        kind: ErrorKind::Denied,
        what: "a repository delivers files that differ from its signed index (hash mismatch)",
        advice: "Somebody changed the files on the way, or the mirror is half updated. Try another mirror; if it stays, tell the repository's operator.",
    },
    Trouble {
        signs: &[
            "NO_PUBKEY",
            "EXPKEYSIG",
            "REVKEYSIG",
            "BADSIG",
            "public key is not available",
            "signatures were invalid",
            "GPG error",
            "OpenPGP signature verification failed",
        ],
        kind: ErrorKind::Denied,
        what: "a repository is signed by a key this host does not trust (wrong key)",
        advice: "Do not trust it blindly: ask the repository's operator for the key's fingerprint, then put the key where the source's Signed-By names it.",
    },
    Trouble {
        signs: &["is not signed", "is no longer signed"],
        kind: ErrorKind::Denied,
        what: "a repository is not signed (unsigned)",
        advice: "Use a signed repository or remove the source; unsigned packages are never installed.",
    },
    Trouble {
        signs: &["is expired", "Release file for", "Valid-Until"],
        kind: ErrorKind::Denied,
        what: "a repository's index has expired or is not valid yet",
        advice: "The mirror no longer updates, somebody replays an old state, or this host's clock is wrong: check the clock, then the mirror.",
    },
    Trouble {
        signs: &["does not have a Release file"],
        kind: ErrorKind::Denied,
        what: "a repository has no signed index (no Release file)",
        advice: "Check the suite's name in /etc/apt/sources.list and sources.list.d.",
    },
    Trouble {
        signs: &["No space left on device", "not enough free space", "don't have enough free space"],
        kind: ErrorKind::Unavailable,
        what: "the disk is full",
        advice: "Free some space (`apt-get clean` empties apt's cache) and try again.",
    },
    Trouble {
        signs: &["Could not get lock", "Unable to lock", "is another process using it", "Unable to acquire the dpkg"],
        kind: ErrorKind::Unavailable,
        what: "another package manager holds the lock",
        advice: "Wait for it to end, or end it by its own means; never delete the lock file.",
    },
    Trouble {
        signs: &["Permission denied", "are you root", "Read-only file system"],
        kind: ErrorKind::Denied,
        what: "apt may not do this here",
        advice: "The agent must run as root and the file system must be writable.",
    },
    Trouble {
        signs: &["dpkg was interrupted"],
        kind: ErrorKind::NotApplicable,
        what: "an earlier run of dpkg was interrupted",
        advice: "Finish it first: `dpkg --configure -a`.",
    },
    Trouble {
        signs: &[
            "Could not connect",
            "Unable to connect",
            "Could not resolve",
            "Temporary failure resolving",
            "Connection failed",
            "Connection timed out",
            "Failed to fetch",
            "404 ",
            "Unable to fetch",
            "Download Failed",
            "File not found",
        ],
        kind: ErrorKind::Unavailable,
        what: "a repository cannot be reached",
        advice: "Check the network, the proxy in /etc/apt/apt.conf.d and the source's address; the last good indexes stay in use.",
    },
];

/// The error that apt's output tells of, with what was tried in front.
pub(super) fn error_of(what: &str, ended: &Ended) -> PluginError {
    let mut found: Vec<(usize, &str)> = Vec::new();
    for line in ended.lines.iter().filter(|line| line.starts_with(['E', 'W', ' '])) {
        let sign = |trouble: &Trouble| trouble.signs.iter().any(|sign| line.contains(sign));
        if let Some(rank) = TROUBLES.iter().position(sign) {
            found.push((rank, line.trim()));
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    let Some(trouble) = found.first().and_then(|(rank, _)| TROUBLES.get(*rank)) else {
        let mut error = fail(ErrorKind::Failed, what).advise("Its last lines follow.");
        error.causes = ended.telling(12);
        return error;
    };
    let mut error = fail(trouble.kind, format!("{what}: {}", trouble.what)).advise(trouble.advice);
    error.causes = found.into_iter().map(|(_, line)| line.to_owned()).take(12).collect();
    error.causes.dedup();
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> PluginError {
        error_of(
            "refreshing",
            &Ended { lines: lines.iter().map(|line| (*line).to_owned()).collect(), ..Ended::default() },
        )
    }

    /// Lines of the real apt 2.6.
    #[test]
    fn each_trouble_has_its_own_words() {
        for (line, kind, word) in [
            (
                "E: Release file for http://h/dists/expired/InRelease is expired (invalid since 4346d).",
                ErrorKind::Denied,
                "expired",
            ),
            ("W: GPG error: http://h rogue InRelease: … NO_PUBKEY 925401BF0C18342A", ErrorKind::Denied, "wrong key"),
            ("E: The repository 'http://h unsigned Release' is not signed.", ErrorKind::Denied, "unsigned"),
            (
                "E: The repository 'http://h nosuch Release' does not have a Release file.",
                ErrorKind::Denied,
                "no Release file",
            ),
            ("E: Failed to fetch http://h/Packages.xz  Hash Sum mismatch", ErrorKind::Denied, "hash mismatch"),
            (
                "E: Failed to fetch http://h/InRelease  Could not connect to h:80 (h). - connect (111: Connection refused)",
                ErrorKind::Unavailable,
                "cannot be reached",
            ),
            (
                "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)",
                ErrorKind::Unavailable,
                "lock",
            ),
            ("E: Something new", ErrorKind::Failed, "refreshing"),
        ] {
            let error = told(&["Reading package lists...", line]);
            assert_eq!(error.kind, kind, "{line}");
            assert!(error.message.contains(word), "{line}: {error}");
            assert!(
                !error.advice.is_empty() && error.causes.iter().any(|cause| line.starts_with(cause.as_str())),
                "{line}"
            );
        }
    }

    #[test]
    fn the_most_serious_comes_first() {
        let error = told(&[
            "E: Failed to fetch http://h/InRelease  Could not resolve 'h'",
            "E: The repository 'x' is not signed.",
        ]);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.causes[0].contains("not signed"));
        assert_eq!(error.causes.len(), 2);
    }
}
