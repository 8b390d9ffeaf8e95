//! Hosts: from enrolment to the end, in lists and in groups.

use fettle_domain::machine::{HostEvent, HostState};
use fettle_domain::reason::Reason;
use fettle_domain::{EnrolmentTokenId, GroupId, HostId, Timestamp};
use fettle_store::page::{Order, Page, Place};
use fettle_store::systems::enrolment_token::{self, EnrolmentToken, TokenUse};
use fettle_store::systems::group;
use fettle_store::systems::host::{self, HostFactsColumns, HostFilter, HostSort};
use fettle_store::systems::host_seen::{Seen, host_seen};
use fettle_store::{Store, StoreError};
use fettle_testkit::on_both;
use std::collections::HashMap;

fn id(number: u16) -> HostId {
    HostId::new(1_764_000_000_000 + u64::from(number), [7; 10])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + second * 1000)
}

fn make(store: &Store, number: u16, name: &str, codename: &str) {
    let facts = HostFactsColumns {
        name: name.into(),
        os_codename: codename.into(),
        json: "{}".into(),
        ..HostFactsColumns::default()
    };
    store.write_blocking(move |c| host::host_create(c, id(number), &facts, "0.1.0", at(0))).unwrap();
}

fn event(store: &Store, number: u16, event: HostEvent) -> fettle_store::Result<HostState> {
    store.write_blocking(move |c| {
        host::host_transition(c, id(number), event, "ada", &[Reason::new("test", "because")], at(9))
    })
}

fn counts(store: &Store) -> HashMap<HostState, u64> {
    let counts = store.read_blocking(host::host_counts).unwrap();
    counts.into_iter().filter(|(_, number)| *number > 0).collect()
}

#[test]
fn a_host_enrols_reports_falls_silent_and_is_revoked() {
    on_both(|store| {
        make(store, 1, "web-1", "bookworm");
        assert_eq!(counts(store), HashMap::from([(HostState::Enrolling, 1)]));
        assert_eq!(event(store, 1, HostEvent::Report), Ok(HostState::Managed));
        assert_eq!(event(store, 1, HostEvent::Report), Ok(HostState::Managed), "again changes nothing");
        assert_eq!(event(store, 1, HostEvent::FallSilent), Ok(HostState::Silent));
        assert_eq!(event(store, 1, HostEvent::Report), Ok(HostState::Managed));
        assert_eq!(event(store, 1, HostEvent::Retire), Ok(HostState::Retired));
        assert!(matches!(event(store, 1, HostEvent::Report), Err(StoreError::Illegal(_))), "nothing leaves the end");
        assert_eq!(counts(store), HashMap::from([(HostState::Retired, 1)]));
        let events = store.read_blocking(|c| host::host_events(c, id(1))).unwrap();
        let words: Vec<&str> = events.iter().rev().map(|(_, event, ..)| event.as_str()).collect();
        assert_eq!(words, ["enrol", "report", "fall-silent", "report", "retire"]);
        let (when, _, actor, reasons) = &events[0];
        assert_eq!((*when, actor.as_str()), (at(9), "ada"));
        assert_eq!(serde_json::from_str::<Vec<Reason>>(reasons).unwrap(), [Reason::new("test", "because")]);
        assert_eq!(event(store, 2, HostEvent::Report), Err(StoreError::not_found(id(2))));
    });
}

#[test]
fn signs_of_life_are_noted_many_at_once() {
    on_both(|store| {
        for number in 1..=300 {
            make(store, number, &format!("h{number}"), "bookworm");
        }
        event(store, 7, HostEvent::Retire).unwrap();
        let mut hosts: Vec<_> = (1..=300).map(|number| Seen::plain(id(number), at(i64::from(number)))).collect();
        hosts.push(Seen::plain(id(999), at(5)));
        let heads = store.write_blocking(move |c| host_seen(c, &hosts)).unwrap();
        assert_eq!(heads.len(), 299, "the unknown and the revoked one are missing");
        assert!(!heads.contains_key(&id(7)) && !heads.contains_key(&id(999)));
        assert_eq!((heads[&id(300)].state, heads[&id(300)].packages_digest.as_str()), (HostState::Enrolling, ""));
        let seen = |number| store.read_blocking(move |c| host::host_get(c, id(number))).unwrap().last_seen;
        assert_eq!((seen(1), seen(7), seen(256), seen(257), seen(300)), (at(1), at(0), at(256), at(257), at(300)));
        let quiet = store.read_blocking(|c| host::host_quiet_since(c, at(4), 10)).unwrap();
        assert_eq!(quiet, [id(1), id(2), id(3)], "the longest quiet first, and nobody who is retired");
        assert_eq!(store.read_blocking(|c| host::host_quiet_since(c, at(4), 2)).unwrap(), [id(1), id(2)]);
        assert!(store.write_blocking(|c| host_seen(c, &[])).unwrap().is_empty());
    });
}

