//! Users, sessions, tokens, counters of wrong passwords, audit log.

use fettle_domain::access::{Permission, Role};
use fettle_domain::{ApiTokenId, SessionId, Timestamp, UserId};
use fettle_store::page::{Order, Page, Place};
use fettle_store::systems::api_token::{self, ApiToken, ApiTokenSort};
use fettle_store::systems::audit::{self, AuditFilter, AuditRecord, AuditSort, AuditVerdict};
use fettle_store::systems::login_attempt;
use fettle_store::systems::session::{self, Session};
use fettle_store::systems::user::{self, User, UserSort};
use fettle_store::{Store, StoreError};
use fettle_testkit::{TestDatabase, on_both};
use serde_json::json;

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + second * 1000)
}

fn some_user(number: u8, name: &str, role: Role) -> User {
    User {
        id: UserId::new(1_764_000_000_000 + u64::from(number), [number; 10]),
        name: name.into(),
        role,
        password: "$argon2id$…".into(),
        password_change_required: true,
        disabled: false,
        created_at: at(0),
        last_sign_in: None,
        generation: 1,
    }
}

#[test]
fn users_are_made_changed_and_counted() {
    on_both(|store| {
        let ada = some_user(1, "ada", Role::Administrator);
        let made = ada.clone();
        store.write_blocking(move |c| user::create(c, &made)).unwrap();
        let twice = User { id: UserId::new(1, [9; 10]), ..ada.clone() };
        let error = store.write_blocking(move |c| user::create(c, &twice)).unwrap_err();
        assert!(matches!(error, StoreError::Duplicate { .. }), "{error:?}");
        store.write_blocking(|c| user::create(c, &some_user(2, "bob", Role::Viewer))).unwrap();

        let read = store.read_blocking(|c| user::get(c, "ada")).unwrap().unwrap();
        assert_eq!(read, ada);
        let mut changed = read.clone();
        changed.role = Role::Operator;
        changed.disabled = true;
        let write = changed.clone();
        store.write_blocking(move |c| user::update(c, &write)).unwrap();
        let error = store.write_blocking(move |c| user::update(c, &read)).unwrap_err();
        assert_eq!(error, StoreError::conflict("user ada"), "an old generation loses");
        store.write_blocking(move |c| user::signed_in(c, ada.id, at(5))).unwrap();

        let found = store.read_blocking(move |c| user::get_by_id(c, ada.id)).unwrap().unwrap();
        assert_eq!(
            (found.role, found.disabled, found.last_sign_in, found.generation),
            (Role::Operator, true, Some(at(5)), 2)
        );
        assert_eq!(store.read_blocking(user::count_administrators).unwrap(), 0);
        assert_eq!(store.read_blocking(user::count).unwrap(), 2);
        let by_name = Order::ascending(UserSort::Name);
        let names = |after: Option<&'static str>, limit| {
            let after = after.and_then(|name| Place::new(by_name, vec![name.into()]));
            let users = store.read_blocking(move |c| user::list(c, &Page { order: by_name, after, limit })).unwrap();
            users.items.into_iter().map(|user| user.name).collect::<Vec<_>>()
        };
        assert_eq!(names(None, 1), ["ada"]);
        assert_eq!(names(Some("ada"), 10), ["bob"]);
    });
}

#[test]
fn sessions_end_by_user_by_age_and_by_idleness() {
    on_both(|store| {
        store.write_blocking(|c| user::create(c, &some_user(1, "ada", Role::Viewer))).unwrap();
        let owner = some_user(1, "ada", Role::Viewer).id;
        let make = |number: u8, seen: i64, expires: i64| {
            let session = Session {
                id: SessionId::new(u64::from(number), [number; 10]),
                user: owner,
                secret_digest: [number; 32],
                created_at: at(0),
                seen_at: at(seen),
                expires_at: at(expires),
            };
            store.write_blocking(move |c| session::create(c, &session)).unwrap();
        };
        let alive = |number: u8| store.read_blocking(move |c| session::get(c, &[number; 32])).unwrap().is_some();
        make(1, 100, 1000);
        make(2, 10, 1000);
        make(3, 100, 110);
        store.write_blocking(|c| session::seen(c, SessionId::new(1, [1; 10]), at(150))).unwrap();
        let gone = store.write_blocking(|c| session::delete_ended(c, at(120), at(50))).unwrap();
        assert_eq!((gone, alive(1), alive(2), alive(3)), (2, true, false, false));
        let (found, who) = store.read_blocking(|c| session::get(c, &[1; 32])).unwrap().unwrap();
        assert_eq!((found.seen_at, who.name.as_str()), (at(150), "ada"));
        assert_eq!(store.write_blocking(move |c| session::delete_of_user(c, owner)).unwrap(), 1);
        assert!(!alive(1));
    });
}

