//! Findings from their opening to their return: events, counts, pages, and who was judged by what.

use fettle_domain::advisory::VulnId;
use fettle_domain::finding::{Priority, Verdict, VerdictState};
use fettle_domain::machine::{FindingEvent, FindingState};
use fettle_domain::reason::Reason;
use fettle_domain::*;
use fettle_store::page::Page;
use fettle_store::systems::finding::{self, FindingFilter, FindingRecord};
use fettle_store::systems::host::{self, HostFactsColumns};
use fettle_store::{Store, StoreError};
use fettle_testkit::on_both;
use std::collections::BTreeMap;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + seconds * 1000)
}

fn host_id(number: u8) -> HostId {
    HostId::new(1, [number; 10])
}

fn finding_id(number: u16) -> FindingId {
    let [high, low] = number.to_be_bytes();
    FindingId::new(2, [0, 0, 0, 0, 0, 0, 0, 0, high, low])
}

fn verdict(source: &str, number: u16, state: VerdictState) -> Verdict {
    Verdict {
        vulnerability: VulnId(format!("CVE-2024-{number:04}")),
        source: source.into(),
        source_version: "1.0-1".into(),
        packages: vec![source.into()],
        state,
        fixed_version: number.is_multiple_of(2).then(|| "1.0-2".into()),
        severity: "high".into(),
        reasons: vec![Reason::from_source("match.version-below-fix", "1.0-1 is below 1.0-2", "debian-tracker: CVE")],
    }
}

fn priority(number: u16) -> Priority {
    Priority { severity: u8::try_from(number % 6).unwrap(), exploit: u8::try_from(number % 4).unwrap() }
}

fn open(store: &Store, number: u16, host: u8, source: &str) {
    let (verdict, priority) = (verdict(source, number, VerdictState::Affected), priority(number));
    store
        .write_blocking(move |c| finding::finding_open(c, finding_id(number), host_id(host), &verdict, priority, at(0)))
        .unwrap();
}

fn step(store: &Store, number: u16, event: FindingEvent) -> Result<FindingState, StoreError> {
    let reasons = [Reason::new("test", "because")];
    store.write_blocking(move |c| {
        finding::finding_transition(c, finding_id(number), event, None, "test", &reasons, at(1))
    })
}

fn all(store: &Store, filter: &FindingFilter) -> Vec<FindingRecord> {
    let page = Page::first(finding::MOST_URGENT_FIRST, 10_000);
    store.read_blocking(|c| finding::finding_list(c, filter, &page)).unwrap().items
}

#[test]
fn a_finding_keeps_its_history_and_refuses_what_its_machine_refuses() {
    on_both(|store| {
        open(store, 2, 1, "app");
        assert_eq!(step(store, 2, FindingEvent::Plan), Ok(FindingState::Planned));
        assert_eq!(step(store, 2, FindingEvent::Remediate), Ok(FindingState::Remediated));
        assert!(matches!(step(store, 2, FindingEvent::Regress), Err(StoreError::Illegal(_))));
        let proof = Verdict {
            state: VerdictState::Fixed,
            source_version: "1.0-2".into(),
            ..verdict("app", 2, VerdictState::Fixed)
        };
        store
            .write_blocking(move |c| {
                finding::finding_transition(
                    c,
                    finding_id(2),
                    FindingEvent::Prove,
                    Some((&proof, priority(2))),
                    "gathering",
                    &proof.reasons,
                    at(2),
                )
            })
            .unwrap();
        let record = store.read_blocking(|c| finding::finding_get(c, finding_id(2))).unwrap();
        assert_eq!(
            (record.state, record.verdict, record.source_version.as_str()),
            (FindingState::Verified, VerdictState::Fixed, "1.0-2")
        );
        assert_eq!((record.first_seen, record.changed_at), (at(0), at(2)));
        let events = store.read_blocking(|c| finding::finding_events(c, finding_id(2))).unwrap();
        let told: Vec<(&str, &str)> = events.iter().map(|event| (event.event.as_str(), event.actor.as_str())).collect();
        assert_eq!(told, [("open", "gathering"), ("plan", "test"), ("remediate", "test"), ("prove", "gathering")]);
    });
}

