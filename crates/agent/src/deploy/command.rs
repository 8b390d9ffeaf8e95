//! Runs a command of the host: argument vector, named environment, no input, bounded output, a limit
//! of time after which its whole process group is ended.

use crate::clock::Stop;
use crate::disk::files;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What is kept of the output: its end.
const MOST_OUTPUT: u64 = 16 << 10;
/// How often the end of the process is looked for.
const STEP: Duration = Duration::from_millis(50);

/// As whom a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) group: u32,
}

/// Runs it; `Err` says in words what went wrong, with the end of the output. Output goes to a file of
/// `scratch`, not to a pipe: a child left in the background cannot make us wait.
pub(crate) fn run(argv: &[&str], limit: Duration, scratch: &Path) -> Result<String, String> {
    run_as(argv, limit, scratch, None, MOST_OUTPUT)
}

/// The same as another user, who then has no further groups, with so much of its output's end.
pub(crate) fn run_as(
    argv: &[&str],
    limit: Duration,
    scratch: &Path,
    user: Option<User>,
    most_output: u64,
) -> Result<String, String> {
    let shown = argv.join(" ");
    let (program, arguments) = argv.split_first().ok_or("no command")?;
    let log_path = scratch.join("command-output");
    let log = files::create(&log_path, 0o600).map_err(|error| error.to_string())?;
    let copies = log.try_clone().and_then(|out| Ok((out, log.try_clone()?)));
    let (out, err) = copies.map_err(|error| format!("cannot run {shown}: {error}"))?;
    let mut command = Command::new(program);
    if let Some(user) = user {
        command.gid(user.group).uid(user.id);
    }
    let child = command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot run {shown}: {error}"))?;
    let ended = wait(child, limit);
    let output = end_of(log, most_output);
    let _ = files::remove(&log_path);
    match ended {
        Ok(status) if status.success() => Ok(output),
        Ok(status) => Err(format!("{shown}: {status}{}", dash(&output))),
        Err(why) => Err(format!("{shown}: {why}{}", dash(&output))),
    }
}

fn dash(output: &str) -> String {
    let last: Vec<&str> = output.lines().rev().take(5).collect();
    if last.is_empty() {
        String::new()
    } else {
        format!(": {}", last.into_iter().rev().collect::<Vec<_>>().join(" | "))
    }
}

fn wait(mut child: Child, limit: Duration) -> Result<ExitStatus, String> {
    let end = Instant::now() + limit;
    let pause = Stop::default();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < end => {
                pause.wait(STEP);
            }
            Ok(None) => {
                if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait();
                return Err(format!("it was ended after {} seconds", limit.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn end_of(mut log: File, most: u64) -> String {
    let length = log.seek(SeekFrom::End(0)).unwrap_or(0);
    let mut bytes = Vec::new();
    if log.seek(SeekFrom::Start(length.saturating_sub(most))).is_ok() {
        let _ = log.take(most).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_a_command_ended() {
        let scratch = tempfile::tempdir().unwrap();
        let run = |argv: &[&str], limit| super::run(argv, limit, scratch.path());
        assert_eq!(run(&["echo", "a b"], Duration::from_secs(20)).unwrap(), "a b\n");
        let error = run(&["ls", "/no/such/place"], Duration::from_secs(20)).unwrap_err();
        assert!(error.contains("/no/such/place") && error.contains("exit status: 2"), "{error}");
        let error = run(&["sleep", "600"], Duration::from_millis(100)).unwrap_err();
        assert!(error.contains("ended after"), "{error}");
        assert!(run(&["/no/such/command"], Duration::from_secs(1)).unwrap_err().contains("cannot run"));
    }

    #[test]
    fn a_child_left_behind_does_not_make_us_wait() {
        let scratch = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        super::run(&["sh", "-c", "sleep 5 & echo done"], Duration::from_secs(60), scratch.path()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}
