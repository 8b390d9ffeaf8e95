//! What `needrestart -b` says (its README.batch.md): where it is installed, it is asked rather than
//! re-invented. It knows interpreters, containers and an administrator's exceptions.

use std::collections::BTreeSet;

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NeedRestart {
    /// Units or init scripts that use replaced files.
    pub(crate) services: BTreeSet<String>,
    /// Sessions and containers that do, as it names them.
    pub(crate) others: Vec<String>,
    /// Why a reboot is pending, in words; empty when none is.
    pub(crate) reboot: Vec<String>,
}

/// Things it may name.
const MOST: usize = 2_000;

/// Reads its batch output; lines that are not known are passed over, as other versions have others.
pub(crate) fn read(text: &str) -> NeedRestart {
    let mut read = NeedRestart::default();
    let value = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).unwrap_or_default().trim().to_owned()
    };
    for line in text.lines().take(MOST) {
        match line.split_once(": ") {
            Some(("NEEDRESTART-SVC", name)) => {
                read.services.insert(name.trim().to_owned());
            }
            Some(("NEEDRESTART-SESS" | "NEEDRESTART-CONT", name)) => read.others.push(name.trim().to_owned()),
            _ => {}
        }
    }
    // 0: not known, 1: none pending, 2: the same version built anew, 3: another version.
    if matches!(value("NEEDRESTART-KSTA").as_str(), "2" | "3") {
        let (runs, expected) = (value("NEEDRESTART-KCUR"), value("NEEDRESTART-KEXP"));
        read.reboot.push(format!("needrestart: kernel {runs} runs, {expected} is expected"));
    }
    if value("NEEDRESTART-UCSTA") == "2" {
        let (runs, expected) = (value("NEEDRESTART-UCCUR"), value("NEEDRESTART-UCEXP"));
        read.reboot.push(format!("needrestart: processor microcode {runs} runs, {expected} is expected"));
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_batch_output_is_read() {
        let text = "NEEDRESTART-VER: 3.6\nNEEDRESTART-KCUR: 6.1.0-18-amd64\nNEEDRESTART-KEXP: 6.1.0-20-amd64\nNEEDRESTART-KSTA: 3\nNEEDRESTART-UCSTA: 2\nNEEDRESTART-UCCUR: 0x01\nNEEDRESTART-UCEXP: 0x02\nNEEDRESTART-SVC: nginx.service\nNEEDRESTART-SVC: cron\nNEEDRESTART-CONT: LXC web1\nNEEDRESTART-SESS: root @ session #28017\nNEEDRESTART-NEW: x\n";
        let read = read(text);
        assert_eq!(read.services, BTreeSet::from(["cron".to_owned(), "nginx.service".to_owned()]));
        assert_eq!(read.others, ["LXC web1", "root @ session #28017"]);
        assert_eq!(
            read.reboot,
            [
                "needrestart: kernel 6.1.0-18-amd64 runs, 6.1.0-20-amd64 is expected",
                "needrestart: processor microcode 0x01 runs, 0x02 is expected"
            ]
        );
        let calm = super::read("NEEDRESTART-VER: 3.6\nNEEDRESTART-KSTA: 1\nNEEDRESTART-UCSTA: 1\n");
        assert_eq!(calm, NeedRestart::default());
    }
}
