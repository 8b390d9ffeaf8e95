//! Lists under every order, page by page, while rows come: each row once, in its place.

use fettle_domain::access::Role;
use fettle_domain::advisory::VulnId;
use fettle_domain::finding::{Priority, Verdict, VerdictState};
use fettle_domain::machine::*;
use fettle_domain::*;
use fettle_store::page::{Listed, Order, Page, SortColumn};
use fettle_store::systems::api_token::{self, ApiToken, ApiTokenSort};
use fettle_store::systems::audit::{self, AuditFilter, AuditRecord, AuditSort};
use fettle_store::systems::change::{self, ChangeFilter, ChangeSort, NewChange};
use fettle_store::systems::deployment::{self, DeploymentSort, NewDeployment};
use fettle_store::systems::finding::{self, FindingFilter, FindingSort};
use fettle_store::systems::group;
use fettle_store::systems::host::{self, HostFactsColumns, HostFilter, HostSort};
use fettle_store::systems::host_seen::{Seen, host_seen};
use fettle_store::systems::plan::{self, NewPlan};
use fettle_store::systems::rollout::{self, RolloutRecord};
use fettle_store::systems::user::{self, User, UserSort};
use fettle_store::{Connection, Result, Store};
use fettle_testkit::on_both;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + i64::try_from(seconds).unwrap() * 1000)
}

/// Where rows come from: their values are few, so that most of them tie.
struct Source(AtomicU64);

impl Source {
    fn below(&self, bound: u64) -> u64 {
        // xorshift64*, by S. Vigna: enough to scatter rows, and the same for the same seed.
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.store(x, Ordering::Relaxed);
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn word(&self) -> String {
        ["alpha", "beta", "gamma", "delta"][usize::try_from(self.below(4)).unwrap()].to_owned()
    }

    fn bytes(&self) -> [u8; 10] {
        std::array::from_fn(|_| u8::try_from(self.below(256)).unwrap())
    }
}

/// Walks a list in every order; `add` makes a row, and does so between pages.
fn walk<C: SortColumn, T: Send + 'static>(
    store: &Store,
    columns: &[C],
    limit: u32,
    read: impl Fn(&mut Connection, &Page<C>) -> Result<Listed<T>>,
    name: impl Fn(&T) -> String,
    key: impl Fn(&T, C) -> String,
    mut add: impl FnMut(),
) {
    let pages = |page: &Page<C>| store.read_blocking(|c| read(c, page)).unwrap();
    for by in columns {
        for order in [Order::ascending(*by), Order::descending(*by)] {
            assert_eq!(Order::parse(&order.to_string()), Some(order));
            let before: BTreeSet<String> = pages(&Page::first(order, 10_000)).items.iter().map(&name).collect();
            let (mut seen, mut keys, mut to_come) = (Vec::new(), Vec::new(), 6);
            let mut page = Page::first(order, limit);
            loop {
                let listed = pages(&page);
                assert!(listed.items.len() <= limit as usize);
                seen.extend(listed.items.iter().map(&name));
                keys.extend(listed.items.iter().map(|item| key(item, *by)));
                page.after = listed.next;
                if page.after.is_none() {
                    break;
                }
                if to_come > 0 {
                    to_come -= 1;
                    add();
                }
            }
            let once: BTreeSet<String> = seen.iter().cloned().collect();
            assert_eq!(once.len(), seen.len(), "{order}: a row came twice");
            assert!(before.is_subset(&once), "{order}: a row was left out");
            if order.descending {
                keys.reverse();
            }
            assert!(keys.is_sorted(), "{order}: {keys:?}");
            // What was read piece by piece stands in the order in which one page shows it.
            let whole = pages(&Page::first(order, 10_000)).items.iter().map(&name).collect::<Vec<_>>();
            let same: Vec<&String> = whole.iter().filter(|name| once.contains(*name)).collect();
            assert_eq!(same, seen.iter().collect::<Vec<_>>(), "{order}");
        }
    }
}