#[test]
fn tokens_keep_their_scopes_and_belong_to_one_user() {
    on_both(|store| {
        store.write_blocking(|c| user::create(c, &some_user(1, "ada", Role::Viewer))).unwrap();
        store.write_blocking(|c| user::create(c, &some_user(2, "bob", Role::Viewer))).unwrap();
        let (ada, bob) = (some_user(1, "ada", Role::Viewer).id, some_user(2, "bob", Role::Viewer).id);
        let token = |number: u8, scopes: &[Permission]| ApiToken {
            id: ApiTokenId::new(u64::from(number), [number; 10]),
            user: ada,
            label: "ci".into(),
            scopes: (!scopes.is_empty()).then(|| scopes.iter().copied().collect()),
            created_at: at(0),
            expires_at: at(i64::from(number) * 100),
            used_at: None,
        };
        let (one, two) = (token(1, &[Permission::HostRead, Permission::AuditRead]), token(2, &[]));
        let pair = (one.clone(), two.clone());
        store
            .write_blocking(move |c| {
                api_token::create(c, &pair.0, &[1; 32])?;
                api_token::create(c, &pair.1, &[2; 32])
            })
            .unwrap();
        assert_eq!(store.read_blocking(|c| api_token::get(c, &[1; 32])).unwrap().unwrap().0, one);
        let newest = Page::first(Order::descending(ApiTokenSort::CreatedAt), 10);
        let listed = store.read_blocking(move |c| api_token::list(c, ada, &newest)).unwrap();
        assert_eq!((listed.items, listed.next), (vec![two.clone(), one.clone()], None));
        let newest = Page::first(Order::descending(ApiTokenSort::CreatedAt), 10);
        assert_eq!(store.read_blocking(move |c| api_token::list(c, bob, &newest)).unwrap().items, []);
        let id = one.id;
        let error = store.write_blocking(move |c| api_token::delete(c, bob, id)).unwrap_err();
        assert_eq!(error, StoreError::not_found(id), "nobody revokes another's");
        assert_eq!(store.write_blocking(|c| api_token::delete_ended(c, at(100))).unwrap(), 1);
        assert!(store.read_blocking(|c| api_token::get(c, &[1; 32])).unwrap().is_none());
        assert_eq!(store.read_blocking(move |c| api_token::count(c, ada)).unwrap(), 1);
    });
}

#[test]
fn wrong_passwords_are_counted_within_a_window() {
    on_both(|store| {
        let count = |now: i64| {
            store.write_blocking(move |c| login_attempt::count(c, "account ada", at(now), at(now + 60))).unwrap()
        };
        assert_eq!((count(0), count(1), count(59)), (1, 2, 3));
        assert_eq!(store.read_blocking(|c| login_attempt::get(c, "account ada", at(59))).unwrap(), (3, at(60)));
        store.write_blocking(|c| login_attempt::take_back(c, "account ada")).unwrap();
        assert_eq!(count(59), 3);
        assert_eq!(count(60), 1, "a new window");
        store.write_blocking(|c| login_attempt::forget(c, "account ada")).unwrap();
        assert_eq!(store.read_blocking(|c| login_attempt::get(c, "account ada", at(61))).unwrap().0, 0);
    });
}

fn append(store: &Store, number: i64, object: &str) {
    let record = AuditRecord {
        actor: if number % 2 == 0 { "ada".into() } else { "bob".into() },
        action: if number % 3 == 0 { "host.revoke" } else { "hostile.act" },
        object: object.into(),
        detail: json!({ "number": number, "text": "NUL \u{0} and ümlaut" }),
    };
    let sequence = store.write_blocking(move |c| audit::append(c, at(number), &record)).unwrap();
    assert_eq!(sequence, u64::try_from(number).unwrap());
}

fn verify(store: &Store) -> AuditVerdict {
    let mut verdict = audit::verify_start();
    loop {
        let (now, done) = store
            .read_blocking(|c| {
                let done = audit::verify_part(c, &mut verdict)?;
                Ok((verdict.clone(), done))
            })
            .unwrap();
        if done {
            return now;
        }
    }
}

