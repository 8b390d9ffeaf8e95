//! Logs fetched from hosts, and hosts known from files.

use fettle_domain::machine::{HostEvent, HostState};
use fettle_domain::{ChangeId, DeploymentId, HostId, LogRequestId, PlanId, RolloutId, Timestamp};
use fettle_store::systems::deployment::{self, NewDeployment};
use fettle_store::systems::host::{self, HostFactsColumns};
use fettle_store::systems::host_import::{self, HostImport};
use fettle_store::systems::log_request::{self, LogRequest};
use fettle_store::{Connection, Store, StoreError};
use fettle_testkit::on_both;

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + second * 1000)
}

fn host_id(number: u8) -> HostId {
    HostId::new(1_764_000_000_000 + u64::from(number), [7; 10])
}

fn deployment_id(number: u8) -> DeploymentId {
    DeploymentId::new(1_764_000_000_000 + u64::from(number), [8; 10])
}

fn request(number: u8, deployment: u8) -> LogRequest {
    LogRequest {
        id: LogRequestId::new(1_764_000_000_000 + u64::from(number), [9; 10]),
        deployment: deployment_id(deployment),
        host: host_id(1),
        asked_by: "ada".into(),
        asked_at: at(0),
        expires_at: at(100),
        done: false,
        missing: String::new(),
        most_bytes: 1000,
        bytes: 0,
        next_line: 1,
        heard_at: None,
    }
}

/// Rows that the requests refer to.
fn deployments(connection: &mut Connection) -> fettle_store::Result<()> {
    use fettle_store::systems::change::{self, NewChange};
    use fettle_store::systems::plan::{self, NewPlan};
    use fettle_store::systems::rollout::{self, RolloutRecord};
    let (change, plan_id) = (ChangeId::new(1, [1; 10]), PlanId::new(1, [2; 10]));
    change::change_create(
        connection,
        &NewChange {
            id: change,
            title: "t".into(),
            reason: String::new(),
            requester: "ada".into(),
            requester_id: None,
            specification: "{}".into(),
        },
        at(0),
    )?;
    let new = NewPlan { id: plan_id, change, answer_until: at(9), window_start: None, window_end: at(99), asked: 1 };
    plan::plan_create(connection, &new, at(0))?;
    let rollout = RolloutRecord {
        id: RolloutId::new(1, [1; 10]),
        plan: plan_id,
        change,
        state: fettle_domain::machine::RolloutState::Scheduled,
        generation: 1,
        start_at: at(0),
        window_end: at(99),
        changed_at: at(0),
    };
    rollout::rollout_create(connection, &rollout, 1)?;
    for number in 1..=3 {
        let new = NewDeployment {
            id: deployment_id(number),
            rollout: rollout.id,
            plan: plan_id,
            change,
            wave: 1,
            host: host_id(number),
            host_name: format!("h{number}"),
        };
        deployment::deployment_create(connection, &new, at(0))?;
    }
    Ok(())
}

fn add(store: &Store, from: &LogRequest, lines: &'static str, next: u64, done: bool) -> bool {
    let (request, after) = (from.clone(), LogRequest { next_line: next, bytes: from.bytes + 10, done, ..from.clone() });
    store.write_blocking(move |c| log_request::log_part_add(c, &request, lines, &after, at(5))).unwrap()
}