fn hosts(store: &Store, source: &Source, limit: u32) {
    let add = || {
        let id = HostId::new(source.below(1000), source.bytes());
        let facts = HostFactsColumns {
            name: source.word(),
            os_name: format!("Debian {}", 10 + source.below(4)),
            json: "{}".into(),
            ..HostFactsColumns::default()
        };
        let (seen, events) = (at(source.below(3)), source.below(4));
        store
            .write_blocking(move |c| {
                host::host_create(c, id, &facts, "1", at(0))?;
                host_seen(c, &[Seen::plain(id, seen)])?;
                let path = [HostEvent::Report, HostEvent::FallSilent, HostEvent::Retire];
                if seen == at(0) {
                    group::group_add(c, GroupId::new(1, [1; 10]), id)?;
                }
                for event in &path[..usize::try_from(events).unwrap()] {
                    host::host_transition(c, id, *event, "test", &[], at(1))?;
                }
                Ok(())
            })
            .unwrap();
    };
    let group = GroupId::new(1, [1; 10]);
    store.write_blocking(move |c| group::group_create(c, group, "web", at(0))).unwrap();
    (0..30).for_each(|_| add());
    for (state, group) in
        [(None, None), (Some(HostState::Managed), None), (Some(HostState::Retired), None), (None, Some(group))]
    {
        walk(
            store,
            HostSort::ALL,
            limit,
            |c, page: &Page<HostSort>| host::host_list(c, &HostFilter { state, group, ..HostFilter::default() }, page),
            |host| host.id.to_string(),
            |host, by| match by {
                HostSort::Name => host.name.clone(),
                HostSort::State => format!("{} {}", host.state, host.name),
                HostSort::OperatingSystem => format!("{} {}", host.os_name, host.name),
                HostSort::LastSeen => host.last_seen.unix_millis().to_string(),
            },
            add,
        );
    }
}

fn findings(store: &Store, source: &Source, limit: u32) {
    let number = AtomicU64::new(0);
    let add = || {
        let id = FindingId::new(source.below(1000), source.bytes());
        let host = HostId::new(1, [u8::try_from(source.below(2)).unwrap(); 10]);
        let verdict = Verdict {
            // Once on a host: the number makes it unique, the word makes few of them.
            vulnerability: VulnId(format!("CVE 2026 {}", number.fetch_add(1, Ordering::Relaxed) % 10)),
            source: format!("{}{}", source.word(), number.load(Ordering::Relaxed) / 10),
            source_version: "1".into(),
            packages: Vec::new(),
            state: VerdictState::Affected,
            fixed_version: None,
            severity: "high".into(),
            reasons: Vec::new(),
        };
        let priority = Priority {
            severity: u8::try_from(source.below(3)).unwrap(),
            exploit: u8::try_from(source.below(2)).unwrap(),
        };
        let (now, events) = (at(source.below(3)), source.below(4));
        store
            .write_blocking(move |c| {
                finding::finding_open(c, id, host, &verdict, priority, now)?;
                let path = [FindingEvent::Plan, FindingEvent::Remediate, FindingEvent::Prove];
                for event in &path[..usize::try_from(events).unwrap()] {
                    finding::finding_transition(c, id, *event, None, "test", &[], now)?;
                }
                Ok(())
            })
            .unwrap();
    };
    (0..30).for_each(|_| add());
    let filters = [
        FindingFilter::default(),
        FindingFilter { states: FindingState::STATES.to_vec(), ..FindingFilter::default() },
        FindingFilter { host: Some(HostId::new(1, [1; 10])), ..FindingFilter::default() },
        FindingFilter { vulnerability: Some(VulnId("CVE 2026 3".into())), ..FindingFilter::default() },
        FindingFilter { states: vec![FindingState::Verified; 2], least_level: Some(1), ..FindingFilter::default() },
    ];
    for filter in filters {
        walk(
            store,
            &filter.columns(),
            limit,
            |c, page: &Page<FindingSort>| finding::finding_list(c, &filter, page),
            |finding| finding.id.to_string(),
            |finding, by| {
                let rank = format!("{}{}", finding.priority.severity, finding.priority.exploit);
                match by {
                    FindingSort::Priority => rank,
                    FindingSort::Vulnerability => format!("{} {rank}", finding.vulnerability),
                    FindingSort::Source => format!("{} {rank}", finding.source),
                    FindingSort::FirstSeen => finding.first_seen.unix_millis().to_string(),
                }
            },
            add,
        );
    }
}

