//! What the databases do for a page of a long table: they go along an index to the page's own rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{Order, Page, Query, SortColumn};
use crate::systems::{audit, change, deployment, finding, host};
use crate::{DatabaseUrl, Dialect, Store};
use fettle_domain::advisory::VulnId;
use fettle_domain::machine::{DeploymentState, FindingState, HostState, Machine as _};
use fettle_domain::{ChangeId, GroupId, HostId};

/// Rows of each long table: enough that reading them all is what a planner would not do by chance.
const ROWS: u32 = 20_000;

/// Fills the long tables by one statement each. `{id}` and `{i}` differ by row.
fn fill(store: &Store) {
    let id = match store.dialect() {
        Dialect::Sqlite => "CAST(printf('%016d', i) AS BLOB)",
        Dialect::Postgres => "convert_to(lpad(CAST(i AS TEXT), 16, '0'), 'UTF8')",
    };
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})");
    let empty = match store.dialect() {
        Dialect::Sqlite => "x''",
        Dialect::Postgres => "CAST('' AS BYTEA)",
    };
    let word = "CASE i % 5 WHEN 0 THEN 'alpha' WHEN 1 THEN 'beta' WHEN 2 THEN 'gamma' ELSE 'delta' END";
    let change = "CASE i WHEN i THEN 1 END";
    let statements = [
        format!(
            "{numbers} INSERT INTO host (id, name, state, generation, agent_version, os_id, os_codename, os_name, reboot_pending,
               restart_pending, facts_digest, services_digest, packages_digest, inventory_mark, enrolled_at, last_seen, offer_sequence,
               clock_apart, cloned_at, likenesses, key_current, key_next, key_former, key_former_until, link, link_before)
             SELECT {id}, {word} || i, CASE i % 7 WHEN 0 THEN 'retired' WHEN 1 THEN 'silent' ELSE 'managed' END, 1, '1', 'debian',
               'bookworm', {word}, 0, 0, {empty}, {empty}, {empty}, 0, 0, i * 7919 % 10007, 0,
               0, 0, 0, {empty}, {empty}, {empty}, 0, {empty}, {empty} FROM n"
        ),
        format!(
            "{numbers} INSERT INTO finding (id, host, source, vulnerability, state, generation, verdict, source_version, packages,
               severity, priority, reasons, first_seen, changed_at)
             SELECT {id}, {id}, {word}, 'CVE-' || (i % 997), CASE i % 3 WHEN 0 THEN 'verified' WHEN 1 THEN 'open' ELSE 'planned' END, 1,
               'affected', '1', '[]', 'high', i * 7919 % 60, '[]', i * 7919 % 10007, 0 FROM n"
        ),
        format!(
            "{numbers} INSERT INTO audit_entry (sequence, at, actor, action, object, detail, digest)
             SELECT i, i, {word}, 'host.' || {word}, {word} || (i % 991), '{{}}', {empty} FROM n"
        ),
        format!(
            "{numbers} INSERT INTO change_request (id, number, title, reason, requester, specification, created_at, events)
             SELECT {id}, i, {word} || (i % 991), '', {word}, '', 0, 0 FROM n"
        ),
        format!(
            "{numbers} INSERT INTO plan (id, change_id, state, generation, answer_until, window_end, head, digest, risk, hosts, asked, changed_at)
             SELECT {id}, {id}, 'draft', 1, 0, 0, '', '', '', 0, 0, 0 FROM n"
        ),
        format!(
            "{numbers} INSERT INTO rollout (id, plan, change_id, state, generation, start_at, window_end, changed_at, open)
             SELECT {id}, {id}, {id}, 'scheduled', 1, 0, 0, 0, 1 FROM n WHERE i <= 9"
        ),
        // Most belong to one change, as they do when a change goes to the whole fleet.
        format!(
            "{numbers} INSERT INTO deployment (id, rollout, plan, change_id, wave, host, host_name, state, generation, created_at, changed_at,
               heard_at, undo_refused, reasons, proof, proof_reasons, output_bytes, anomalies)
             SELECT {id}, {one}, {one}, {one}, 1, {id}, {word} || i, CASE i % 3 WHEN 0 THEN 'succeeded' WHEN 1 THEN 'failed' ELSE 'offered' END,
               1, 0, 0, 0, '', '[]', 'awaited', '[]', 0, 0 FROM n",
            one = id.replace("(i ", &format!("({change} ")).replace(", i)", &format!(", {change})"))
        ),
    ];
    store
        .write_blocking(move |c| {
            for statement in &statements {
                c.execute(statement, &[])?;
            }
            // SQLite is left without statistics: the server keeps none.
            if c.dialect() == Dialect::Postgres { c.batch("ANALYZE") } else { Ok(()) }
        })
        .unwrap();
}