#[test]
fn a_log_comes_in_order_is_read_from_any_line_and_is_forgotten() {
    on_both(|store| {
        store.write_blocking(deployments).unwrap();
        store.write_blocking(|c| log_request::log_request_put(c, &request(1, 1))).unwrap();
        let of = |deployment: u8| {
            store.read_blocking(move |c| log_request::log_request_of(c, deployment_id(deployment))).unwrap()
        };
        assert_eq!(of(1), Some(request(1, 1)));
        let waiting = |second| {
            store.read_blocking(move |c| log_request::log_requests_of_host(c, host_id(1), at(second), 9)).unwrap()
        };
        assert_eq!((waiting(0).len(), waiting(100).len()), (1, 0), "what is over is not asked for");
        assert!(add(store, &request(1, 1), "[1]", 10, false));
        assert!(!add(store, &request(1, 1), "[1]", 10, false), "the same part again is not taken");
        let now = of(1).unwrap();
        assert_eq!((now.next_line, now.bytes, now.heard_at), (10, 10, Some(at(5))));
        assert!(add(store, &now, "[10]", 20, true));
        let parts = |from| {
            let id = request(1, 1).id;
            store.read_blocking(move |c| log_request::log_parts(c, id, from, 9)).unwrap()
        };
        assert_eq!(
            (parts(1), parts(9), parts(10), parts(500)),
            (
                vec!["[1]".to_owned(), "[10]".into()],
                vec!["[1]".to_owned(), "[10]".into()],
                vec!["[10]".to_owned()],
                vec!["[10]".to_owned()]
            )
        );
        assert_eq!(waiting(0).len(), 0, "done is done");

        // A new request takes the place of the former, with all that came.
        store.write_blocking(|c| log_request::log_request_put(c, &request(2, 1))).unwrap();
        assert_eq!(parts(1), [] as [String; 0]);
        // Room is made from what was answered, the oldest first, and from what is over.
        let done = of(1).unwrap();
        assert!(add(store, &done, "[]", 2, true));
        store.write_blocking(|c| log_request::log_request_put(c, &request(3, 2))).unwrap();
        let tidy =
            |second, most| store.write_blocking(move |c| log_request::log_requests_tidy(c, at(second), most)).unwrap();
        assert_eq!(tidy(0, 1), 1);
        assert_eq!((of(1), of(2).is_some()), (None, true));
        assert_eq!(tidy(0, 0), 1, "what was not answered stays");
        assert_eq!(tidy(100, 9), 0);
    });
}

#[test]
fn a_host_from_a_file_is_known_again_and_never_falls_silent() {
    on_both(|store| {
        let facts = HostFactsColumns { name: "island".into(), json: "{}".into(), ..HostFactsColumns::default() };
        let import = HostImport {
            host: host_id(1),
            machine_id: "aa".into(),
            product_uuid: String::new(),
            made_at: at(1),
            made_by: "fettle 0.1.0".into(),
            made_for: "joe".into(),
            missing: vec!["x".into()],
            imported_at: at(50),
            imported_by: "ada".into(),
        };
        let kept = import.clone();
        store
            .write_blocking(move |c| {
                host::host_create_imported(c, host_id(1), &facts, "ada", at(50))?;
                host::host_create(
                    c,
                    host_id(2),
                    &HostFactsColumns { name: "web".into(), ..facts.clone() },
                    "0.1.0",
                    at(50),
                )?;
                host_import::host_import_put(c, &kept)?;
                host_import::host_import_put(c, &kept)
            })
            .unwrap();
        assert_eq!(store.read_blocking(|c| host_import::host_import_get(c, host_id(1))).unwrap(), Some(import));
        assert_eq!(store.read_blocking(|c| host_import::host_import_get(c, host_id(2))).unwrap(), None);
        let record = store.read_blocking(|c| host::host_get(c, host_id(1))).unwrap();
        assert_eq!((record.state, record.last_seen), (HostState::Imported, at(1)), "it is as of then");
        assert_eq!(store.read_blocking(host::host_counts).unwrap()[&HostState::Imported], 1);
        let like = |machine: &'static str, product: &'static str, name: &'static str| {
            let found = store.read_blocking(move |c| host_import::hosts_like(c, machine, product, name)).unwrap();
            found.into_iter().map(|(id, ..)| id).collect::<Vec<_>>()
        };
        assert_eq!(like("aa", "", "other"), [host_id(1)]);
        assert_eq!(like("", "", "island"), [host_id(1)]);
        assert_eq!(like("aa", "", "web"), [host_id(1), host_id(2)]);
        assert_eq!(like("", "", "other"), [] as [HostId; 0], "what is unknown is like nothing");
        let quiet = store.read_blocking(|c| host::host_quiet_since(c, at(9_999), 10)).unwrap();
        assert_eq!(quiet, [host_id(2)], "the silence of a machine without network is not told");
        let moved = store.write_blocking(|c| host::host_transition(c, host_id(1), HostEvent::Report, "x", &[], at(60)));
        assert!(matches!(moved, Err(StoreError::Illegal(_))), "{moved:?}");
        store.write_blocking(|c| host::host_transition(c, host_id(1), HostEvent::Retire, "ada", &[], at(60))).unwrap();
        assert_eq!(like("aa", "", "island"), [] as [HostId; 0], "who is gone is not known again");
    });
}