fn entries(store: &Store, source: &Source, limit: u32) {
    let add = || {
        let record = AuditRecord {
            actor: source.word(),
            action: if source.below(2) == 0 { "host.revoke" } else { "user.create" },
            object: source.word(),
            detail: serde_json::Value::Null,
        };
        store.write_blocking(move |c| audit::append(c, at(0), &record)).unwrap();
    };
    (0..30).for_each(|_| add());
    for action in [None, Some("host.".to_owned())] {
        let narrowed = AuditFilter { action, ..AuditFilter::default() };
        walk(
            store,
            &narrowed.columns(),
            limit,
            |c, page: &Page<AuditSort>| audit::list(c, &narrowed, page),
            |entry| entry.sequence.to_string(),
            |entry, by| {
                let word = match by {
                    AuditSort::Sequence => "",
                    AuditSort::Actor => &entry.actor,
                    AuditSort::Action => &entry.action,
                    AuditSort::Object => &entry.object,
                };
                format!("{word} {:06}", entry.sequence)
            },
            add,
        );
    }
}

fn make_change(store: &Store, source: &Source) -> (ChangeId, PlanId) {
    let (id, plan) = (ChangeId::new(1, source.bytes()), PlanId::new(1, source.bytes()));
    let new = NewChange {
        id,
        title: source.word(),
        reason: String::new(),
        requester: source.word(),
        requester_id: None,
        specification: "{}".into(),
    };
    let draft = NewPlan { id: plan, change: id, answer_until: at(9), window_start: None, window_end: at(9), asked: 1 };
    store
        .write_blocking(move |c| {
            change::change_create(c, &new, at(0))?;
            plan::plan_create(c, &draft, at(0))
        })
        .unwrap();
    (id, plan)
}

fn changes(store: &Store, source: &Source, limit: u32) {
    for _ in 0..20 {
        make_change(store, source);
    }
    walk(
        store,
        ChangeSort::ALL,
        limit,
        |c, page: &Page<ChangeSort>| change::change_list(c, &ChangeFilter::default(), page),
        |change| change.id.to_string(),
        |change, by| {
            let word = match by {
                ChangeSort::Number => "",
                ChangeSort::Title => &change.title,
                ChangeSort::Requester => &change.requester,
            };
            format!("{word} {:06}", change.number)
        },
        || {
            make_change(store, source);
        },
    );
}

