//! The packages as the real dpkg and rpm see them.

use super::*;
use std::process::Output;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A program that documents itself as far as packaging asks, and does nothing else.
const PROGRAM: &str = r##"#!/bin/sh
case $1 in
    man) echo ".TH fettle 1" >"$3/fettle.1"; echo ".TH fettle-agent 1" >"$3/fettle-agent.1" ;;
    completions) echo "# for $2" ;;
    *) echo "fettle 9.9" ;;
esac
"##;

fn make(folder: &Path) -> (PathBuf, PathBuf) {
    let program = folder.join("program");
    std::fs::write(&program, PROGRAM).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = folder.join("out");
    let text = |path: &Path| path.display().to_string();
    let (program, out) = (text(&program), text(&output));
    let arguments =
        ["--target", "x86_64-unknown-linux-gnu", "--binary", &program, "--version", "9.9", "--output", &out];
    run(&workspace(), &arguments).unwrap();
    (output.join("fettle_9.9_amd64.deb"), output.join("fettle-9.9-1.x86_64.rpm"))
}

/// `None`, with a line, where the command is not installed.
fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(name).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {name}: {error}");
            None
        }
    }
}

fn is_root() -> bool {
    tool("id", &["-u"]).is_some_and(|output| output.stdout.starts_with(b"0\n"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_same_binary_gives_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ((deb, rpm), (deb_again, rpm_again)) = (make(one.path()), make(two.path()));
    assert!(std::fs::read(deb).unwrap() == std::fs::read(deb_again).unwrap());
    assert!(std::fs::read(rpm).unwrap() == std::fs::read(rpm_again).unwrap());
}

#[test]
fn dpkg_reads_the_deb() {
    let folder = tempfile::tempdir().unwrap();
    let (deb, _) = make(folder.path());
    let deb = deb.display().to_string();
    let Some(info) = tool("dpkg-deb", &["--info", &deb]) else { return };
    let info = said(&info);
    for line in ["Package: fettle", "Version: 9.9", "Architecture: amd64", "postinst", "prerm", "postrm"] {
        assert!(info.contains(line), "{line}: {info}");
    }
    assert!(!info.contains("Depends"), "a script needs no library: {info}");
    let contents = said(&tool("dpkg-deb", &["--contents", &deb]).unwrap());
    for line in [
        "-rwxr-xr-x root/root",
        "./usr/bin/fettle\n",
        "./usr/libexec/fettle/start-agent\n",
        "./lib/systemd/system/fettle-agent.service\n",
        "./usr/share/man/man1/fettle-agent.1.gz\n",
        "./usr/share/bash-completion/completions/fettle\n",
    ] {
        assert!(contents.contains(line), "{line}: {contents}");
    }
    let tree = folder.path().join("tree");
    let extracted = tool("dpkg-deb", &["--extract", &deb, &tree.display().to_string()]).unwrap();
    assert!(extracted.status.success(), "{}", said(&extracted));
    assert_eq!(std::fs::read_to_string(tree.join("usr/bin/fettle")).unwrap(), PROGRAM);
}

#[test]
fn rpm_reads_the_rpm_and_its_digests_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (_, rpm) = make(folder.path());
    let path = rpm.display().to_string();
    let database = folder.path().join("db").display().to_string();
    let Some(checked) = tool("rpm", &["--dbpath", &database, "-Kv", &path]) else { return };
    let text = said(&checked);
    assert!(checked.status.success(), "{text}");
    for line in ["Header SHA256 digest: OK", "Payload SHA256 digest: OK", "MD5 digest: OK"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let query = "%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{LICENSE}\n[%{FILEMODES:perms} %{FILENAMES} %{FILEDIGESTS}\n]";
    let listed = said(&tool("rpm", &["--dbpath", &database, "-qp", "--qf", query, &path]).unwrap());
    assert!(listed.starts_with("fettle 9.9 1 x86_64 Apache-2.0 OR MIT\n"), "{listed}");
    assert!(listed.contains("-rwxr-xr-x /usr/bin/fettle "), "{listed}");
    assert!(listed.contains("/usr/lib/systemd/system/fettle-server.service"), "{listed}");
    // Installed, verified and removed by rpm itself; without its scripts, since there is no system around it.
    let root = folder.path().join("root").display().to_string();
    let act = |arguments: &[&str]| said(&tool("rpm", &[&["--root", root.as_str()], arguments].concat()).unwrap());
    if is_root() {
        let installed = act(&["--install", "--nodeps", "--noscripts", &path]);
        assert_eq!(std::fs::read_to_string(format!("{root}/usr/bin/fettle")).unwrap(), PROGRAM, "{installed}");
        let verified = act(&["--verify", "--nodeps", "fettle"]);
        assert!(verified.lines().all(|line| !line.contains("/usr/") && !line.contains("/etc/")), "{verified}");
        act(&["--erase", "--nodeps", "--noscripts", "fettle"]);
        assert!(!Path::new(&format!("{root}/usr/bin/fettle")).exists());
        assert!(!Path::new(&format!("{root}/usr/libexec/fettle")).exists(), "its own folders go with it");
    }
    let mut bytes = std::fs::read(&rpm).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    std::fs::write(&rpm, bytes).unwrap();
    let spoilt = tool("rpm", &["--dbpath", &database, "-K", &path]).unwrap();
    assert!(!spoilt.status.success(), "one changed bit is seen: {}", said(&spoilt));
}

#[test]
fn the_units_are_sound_and_as_closed_as_the_documents_say() {
    let root = workspace();
    let documents = std::fs::read_to_string(root.join("docs/install.md")).unwrap();
    for unit in ["fettle-agent.service", "fettle-server.service"] {
        let path = root.join("packaging/systemd").join(unit).display().to_string();
        let Some(rated) = tool("systemd-analyze", &["security", "--offline=true", "--no-pager", &path]) else { return };
        let text = said(&rated);
        let last = text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or(&text);
        let rating = last.rsplit(": ").next().unwrap().split_whitespace().next().unwrap();
        assert!(documents.contains(&format!("`{unit}` {rating}")), "docs/install.md: `{unit}` is rated {rating}");
        // That the programs are not installed here is no fault of the unit.
        let verified = said(&tool("systemd-analyze", &["verify", &path]).unwrap());
        let faults: Vec<&str> = verified
            .lines()
            .filter(|line| line.contains(unit) && !line.contains("is not executable") && !line.contains("Command 'man"))
            .collect();
        assert!(faults.is_empty(), "{faults:?}");
    }
}

#[test]
fn scripts_are_posix_shell() {
    let folder = workspace().join("packaging");
    for name in ["start-agent", "scripts", "openrc", "rc.d"] {
        let path = folder.join(name);
        let files: Vec<PathBuf> = if path.is_dir() {
            std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect()
        } else {
            vec![path]
        };
        for file in files {
            let checked = Command::new("sh").arg("-n").arg(&file).output().unwrap();
            assert!(checked.status.success(), "{}: {}", file.display(), said(&checked));
        }
    }
}

#[test]
fn a_program_tells_what_it_needs() {
    let mut program = b"\x7fELF....libc.so.6\0libgcc_s.so.1\0GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.17\0".to_vec();
    let needs = binary::Needs::of(&program);
    assert_eq!((needs.glibc, needs.libgcc), (Some((2, 34)), true));
    assert_eq!(needs.deb(), ["libc6 (>= 2.34)", "libgcc-s1 (>= 4.2)"]);
    assert_eq!(needs.rpm(), ["libc.so.6(GLIBC_2.34)(64bit)", "libgcc_s.so.1()(64bit)"]);
    program.drain(..1);
    assert_eq!(binary::Needs::of(&program), binary::Needs::default());
}

#[test]
fn versions_that_one_format_would_misread_are_refused() {
    for good in ["0.1.0", "1.2~rc1", "2026.11.25+git1"] {
        assert!(is_version(good), "{good}");
    }
    for bad in ["", "v1", "1.0-1", "1:2", "1 2", "1/2"] {
        assert!(!is_version(bad), "{bad}");
    }
    assert!(Asked::parse(&["--target"]).is_err() && Asked::parse(&["--colour", "red"]).is_err());
}