#[test]
fn what_a_host_reports_replaces_what_it_reported() {
    on_both(|store| {
        make(store, 1, "web-1", "bookworm");
        let digest = "ab".repeat(32);
        let facts = HostFactsColumns {
            name: "web-1.example".into(),
            os_id: "debian".into(),
            os_codename: "trixie".into(),
            os_name: "Debian 13".into(),
            reboot_pending: true,
            json: r#"{"name":"web-1"}"#.into(),
            digest: digest.clone(),
        };
        let (services, written) = ("cd".repeat(32), facts.clone());
        store
            .write_blocking(move |c| {
                host::host_set_agent_version(c, id(1), "0.2.0")?;
                host::host_set_facts(c, id(1), &written)?;
                host::host_set_services(c, id(1), "[]", &services, 3)?;
                host::host_mark_changed(c, id(1), at(50))?;
                host::host_mark_changed(c, id(1), at(50))
            })
            .unwrap();
        let found = store.read_blocking(|c| host::host_get(c, id(1))).unwrap();
        assert_eq!((found.name, found.os_codename, found.reboot_pending), (facts.name, facts.os_codename, true));
        assert_eq!((found.facts_digest, found.services_digest, found.restart_pending), (digest, "cd".repeat(32), 3));
        assert_eq!((found.agent_version.as_str(), found.inventory_mark), ("0.2.0", at(50).unix_millis() + 1));
        let changed = store.read_blocking(|c| host::host_changed(c, 10)).unwrap();
        assert_eq!(changed, [(id(1), at(50).unix_millis() + 1)], "one entry, by its last mark");
        store.write_blocking(|c| host::host_judged(c, id(1), at(50).unix_millis())).unwrap();
        assert_eq!(store.read_blocking(|c| host::host_changed(c, 10)).unwrap().len(), 1, "it changed since");
        store.write_blocking(|c| host::host_judged(c, id(1), at(50).unix_millis() + 1)).unwrap();
        assert!(store.read_blocking(|c| host::host_changed(c, 10)).unwrap().is_empty());
        let refused = store.write_blocking(|c| host::host_set_packages(c, id(1), "not hex")).unwrap_err();
        assert!(matches!(refused, StoreError::Refused { .. }), "{refused:?}");
    });
}

#[test]
fn lists_are_paged_and_narrowed_in_the_database() {
    on_both(|store| {
        // Two of one name: the place in the list is name and id.
        for (number, name, codename) in [
            (1, "web-1", "bookworm"),
            (2, "db-1", "bookworm"),
            (3, "web-1", "trixie"),
            (4, "web-2", "bookworm"),
            (5, "old", "bookworm"),
        ] {
            make(store, number, name, codename);
        }
        event(store, 5, HostEvent::Retire).unwrap();
        event(store, 4, HostEvent::Report).unwrap();
        let group = GroupId::new(1, [1; 10]);
        store
            .write_blocking(move |c| {
                group::group_create(c, group, "web", at(0))?;
                for number in [1, 4, 5, 1] {
                    group::group_add(c, group, id(number))?;
                }
                host::host_set_services(c, id(2), "[]", "", 1)
            })
            .unwrap();
        let by_name = Order::ascending(HostSort::Name);
        let list = |filter: HostFilter, after: Option<Place>, limit| {
            let page = Page { order: by_name, after, limit };
            let found = store.read_blocking(move |c| host::host_list(c, &filter, &page)).unwrap();
            found.items.into_iter().map(|record| record.id).collect::<Vec<_>>()
        };
        let all = HostFilter::default();
        assert_eq!(list(all.clone(), None, 2), [id(2), id(1)]);
        let place = Place::new(by_name, vec!["web-1".into(), id(1).into()]);
        assert_eq!(list(all.clone(), place, 9), [id(3), id(4)]);
        assert_eq!(list(HostFilter { state: Some(HostState::Retired), ..all.clone() }, None, 9), [id(5)]);
        assert_eq!(list(HostFilter { group: Some(group), ..all.clone() }, None, 9), [id(1), id(4)]);
        assert_eq!(list(HostFilter { codename: Some("trixie".into()), ..all.clone() }, None, 9), [id(3)]);
        assert_eq!(list(HostFilter { restart_needed: true, ..all.clone() }, None, 9), [id(2)]);
        assert_eq!(list(HostFilter { text: Some("EB-".into()), ..all.clone() }, None, 9), [id(1), id(3), id(4)]);
        assert_eq!(
            list(HostFilter { text: Some("%".into()), ..all.clone() }, None, 9).len(),
            4,
            "no wildcard reaches the database"
        );
        assert_eq!(store.read_blocking(|c| host::host_by_name(c, "web-1")).unwrap().len(), 2);
        let names = store.read_blocking(|c| host::host_names(c, &[id(1), id(2), id(99)])).unwrap();
        assert_eq!(names, HashMap::from([(id(1), "web-1".into()), (id(2), "db-1".into())]));

        assert_eq!(store.read_blocking(move |c| group::group_hosts(c, group, 9)).unwrap(), [id(1), id(4)]);
        assert_eq!(store.read_blocking(|c| group::group_names_of(c, id(4))).unwrap(), ["web"]);
        assert!(store.write_blocking(move |c| group::group_remove(c, group, id(4))).unwrap());
        assert!(!store.write_blocking(move |c| group::group_remove(c, group, id(4))).unwrap());
        let groups = store.read_blocking(group::group_list).unwrap();
        assert_eq!((groups.len(), groups[0].hosts), (1, 2));
        let again =
            store.write_blocking(|c| group::group_create(c, GroupId::new(2, [2; 10]), "web", at(0))).unwrap_err();
        assert!(matches!(again, StoreError::Duplicate { .. }), "{again:?}");
        assert!(store.read_blocking(|c| group::group_by_name(c, "none")).is_err());
    });
}