fn deployments(store: &Store, source: &Source, limit: u32) {
    let (change, plan) = make_change(store, source);
    let rollout = RolloutRecord {
        id: RolloutId::new(1, source.bytes()),
        plan,
        change,
        state: RolloutState::Scheduled,
        generation: 1,
        start_at: at(0),
        window_end: at(9),
        changed_at: at(0),
    };
    let rollout_id = rollout.id;
    store.write_blocking(move |c| rollout::rollout_create(c, &rollout, 1)).unwrap();
    let add = || {
        let id = DeploymentId::new(source.below(1000), source.bytes());
        let host = HostId::new(1, source.bytes());
        let new = NewDeployment { id, rollout: rollout_id, plan, change, wave: 1, host, host_name: source.word() };
        let events = source.below(3);
        store
            .write_blocking(move |c| {
                deployment::deployment_create(c, &new, at(0))?;
                for event in &[DeploymentEvent::Accept, DeploymentEvent::Fetch][..usize::try_from(events).unwrap()] {
                    let record = deployment::deployment_get(c, id)?;
                    deployment::deployment_transition(c, &record, *event, "test", &[], at(1))?;
                }
                Ok(())
            })
            .unwrap();
    };
    (0..20).for_each(|_| add());
    for states in [vec![], vec![DeploymentState::Queued, DeploymentState::Offered]] {
        walk(
            store,
            DeploymentSort::ALL,
            limit,
            |c, page: &Page<DeploymentSort>| deployment::deployment_list(c, change, &states, page),
            |deployment| deployment.id.to_string(),
            |deployment, by| match by {
                DeploymentSort::HostName => deployment.host_name.clone(),
                DeploymentSort::State => format!("{} {}", deployment.state, deployment.host_name),
            },
            add,
        );
    }
}

fn people(store: &Store, source: &Source, limit: u32) {
    let number = AtomicU64::new(0);
    let made = |name: String| User {
        id: UserId::new(source.below(1000), source.bytes()),
        name,
        role: [Role::Viewer, Role::Operator][usize::try_from(source.below(2)).unwrap()],
        password: String::new(),
        password_change_required: false,
        disabled: false,
        created_at: at(source.below(3)),
        last_sign_in: (source.below(2) == 0).then(|| at(source.below(3))),
        generation: 1,
    };
    let owner = made("owner".into());
    let owner_id = owner.id;
    store.write_blocking(move |c| user::create(c, &owner)).unwrap();
    let add = || {
        let user = made(format!("{}{}", source.word(), number.fetch_add(1, Ordering::Relaxed)));
        let token = ApiToken {
            id: ApiTokenId::new(source.below(1000), source.bytes()),
            user: owner_id,
            label: source.word(),
            scopes: None,
            created_at: at(source.below(3)),
            expires_at: at(source.below(3)),
            used_at: (source.below(2) == 0).then(|| at(source.below(3))),
        };
        let mut digest = [0; 32];
        digest[..10].copy_from_slice(&source.bytes());
        store
            .write_blocking(move |c| {
                user::create(c, &user)?;
                api_token::create(c, &token, &digest)
            })
            .unwrap();
    };
    let moment = |at: Option<Timestamp>| format!("{:020}", at.map_or(0, Timestamp::unix_millis));
    (0..20).for_each(|_| add());
    walk(
        store,
        UserSort::ALL,
        limit,
        |c, page: &Page<UserSort>| user::list(c, page),
        |user| user.id.to_string(),
        |user, by| match by {
            UserSort::Name => user.name.clone(),
            UserSort::Role => format!("{} {}", user.role, user.name),
            UserSort::CreatedAt => moment(Some(user.created_at)),
            UserSort::LastSignIn => moment(user.last_sign_in),
        },
        add,
    );
    walk(
        store,
        ApiTokenSort::ALL,
        limit,
        |c, page: &Page<ApiTokenSort>| api_token::list(c, owner_id, page),
        |token| token.id.to_string(),
        |token, by| match by {
            ApiTokenSort::CreatedAt => moment(Some(token.created_at)),
            ApiTokenSort::Label => token.label.clone(),
            ApiTokenSort::ExpiresAt => moment(Some(token.expires_at)),
            ApiTokenSort::LastUsed => moment(token.used_at),
        },
        add,
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4) })]

    #[test]
    fn every_order_shows_every_row_once_while_rows_come(seed in 1_u64.., limit in 1_u32..9) {
        on_both(|store| {
            let source = Source(AtomicU64::new(seed));
            hosts(store, &source, limit);
            findings(store, &source, limit);
            entries(store, &source, limit);
            changes(store, &source, limit);
            deployments(store, &source, limit);
            people(store, &source, limit);
        });
    }
}
