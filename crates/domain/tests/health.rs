//! Checks as people write them: read, refused with the reason, and written back the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_domain::health::{HealthCheck, Least, Probe, Protocol, When, http_target};
use proptest::prelude::*;

fn check(text: &str) -> HealthCheck {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn why(text: &str) -> String {
    text.parse::<HealthCheck>().expect_err(text).why
}

#[test]
fn every_kind_is_read_and_written_back() {
    for text in [
        "unit=nginx.service",
        "unit=getty@tty1.service,when=always,name=the console",
        "port=tcp:443",
        "port=udp:127.0.0.1:53,within=5s",
        "port=tcp:[::1]:8080",
        "process=/usr/sbin/nginx",
        "process=/usr/sbin/nginx,at-least=3",
        "http=http://127.0.0.1:8080/health",
        "http=http://[::1]/a?b=c,d,status=204,contains=ok, all of it,host=shop.example.org,when=after,timeout=3s,within=120s,hold=20s,name=shop, the",
        "command=self-test",
        "log=/var/log/shop/error.log,absent=FATAL*disk",
        "log=/var/log/shop/error.log,present=ready,hold=3s",
        "journal=nginx.service,absent=segfault",
        "disk=/var,at-least=500M",
        "disk=/,at-least=10%",
        "disk=/srv,at-least=1001",
        "load=1.50",
        "load=0.05",
    ] {
        assert_eq!(check(text).to_string(), text);
        let json = serde_json::to_string(&check(text)).unwrap();
        assert_eq!(serde_json::from_str::<HealthCheck>(&json).unwrap(), check(text));
    }
}

#[test]
fn what_is_not_said_is_as_usual() {
    let http = check("http=http://127.0.0.1:8080/health");
    assert_eq!((http.name.as_str(), http.when), ("http http://127.0.0.1:8080/health", When::Both));
    assert_eq!((http.timeout_seconds, http.within_seconds, http.hold_seconds), (10, 60, 0));
    let log = check("log=/var/log/x,absent=FATAL");
    assert_eq!((log.when, log.hold_seconds), (When::After, 10), "what must not come needs time to come");
    assert_eq!(check("port=80").probe, Probe::Port { protocol: Protocol::Tcp, address: None, port: 80 });
    assert_eq!(check("load=2").probe, Probe::Load { at_most_hundredths: 200 });
    let Probe::Disk { at_least, .. } = check("disk=/var,at-least=2G").probe else { panic!() };
    assert_eq!(at_least, Least::Bytes { bytes: 2 << 30 });
    assert_eq!(check("http=http://localhost,within=5m").within_seconds, 300);
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    for (text, part) in [
        ("", "KIND=VALUE"),
        ("nginx.service", "KIND=VALUE"),
        ("shell=rm -rf /", "no kind `shell`; kinds are unit, port"),
        ("unit=-rf", "no name of a unit"),
        ("unit=a b", "no name of a unit"),
        ("unit=x.service,status=200", "no name of a unit"),
        ("port=0", "no port 0"),
        ("port=http", "[tcp:|udp:][ADDRESS:]PORT"),
        ("process=nginx", "absolute path"),
        ("process=/usr/../etc/x", "absolute path"),
        ("process=/usr/sbin/x,at-least=0", "absolute path"),
        ("http=https://127.0.0.1/", "https is not probed"),
        ("http=http://db.example.net/", "IP address or localhost"),
        ("http=http://127.0.0.1/a b", "IP address or localhost"),
        ("http=http://user@127.0.0.1/", "IP address or localhost"),
        ("http=http://127.0.0.1/#x", "IP address or localhost"),
        ("http=ftp://127.0.0.1/", "IP address or localhost"),
        ("http=http://127.0.0.1,status=99", "100 to 599"),
        ("http=http://127.0.0.1,host=a/b", "no host name"),
        ("http=http://127.0.0.1,contains=a\r\nX: y", "one line"),
        ("command=/bin/sh -c evil", "never written out"),
        ("command=", "never written out"),
        ("log=/var/log/x", "present=TEXT or absent=TEXT"),
        ("log=/var/log/x,present=a,absent=b", "present=TEXT or absent=TEXT"),
        ("log=/etc/shadow,present=root", "below /var/log"),
        ("log=/var/log/../../etc/shadow,present=root", "below /var/log"),
        ("log=/var/log/x,present=*", "a pattern is text"),
        ("log=/var/log/x,present=a,when=both", "only be for `when=after`"),
        ("journal=-x,present=a", "no name of a unit"),
        ("disk=/var", "at-least=SIZE"),
        ("disk=var,at-least=1G", "absolute path"),
        ("disk=/var,at-least=100%", "1 to 99"),
        ("disk=/var,at-least=99999999999T", "too much"),
        ("load=x", "no load"),
        ("load=1.234", "no load"),
        ("load=0", "0.01 to 1000"),
        ("port=80,within=2h", "no number"),
        ("port=80,within=3600", "0 to 1800 s"),
        ("port=80,timeout=0", "1 to 60 s"),
        ("port=80,hold=20m", "0 to 600 s"),
        ("port=80,when=never", "before, after, both or always"),
        ("port=80,when=after,when=before", "twice"),
        ("port=80,name=", "name is empty"),
    ] {
        assert!(why(text).contains(part), "{text}: {}", why(text));
    }
}

#[test]
fn targets_are_addresses() {
    let target = |url| http_target(url).map(|(address, port, path)| (address.to_string(), port, path));
    assert_eq!(target("http://localhost"), Some(("127.0.0.1".to_owned(), 80, "/")));
    assert_eq!(target("http://[::1]:81/x?y"), Some(("::1".to_owned(), 81, "/x?y")));
    for none in ["http://", "http://:80", "http://[::1", "http://1.2.3.4:99999", "http://1.2.3.4:0", "http://0x7f.1/"] {
        assert_eq!(target(none), None, "{none}");
    }
}

proptest! {
    /// Whatever comes in, nothing panics, and what is read is read the same once it is written.
    #[test]
    fn any_text_is_read_or_refused(kind in "[a-z]{3,7}|unit|port|http|log|disk|load|command|process|journal", rest in "[ -~]{0,60}") {
        if let Ok(read) = format!("{kind}={rest}").parse::<HealthCheck>() {
            prop_assert!(read.problem().is_none());
            prop_assert_eq!(read.to_string().parse::<HealthCheck>().unwrap(), read);
        }
    }
}