#[test]
fn the_audit_log_is_a_chain_without_gaps() {
    on_both(|store| {
        assert_eq!(verify(store).broken, None, "an empty log is intact");
        for number in 1..=9 {
            append(store, number, if number == 5 { "host_1\u{0}" } else { "host_2" });
        }
        // An act that fails leaves neither an entry nor a gap.
        let failed = store.write_blocking(|c| {
            let record =
                AuditRecord { actor: "ada".into(), action: "host.revoke", object: "x".into(), detail: json!({}) };
            audit::append(c, at(10), &record)?;
            Err::<(), _>(StoreError::not_found("host x"))
        });
        assert!(failed.is_err());
        append(store, 10, "host_2");
        let verdict = verify(store);
        assert_eq!((verdict.checked, verdict.broken), (10, None));

        let found = |filter: AuditFilter, limit: u32| {
            let page = Page::first(Order::descending(AuditSort::Sequence), limit);
            let entries = store.read_blocking(move |c| audit::list(c, &filter, &page)).unwrap();
            entries.items.into_iter().map(|entry| entry.sequence).collect::<Vec<_>>()
        };
        let all = AuditFilter::default();
        assert_eq!(found(all.clone(), 3), [10, 9, 8]);
        assert_eq!(
            found(AuditFilter { action: Some("host.".into()), ..all.clone() }, 9),
            [9, 6, 3],
            "a prefix ends at its dot"
        );
        assert_eq!(
            found(AuditFilter { actor: Some("ada".into()), action: Some("host.revoke".into()), ..all.clone() }, 9),
            [6]
        );
        assert_eq!(found(AuditFilter { object: Some("host_1\u{fffd}".into()), ..all }, 9), [5]);
        assert_eq!(store.read_blocking(audit::count).unwrap(), 10);
    });
}

#[test]
fn tampering_is_found_at_the_first_broken_entry() {
    let attacks: &[(&str, u64)] = &[
        ("UPDATE audit_entry SET actor = 'eve' WHERE sequence = 4", 4),
        ("UPDATE audit_entry SET at = at + 1 WHERE sequence = 1", 1),
        ("UPDATE audit_entry SET detail = '{}' WHERE sequence = 6", 6),
        ("DELETE FROM audit_entry WHERE sequence = 3", 3),
        ("DELETE FROM audit_entry WHERE sequence = 6", 6),
        ("DELETE FROM audit_entry", 1),
        ("UPDATE audit_entry SET actor = action, action = actor WHERE sequence = 5", 5),
        ("UPDATE audit_entry SET sequence = 99 WHERE sequence = 2", 2),
    ];
    for (attack, broken_at) in attacks {
        on_both(|store| {
            for number in 1..=6 {
                append(store, number, "host_1");
            }
            store.write_blocking(|c| c.execute(attack, &[]).map(|_| ())).unwrap();
            let (sequence, why) = verify(store).broken.unwrap_or_else(|| panic!("{attack} was not found"));
            assert_eq!(sequence, *broken_at, "{attack}: {why}");
        });
    }
}

#[test]
fn a_chain_longer_than_one_part_is_walked_to_its_end() {
    on_both(|store| {
        store
            .write_blocking(|c| {
                for number in 1..=4_100 {
                    let record = AuditRecord {
                        actor: "ada".into(),
                        action: "a.b",
                        object: String::new(),
                        detail: json!(number),
                    };
                    audit::append(c, at(number), &record)?;
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(verify(store).checked, 4_100);
        store.write_blocking(|c| c.execute("UPDATE audit_entry SET object = 'x' WHERE sequence = 4050", &[])).unwrap();
        assert_eq!(verify(store).broken.unwrap().0, 4_050);
    });
}

#[test]
fn many_servers_append_to_one_chain() {
    for database in TestDatabase::all() {
        let stores = [database.open(), database.open(), database.open()];
        std::thread::scope(|scope| {
            for (number, store) in stores.iter().enumerate() {
                scope.spawn(move || {
                    for _ in 0..30 {
                        let record = AuditRecord {
                            actor: format!("server {number}"),
                            action: "a.b",
                            object: String::new(),
                            detail: json!({}),
                        };
                        store.write_blocking(move |c| audit::append(c, at(1), &record)).unwrap();
                    }
                });
            }
        });
        let verdict = verify(&stores[0]);
        assert_eq!((verdict.checked, verdict.broken), (90, None), "on {}", database.kind);
    }
}
