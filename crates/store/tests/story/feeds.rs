//! What publishers say, load by load: only what changed is written, what is gone is gone, and a
//! failed load leaves the last good data.

use fettle_domain::Timestamp;
use fettle_domain::advisory::{Advisory, Cvss, Epss, FeedName, Kev, Statement, VulnId, VulnerabilityFacts};
use fettle_domain::package::Ecosystem;
use fettle_store::Store;
use fettle_store::patches::advisory::{self, AdvisorySet};
use fettle_store::patches::feed::{self, FeedRecord};
use fettle_store::patches::vulnerability;
use fettle_testkit::on_both;

fn tracker() -> FeedName {
    FeedName("debian-tracker".into())
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + seconds * 1000)
}

fn statement(source: &str, vulnerability: &str, fixed: &str) -> Advisory {
    Advisory {
        feed: tracker(),
        record: vulnerability.into(),
        vulnerability: VulnId(vulnerability.into()),
        aliases: vec![],
        ecosystem: Ecosystem::Debian,
        release: "bookworm".into(),
        source: source.into(),
        statement: Statement::Fixed { introduced: None, fixed: fixed.into() },
        severity: "low".into(),
        note: String::new(),
        modified: None,
    }
}

/// A digest that tells contents apart; the server's is sha-256.
fn sets(advisories: Vec<Advisory>) -> Vec<AdvisorySet> {
    advisory::advisory_sets(advisories, |bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap()
}

fn replace(store: &Store, advisories: Vec<Advisory>) -> u64 {
    let sets = sets(advisories);
    store.write_blocking(move |c| advisory::advisory_replace(c, &tracker(), &sets)).unwrap()
}

fn kept(store: &Store) -> Vec<String> {
    let mut kept = Vec::new();
    let releases = ["bookworm".to_owned(), "trixie".to_owned()];
    store
        .read_blocking(|c| {
            advisory::advisory_each(c, &releases, |set| {
                kept.extend(set.iter().map(|a| format!("{} {}", a.source, a.vulnerability)))
            })
        })
        .unwrap();
    kept
}

#[test]
fn a_load_rewrites_only_what_changed() {
    on_both(|store| {
        let first =
            || vec![statement("app", "CVE-1", "2"), statement("app", "CVE-2", "3"), statement("lib", "CVE-2", "9")];
        assert_eq!(replace(store, first()), 2);
        assert_eq!(replace(store, first().into_iter().rev().collect()), 0, "the order in the document does not matter");
        assert_eq!(kept(store), ["app CVE-1", "app CVE-2", "lib CVE-2"]);
        let about =
            |name: &str| store.read_blocking(|c| advisory::advisory_of_vulnerability(c, &VulnId(name.into()))).unwrap();
        assert_eq!(about("CVE-2"), [statement("app", "CVE-2", "3"), statement("lib", "CVE-2", "9")]);

        assert_eq!(replace(store, vec![statement("app", "CVE-1", "2"), statement("new", "CVE-3", "1")]), 3);
        assert_eq!(kept(store), ["app CVE-1", "new CVE-3"]);
        assert_eq!(about("CVE-2"), []);
    });
}

#[test]
fn another_feeds_data_stays() {
    on_both(|store| {
        replace(store, vec![statement("app", "CVE-1", "2")]);
        let osv = FeedName("osv-debian".into());
        let other = sets(vec![Advisory { feed: osv.clone(), ..statement("app", "CVE-1", "5") }]);
        store.write_blocking(move |c| advisory::advisory_replace(c, &osv, &other)).unwrap();
        assert_eq!(replace(store, vec![]), 1);
        assert_eq!(kept(store), ["app CVE-1"]);
    });
}

#[test]
fn a_big_load_is_written_in_groups() {
    on_both(|store| {
        let many: Vec<Advisory> =
            (0..1_700).map(|n| statement(&format!("source-{n:05}"), &format!("CVE-2024-{}", n % 900), "2")).collect();
        assert_eq!(replace(store, many.clone()), 1_700);
        assert_eq!(kept(store).len(), 1_700);
        assert_eq!(replace(store, many), 0);
    });
}

fn facts(store: &Store, id: &str) -> VulnerabilityFacts {
    store.read_blocking(|c| vulnerability::vulnerability_get(c, &VulnId(id.into()))).unwrap().unwrap_or_default()
}

#[test]
fn every_feed_brings_its_part_and_sameness_is_no_change() {
    on_both(|store| {
        let merge = |facts: Vec<(&str, VulnerabilityFacts)>| {
            let facts: Vec<_> = facts.into_iter().map(|(id, facts)| (VulnId(id.into()), facts)).collect();
            store.write_blocking(move |c| vulnerability::vulnerability_merge(c, &facts)).unwrap()
        };
        let described = VulnerabilityFacts { description: "A flaw.".into(), ..Default::default() };
        let scored = |score| VulnerabilityFacts { epss: Some(Epss { score, percentile: 0.9 }), ..Default::default() };
        let kev = Kev { date_added: "2024-01-01".into(), due_date: "2024-01-22".into(), ransomware: true };
        let exploited = VulnerabilityFacts { kev: Some(kev.clone()), ..Default::default() };
        let cvss = Cvss { vector: "CVSS:3.1/AV:N".into(), score: 9.8 };
        assert_eq!(merge(vec![("CVE-1", described.clone()), ("CVE-2", described.clone())]), 2);
        assert_eq!(merge(vec![("CVE-1", scored(0.25))]), 1);
        assert_eq!(merge(vec![("CVE-1", exploited.clone())]), 1);
        assert_eq!(merge(vec![("CVE-1", VulnerabilityFacts { cvss: Some(cvss.clone()), ..Default::default() })]), 1);
        let whole = VulnerabilityFacts {
            description: "A flaw.".into(),
            cvss: Some(cvss),
            epss: Some(Epss { score: 0.25, percentile: 0.9 }),
            kev: Some(kev),
        };
        assert_eq!(facts(store, "CVE-1"), whole);

        assert_eq!(merge(vec![("CVE-1", described), ("CVE-1", exploited), ("CVE-1", scored(0.25))]), 0);
        assert_eq!(merge(vec![("CVE-1", scored(0.5)), ("CVE-9", scored(0.5))]), 2);
        let cleared =
            store.write_blocking(|c| vulnerability::vulnerability_clear_kev(c, &[VulnId("CVE-7".into())])).unwrap();
        assert_eq!((cleared, facts(store, "CVE-1").kev), (1, None));
        let all = store.read_blocking(vulnerability::vulnerability_all).unwrap();
        assert_eq!(all.len(), 3);
    });
}

#[test]
fn a_failed_load_is_noted_and_the_good_data_stays_named() {
    on_both(|store| {
        let record = FeedRecord {
            name: tracker(),
            source: "https://tracker.example/json".into(),
            etag: "\"1\"".into(),
            last_modified: String::new(),
            checked_at: at(0),
            loaded_at: None,
            advisories: 7,
            facts: 3,
            problems: "[]".into(),
            last_error: String::new(),
            generation: 0,
        };
        let loaded = record.clone();
        store.write_blocking(move |c| feed::feed_loaded(c, &loaded, true)).unwrap();
        store.write_blocking(|c| feed::feed_failed(c, &tracker(), at(60), "the document was cut")).unwrap();
        let kept = store.read_blocking(|c| feed::feed_get(c, &tracker())).unwrap().unwrap();
        assert_eq!((kept.checked_at, kept.loaded_at, kept.etag.as_str()), (at(60), Some(at(0)), "\"1\""));
        assert_eq!((kept.advisories, kept.last_error.as_str(), kept.generation), (7, "the document was cut", 1));

        store.write_blocking(|c| feed::feed_unchanged(c, &tracker(), at(120))).unwrap();
        let generation = store.read_blocking(feed::feed_generation).unwrap();
        assert_eq!(generation, 1, "nothing new: nobody is judged anew");
        store.write_blocking(move |c| feed::feed_loaded(c, &record, true)).unwrap();
        assert_eq!(store.read_blocking(feed::feed_generation).unwrap(), 2);
    });
}