/// Every page of every order goes along `index`, and sorts nothing but what the parts of the page hold.
fn check<C: SortColumn>(store: &Store, table: &str, query: impl Fn(C) -> Query, index: impl Fn(C) -> &'static str) {
    for by in C::ALL {
        for order in [Order::ascending(*by), Order::descending(*by)] {
            let first = Page::first(order, 100);
            let place = store.read_blocking(|c| query(*by).page(c, &first, |_| Ok(()))).unwrap().next;
            assert!(place.is_some(), "{table} by {order} has no second page");
            for page in [first, Page { order, after: place, limit: 100 }] {
                let plan = store.read_blocking(|c| query(*by).explain(c, &page)).unwrap();
                let told =
                    format!("{table} by {order}, {}\n{plan}", if page.after.is_some() { "second" } else { "first" });
                assert!(plan.contains(index(*by)), "not along {}: {told}", index(*by));
                match store.dialect() {
                    Dialect::Sqlite => {
                        let whole = format!("SCAN {table}");
                        let reads = |line: &&str| line.contains(&whole) && !line.contains("USING INDEX");
                        assert_eq!(plan.lines().find(reads), None, "{told}");
                        // A part of the list that is sorted is read whole first; the merge sorts what is left of it.
                        let lines: Vec<&str> = plan.lines().collect();
                        let sorts = |pair: &[&str]| pair[0].starts_with("SEARCH") && pair[1].contains("FOR ORDER BY");
                        assert!(!lines.windows(2).any(sorts), "{told}");
                    }
                    Dialect::Postgres => {
                        assert!(!plan.contains(&format!("Seq Scan on {table}")) && !plan.contains("Bitmap"), "{told}");
                        let rows = |line: &str| line.split_once("rows=")?.1.split(' ').next()?.parse::<u32>().ok();
                        let sorted = plan.lines().filter(|line| line.contains("Sort ")).filter_map(rows).max();
                        assert!(sorted.unwrap_or(0) <= 10 * 101, "{told}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_page_of_a_long_table_is_read_along_an_index_in_every_order() {
    for database in fettle_testkit::TestDatabase::all() {
        let store = Store::open(&DatabaseUrl::parse(&database.url_text()).unwrap()).unwrap();
        fill(&store);
        for state in [None, Some(HostState::Silent)] {
            let filter = host::HostFilter { state, ..host::HostFilter::default() };
            check(
                &store,
                "host",
                |_| host::host_query(&filter, false),
                |by| match by {
                    host::HostSort::Name | host::HostSort::State => "host_by_state_name",
                    host::HostSort::OperatingSystem => "host_by_state_os",
                    host::HostSort::LastSeen => "host_by_state ",
                },
            );
        }
        let narrowed = |states: Vec<FindingState>, least_level| finding::FindingFilter {
            states,
            least_level,
            ..finding::FindingFilter::default()
        };
        for filter in [
            narrowed(Vec::new(), None),
            narrowed(FindingState::STATES.to_vec(), None),
            narrowed(vec![FindingState::Planned], None),
            narrowed(Vec::new(), Some(2)),
        ] {
            check(
                &store,
                "finding",
                |by| finding::finding_query(&filter, by),
                |by| match by {
                    finding::FindingSort::Priority => "finding_by_priority",
                    finding::FindingSort::Vulnerability => "finding_by_vulnerability",
                    finding::FindingSort::Source => "finding_by_source",
                    finding::FindingSort::FirstSeen => "finding_by_first_seen",
                },
            );
        }
        let primary =
            if store.dialect() == Dialect::Sqlite { "sqlite_autoindex_audit_entry" } else { "audit_entry_pkey" };
        check(
            &store,
            "audit_entry",
            |_| audit::query(&audit::AuditFilter::default()),
            |by| match by {
                audit::AuditSort::Sequence => primary,
                audit::AuditSort::Actor => "audit_entry_by_actor",
                audit::AuditSort::Action => "audit_entry_by_action",
                audit::AuditSort::Object => "audit_entry_by_object",
            },
        );
        check(
            &store,
            "change_request",
            |_| change::change_query(&change::ChangeFilter::default()),
            |by| match by {
                change::ChangeSort::Number => "change_request",
                change::ChangeSort::Title => "change_request_by_title",
                change::ChangeSort::Requester => "change_request_by_requester",
            },
        );
        let change = ChangeId::from_bytes(*b"0000000000000001");
        for states in [vec![], vec![DeploymentState::Failed, DeploymentState::Offered]] {
            check(
                &store,
                "deployment",
                |_| deployment::deployment_query(change, &states),
                |by| match by {
                    deployment::DeploymentSort::HostName if states.is_empty() => "deployment_by_change ",
                    _ => "deployment_by_change_state",
                },
            );
        }
        narrowed_lists(&store);
    }
}

/// Narrowed to one host, one flaw, one actor, a list is read along an index of that, in every order it is
/// offered in; few rows are sorted, many stand in the index's own order.
fn narrowed_lists(store: &Store) {
    let small = host::HostFilter { group: Some(GroupId::from_bytes([1; 16])), ..host::HostFilter::default() };
    for by in host::HostSort::ALL {
        let query = host::host_query(&small, true);
        let (sqlite, postgres) =
            ("SEARCH host USING INDEX sqlite_autoindex_host_1 (id=?)", "Index Scan using host_pkey");
        along(store, query, Order::ascending(*by), &[sqlite, postgres]);
    }
    let host = Some(HostId::from_bytes(*b"0000000000000042"));
    let vulnerability = Some(VulnId("CVE-7".into()));
    let source = Some("beta".to_owned());
    let none = finding::FindingFilter::default;
    for (filter, indexes) in [
        (finding::FindingFilter { host, ..none() }, ["finding_by_host", "finding_host_source_vulnerability_key"]),
        (
            finding::FindingFilter { vulnerability: vulnerability.clone(), ..none() },
            ["finding_by_vulnerability", "finding_by_vulnerability"],
        ),
        (finding::FindingFilter { source: source.clone(), ..none() }, ["finding_by_source", "finding_by_source"]),
        (finding::FindingFilter { source, vulnerability, ..none() }, ["finding_by_source", "finding_by_vulnerability"]),
    ] {
        for by in filter.columns() {
            let query = finding::finding_query(&filter, by);
            along(store, query, Order::descending(by), &indexes);
        }
    }
    assert_eq!(finding::FindingFilter { text: Some("x".into()), ..none() }.columns(), [finding::FindingSort::Priority]);
    let none = audit::AuditFilter::default;
    for (filter, index) in [
        (audit::AuditFilter { actor: Some("beta".into()), ..none() }, "audit_entry_by_actor"),
        (audit::AuditFilter { action: Some("host.beta".into()), ..none() }, "audit_entry_by_action"),
        (audit::AuditFilter { object: Some("beta7".into()), ..none() }, "audit_entry_by_object"),
    ] {
        assert_eq!(filter.columns().len(), 2);
        for by in filter.columns() {
            // PostgreSQL knows that every fifth entry fits, and goes along the newest ones.
            along(store, audit::query(&filter), Order::descending(by), &[index, "audit_entry_pkey"]);
        }
    }
}

fn along<C: SortColumn>(store: &Store, query: Query, order: Order<C>, indexes: &[&str]) {
    let plan = store.read_blocking(|c| query.explain(c, &Page::first(order, 100))).unwrap();
    assert!(indexes.iter().any(|index| plan.contains(index)), "not along {indexes:?} by {order}:\n{plan}");
    let whole = |line: &&str| line.contains("Seq Scan") && !line.contains("host_group_member");
    assert_eq!(plan.lines().find(whole), None, "{plan}");
    let few = indexes.iter().any(|index| index.contains("host"));
    let sorts = |pair: &[&str]| pair[0].starts_with("SEARCH") && pair[1].contains("FOR ORDER BY");
    let lines: Vec<&str> = plan.lines().collect();
    assert!(few || !lines.windows(2).any(sorts), "{plan}");
}
