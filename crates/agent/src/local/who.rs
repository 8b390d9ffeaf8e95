//! Who sits at the host.

use crate::disk::files;

/// Name of the user who signed in: what the kernel kept at the sign-in, which `su` and `sudo` do not
/// change; else the user of this process.
pub(super) fn who() -> String {
    let passwd = files::text("/etc/passwd");
    let signed_in: Option<u32> = files::text("/proc/self/loginuid").trim().parse().ok();
    // All bits set: nobody signed in (a service, a container).
    match signed_in.filter(|id| *id != u32::MAX) {
        Some(id) => name_of(&passwd, id),
        None => name_of(&passwd, rustix::process::getuid().as_raw()),
    }
}

fn name_of(passwd: &str, id: u32) -> String {
    let wanted = id.to_string();
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == wanted).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("user {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_name_or_a_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\njoe:x:1000:1000::/home/joe:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000), "joe");
        assert_eq!(name_of(passwd, 4), "user 4");
        assert!(!who().is_empty());
    }
}
