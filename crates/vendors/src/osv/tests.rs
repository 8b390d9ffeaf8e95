use super::*;

fn read(text: &str) -> FeedContent {
    let document = Document { name: "r.json", bytes: text.as_bytes() };
    OsvDebian.read(document).unwrap()
}

fn lines(content: &FeedContent) -> Vec<String> {
    content
        .advisories
        .iter()
        .map(|a| {
            format!("{} {} {} {} {:?} {}", a.record, a.vulnerability, a.release, a.source, a.statement, a.severity)
        })
        .collect()
}

// The shape of the records that Debian's exporter writes (field names, ids, `upstream`, urgency).
const DEBIAN_CVE: &str = r#"{
  "schema_version": "1.7.3", "id": "DEBIAN-CVE-2024-58382", "modified": "2026-09-12T11:00:05.986201214Z",
  "upstream": ["CVE-2024-58382"], "details": "league/commonmark before 2.6.0 has polynomial time complexity.",
  "severity": [{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N"}, {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}],
  "affected": [
    {"package": {"name": "php-league-commonmark", "ecosystem": "Debian:12", "purl": "pkg:deb/debian/php-league-commonmark?arch=source"},
     "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}], "versions": ["2.3.9-1"],
     "ecosystem_specific": {"urgency": "unimportant"}},
    {"package": {"name": "php-league-commonmark", "ecosystem": "Debian:13"},
     "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.6.0-1"}]}]},
    {"package": {"name": "php-league-commonmark", "ecosystem": "Ubuntu:24.04:LTS"},
     "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}
  ]}"#;

#[test]
fn a_record_on_one_cve_brings_statements_and_facts() {
    let content = read(DEBIAN_CVE);
    assert_eq!(
        lines(&content),
        [
            "DEBIAN-CVE-2024-58382 CVE-2024-58382 bookworm php-league-commonmark Unfixed { introduced: None, disposition: Unimportant } unimportant",
            "DEBIAN-CVE-2024-58382 CVE-2024-58382 trixie php-league-commonmark Fixed { introduced: None, fixed: \"2.6.0-1\" } ",
        ]
    );
    let (id, facts) = &content.facts[0];
    assert_eq!((id.0.as_str(), facts.cvss.as_ref().unwrap().score), ("CVE-2024-58382", 7.5));
    assert_eq!(content.problems, []);
    assert!(content.advisories[0].modified.is_some());
}

#[test]
fn an_advisory_speaks_of_all_its_cves_and_only_of_them() {
    let body = r#""modified":"2024-01-01T00:00:00Z","affected":[{"package":{"name":"lua5.1","ecosystem":"Debian:6.0"},
        "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"5.1.4-5+deb6u1"}]}]}]"#;
    let names = |fields: &str| -> Vec<String> {
        let content = read(&format!(r#"{{"id":"DLA-47-1",{fields}{body}}}"#));
        assert_eq!(content.facts, []);
        content.advisories.iter().map(|a| format!("{} {:?} {}", a.vulnerability, a.aliases, a.release)).collect()
    };
    assert_eq!(names(r#""aliases":["CVE-2014-5461"],"#), ["CVE-2014-5461 [] squeeze"]);
    assert_eq!(
        names(r#""upstream":["CVE-2014-5462","CVE-2014-5461","rubbish"],"related":["CVE-2000-0001"],"#),
        ["CVE-2014-5461 [] squeeze", "CVE-2014-5462 [] squeeze"]
    );
    assert_eq!(names(r#""related":["CVE-2014-5461"],"#), ["CVE-2014-5461 [] squeeze"]);
    assert_eq!(names(r#""aliases":["GHSA-xxxx-yyyy-zzzz"],"#), ["DLA-47-1 [\"GHSA-xxxx-yyyy-zzzz\"] squeeze"]);
}

#[test]
fn events_become_intervals_whatever_their_order() {
    let stated = |events: &str| -> Vec<String> {
        let content = read(&format!(
            r#"{{"id":"CVE-2024-0001","modified":"2024-01-01T00:00:00Z","affected":[{{"package":{{"name":"app","ecosystem":"Debian:12"}},
                "ranges":[{{"type":"GIT","events":[{{"introduced":"abc"}}]}},{{"type":"ECOSYSTEM","events":{events}}}]}}]}}"#
        ));
        content
            .advisories
            .iter()
            .map(|a| format!("{:?}", a.statement))
            .chain(content.problems.iter().map(|p| p.message.clone()))
            .collect()
    };
    assert_eq!(
        stated(r#"[{"fixed":"2.5-1"},{"introduced":"2.0-1"},{"introduced":"0"},{"fixed":"1.10-1"}]"#),
        ["Fixed { introduced: None, fixed: \"1.10-1\" }", "Fixed { introduced: Some(\"2.0-1\"), fixed: \"2.5-1\" }",]
    );
    assert_eq!(
        stated(r#"[{"introduced":"1.0-1"},{"last_affected":"1.5-1"},{"introduced":"2.0-1"}]"#),
        [
            "LastAffected { introduced: Some(\"1.0-1\"), last: \"1.5-1\" }",
            "Unfixed { introduced: Some(\"2.0-1\"), disposition: Pending }",
        ]
    );
    assert_eq!(stated(r#"[{"introduced":"0"},{"fixed":"0"}]"#), ["NotAffected"]);
    assert_eq!(stated(r#"[{"fixed":"1"}]"#), ["the range has no `introduced`"]);
    assert!(stated(r#"[{"introduced":"1_0"}]"#)[0].contains("`1_0` is not a valid dpkg version"));
}

#[test]
fn versions_count_where_there_is_no_range() {
    let content = read(
        r#"{"id":"CVE-2024-0001","modified":"","affected":[{"package":{"name":"app","ecosystem":"Debian:12"},"versions":["1.0-1","1.0-2"]},
            {"package":{"name":"app","ecosystem":"Debian:12"}}]}"#,
    );
    assert_eq!(content.advisories.len(), 2);
    assert_eq!(
        content.advisories[0].statement,
        Statement::LastAffected { introduced: Some("1.0-1".into()), last: "1.0-1".into() }
    );
    assert_eq!(content.problems[0].place, "r.json: CVE-2024-0001/affected[1]");
}

#[test]
fn withdrawn_records_state_nothing() {
    let content = read(&DEBIAN_CVE.replacen('{', r#"{"withdrawn":"2026-01-01T00:00:00Z","#, 1));
    assert_eq!(content, FeedContent::default());
}

#[test]
fn bad_records_are_named_and_cut_ones_refused() {
    assert_eq!(read(r#"{"id":7}"#).problems.len(), 1);
    assert_eq!(read(r#"{"id":"a b"}"#).problems[0].place, "r.json: id");
    assert_eq!(
        read(&DEBIAN_CVE.replace("Debian:13", "Debian:99")).problems[0].message,
        "`Debian:99` is not a release this reader knows"
    );
    for end in [1, 50, 300, DEBIAN_CVE.len() - 1] {
        let document = Document { name: "r.json", bytes: &DEBIAN_CVE.as_bytes()[..end] };
        assert!(OsvDebian.read(document).is_err(), "{end}");
    }
}