#[test]
fn one_flaw_in_one_package_of_a_host_is_one_finding() {
    on_both(|store| {
        open(store, 2, 1, "app");
        let (again, rank) = (verdict("app", 2, VerdictState::Affected), priority(2));
        let refused =
            store.write_blocking(move |c| finding::finding_open(c, finding_id(900), host_id(1), &again, rank, at(1)));
        assert!(matches!(refused, Err(StoreError::Duplicate { .. })), "{refused:?}");
        open(store, 902, 2, "app");
        assert_eq!(all(store, &FindingFilter::default()).len(), 2);
    });
}

#[test]
fn pages_hold_every_finding_once_most_urgent_first() {
    on_both(|store| {
        (0..60).for_each(|number| {
            open(store, number, u8::try_from(number % 3).unwrap(), if number < 30 { "app" } else { "lib" })
        });
        step(store, 3, FindingEvent::Prove).unwrap();
        step(store, 4, FindingEvent::Plan).unwrap();
        let whole = all(store, &FindingFilter::default());
        assert_eq!(whole.len(), 59, "what is proved gone is not in the list");
        assert!(whole.windows(2).all(|pair| pair[0].priority >= pair[1].priority));
        let (mut paged, mut page) = (Vec::new(), Page::first(finding::MOST_URGENT_FIRST, 7));
        loop {
            let listed = store.read_blocking(|c| finding::finding_list(c, &FindingFilter::default(), &page)).unwrap();
            paged.extend(listed.items);
            page.after = listed.next;
            if page.after.is_none() {
                break;
            }
        }
        assert_eq!(paged, whole);
    });
}

#[test]
fn filters_narrow_to_exactly_what_they_say() {
    on_both(|store| {
        (0..48).for_each(|number| {
            open(store, number, u8::try_from(number % 3).unwrap(), if number < 24 { "app" } else { "lib" })
        });
        step(store, 6, FindingEvent::Plan).unwrap();
        let whole = all(store, &FindingFilter::default());
        let same = |filter: FindingFilter, keeps: &dyn Fn(&FindingRecord) -> bool| {
            let wanted: Vec<FindingId> = whole.iter().filter(|record| keeps(record)).map(|record| record.id).collect();
            let found: Vec<FindingId> = all(store, &filter).iter().map(|record| record.id).collect();
            assert!(!found.is_empty(), "{filter:?}");
            assert_eq!(found, wanted, "{filter:?}");
        };
        let none = FindingFilter::default;
        same(FindingFilter { states: vec![FindingState::Planned], ..none() }, &|record| {
            record.state == FindingState::Planned
        });
        same(FindingFilter { verdicts: vec![VerdictState::Affected], ..none() }, &|_| true);
        same(FindingFilter { host: Some(host_id(1)), ..none() }, &|record| record.host == host_id(1));
        same(FindingFilter { vulnerability: Some(VulnId("CVE-2024-0007".into())), ..none() }, &|record| {
            record.vulnerability.0 == "CVE-2024-0007"
        });
        same(FindingFilter { source: Some("lib".into()), ..none() }, &|record| record.source == "lib");
        same(FindingFilter { least_level: Some(4), ..none() }, &|record| record.priority.severity >= 4);
        same(FindingFilter { fixable: Some(false), ..none() }, &|record| record.fixed_version.is_none());
        same(FindingFilter { exploited: true, ..none() }, &|record| record.priority.exploit == 3);
        same(FindingFilter { text: Some("LI%B_".into()), host: Some(host_id(2)), ..none() }, &|record| {
            record.source == "lib" && record.host == host_id(2)
        });
    });
}