#[test]
fn what_is_asked_often_is_answered_from_an_index() {
    on_both(|store| {
        if store.dialect() == fettle_store::Dialect::Postgres {
            return;
        }
        for (sql, index) in [
            (
                "SELECT id FROM host WHERE state IN ('enrolling', 'managed') AND last_seen < 5 ORDER BY last_seen LIMIT 9",
                "host_by_state",
            ),
            ("SELECT 1 FROM host h WHERE h.packages_digest = x'00'", "host_by_set"),
        ] {
            let plan = store.read_blocking(|c| c.explain(sql, &[])).unwrap();
            assert!(plan.contains(index), "{sql}\n{plan}");
        }
    });
}

#[test]
fn a_token_is_used_as_often_as_it_may() {
    on_both(|store| {
        let token = |number: u8, uses: i64, expires: i64| {
            let token = EnrolmentToken {
                id: EnrolmentTokenId::new(u64::from(number), [number; 10]),
                group: Some(GroupId::new(3, [3; 10])),
                uses_left: uses,
                expires_at: at(expires),
                created_by: "ada".into(),
                created_at: at(0),
            };
            let kept = token.clone();
            store.write_blocking(move |c| enrolment_token::enrolment_token_create(c, &kept, &[number; 32])).unwrap();
            token
        };
        let one = token(1, 2, 100);
        let two = token(2, 5, 50);
        let take = |number: u8, now: i64| {
            store.write_blocking(move |c| enrolment_token::enrolment_token_use(c, &[number; 32], at(now))).unwrap()
        };
        let look = |number: u8, now: i64| {
            store.read_blocking(move |c| enrolment_token::enrolment_token_check(c, &[number; 32], at(now))).unwrap()
        };
        assert_eq!(look(1, 1), TokenUse::Taken(one.id, one.group));
        assert_eq!(take(1, 1), TokenUse::Taken(one.id, one.group));
        // A refused enrolment costs nothing: the use is taken in the write that is given up.
        let refused = store.write_blocking(|c| {
            enrolment_token::enrolment_token_use(c, &[1; 32], at(2))?;
            Err::<(), _>(StoreError::Full)
        });
        assert_eq!(refused, Err(StoreError::Full));
        assert_eq!(take(1, 3), TokenUse::Taken(one.id, one.group));
        assert_eq!((take(1, 4), look(1, 4)), (TokenUse::UsedUp, TokenUse::UsedUp));
        assert_eq!((take(1, 100), take(2, 50), look(2, 50)), (TokenUse::Expired, TokenUse::Expired, TokenUse::Expired));
        assert_eq!((take(9, 1), look(9, 1)), (TokenUse::Unknown, TokenUse::Unknown));
        let listed = store.read_blocking(|c| enrolment_token::enrolment_token_list(c, at(10))).unwrap();
        assert_eq!(listed, std::slice::from_ref(&two));
        assert!(store.write_blocking(move |c| enrolment_token::enrolment_token_revoke(c, two.id)).unwrap());
        assert_eq!(take(2, 10), TokenUse::UsedUp);
        assert!(
            !store
                .write_blocking(|c| enrolment_token::enrolment_token_revoke(c, EnrolmentTokenId::new(9, [9; 10])))
                .unwrap()
        );
    });
}