#[test]
fn counts_are_those_of_a_recount_after_every_kind_of_change() {
    on_both(|store| {
        (0..40).for_each(|number| open(store, number, 1, "app"));
        let events = [
            FindingEvent::Plan,
            FindingEvent::Prove,
            FindingEvent::Accept,
            FindingEvent::Dismiss,
            FindingEvent::Mitigate,
        ];
        for number in 0..30 {
            step(store, number, events[usize::from(number) % events.len()]).unwrap();
        }
        // A write that fails counts nothing.
        assert!(step(store, 1, FindingEvent::Accept).is_err());
        for number in 30..40 {
            let fresh = Verdict {
                state: VerdictState::RestartNeeded,
                fixed_version: None,
                ..verdict("app", number, VerdictState::Affected)
            };
            store
                .write_blocking(move |c| {
                    finding::finding_update(c, finding_id(number), &fresh, priority(number + 1), at(3))
                })
                .unwrap();
        }
        let kept = store.read_blocking(finding::finding_counts).unwrap();
        let every = FindingFilter {
            states: <FindingState as fettle_domain::machine::Machine>::STATES.to_vec(),
            ..FindingFilter::default()
        };
        let mut recount: BTreeMap<_, u64> = BTreeMap::new();
        for record in all(store, &every) {
            let kind = (
                record.state,
                record.verdict,
                record.priority.severity,
                record.fixed_version.is_some(),
                record.priority.exploit == 3,
            );
            *recount.entry(kind).or_default() += 1;
        }
        let kept: BTreeMap<_, u64> = kept
            .into_iter()
            .map(|count| ((count.state, count.verdict, count.level, count.fixable, count.exploited), count.findings))
            .collect();
        assert_eq!(kept, recount);
    });
}

#[test]
fn what_findings_rest_on_is_read_without_their_words() {
    on_both(|store| {
        (0..6).for_each(|number| open(store, number, 1, "app"));
        open(store, 100, 2, "app");
        let mut evidence = store.read_blocking(|c| finding::finding_evidence_of_host(c, host_id(1))).unwrap();
        evidence.sort_by(|a, b| a.vulnerability.cmp(&b.vulnerability));
        let records = store.read_blocking(|c| finding::finding_of_host(c, host_id(1))).unwrap();
        assert_eq!(evidence.len(), 6);
        for (slim, whole) in evidence.iter().zip(&records) {
            assert_eq!(
                (slim.id, &slim.vulnerability, slim.state, slim.priority),
                (whole.id, &whole.vulnerability, whole.state, whole.priority)
            );
            assert_eq!(
                (&slim.source_version, &slim.fixed_version, slim.verdict),
                (&whole.source_version, &whole.fixed_version, whole.verdict)
            );
        }
    });
}

#[test]
fn hosts_judged_by_older_feeds_are_found_and_the_retired_left_alone() {
    on_both(|store| {
        for number in 1..=3 {
            let facts = HostFactsColumns {
                name: format!("web-{number}"),
                os_codename: "bookworm".into(),
                json: "{}".into(),
                ..HostFactsColumns::default()
            };
            store.write_blocking(move |c| host::host_create(c, host_id(number), &facts, "1", at(0))).unwrap();
            store
                .write_blocking(move |c| finding::evaluation_set(c, host_id(number), 5, i64::from(number), at(0)))
                .unwrap();
        }
        store
            .write_blocking(|c| host::host_transition(c, host_id(1), machine::HostEvent::Retire, "test", &[], at(1)))
            .unwrap();
        let outdated = |generation| -> Vec<HostId> {
            let found = store.read_blocking(|c| finding::evaluation_outdated(c, generation, 10)).unwrap();
            found.into_iter().map(|(host, _)| host).collect()
        };
        assert_eq!(outdated(2), []);
        assert_eq!(outdated(3), [host_id(2)]);
        assert_eq!(outdated(4), [host_id(2), host_id(3)]);
        assert_eq!(store.read_blocking(host::host_releases).unwrap(), ["bookworm"]);
    });
}
