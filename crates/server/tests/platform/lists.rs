//! Sorted lists from outside: over the API, and as the pages' own links lead.

use axum::http::HeaderMap;
use fettle_domain::HostId;
use fettle_domain::machine::HostEvent;
use fettle_server::api::{PREFIX, endpoints};
use fettle_server::ops::{self, columns};
use fettle_store::systems::host::{self, HostFactsColumns, HostSort};
use fettle_store::systems::{api_token, audit, change, deployment, finding, user};
use fettle_testkit::server::PASSWORD;
use fettle_testkit::{Client, Setup, TestDatabase, TestServer};
use serde_json::Value;
use std::collections::BTreeMap;

/// Forty hosts of few names, systems and states.
async fn fleet(server: &TestServer) {
    server
        .state
        .store
        .write(|c| {
            let now = fettle_server::clock::now();
            for number in 0..40_u8 {
                let id = HostId::new(u64::from(number), [number; 10]);
                let facts = HostFactsColumns {
                    name: format!("web{}", number % 7),
                    os_name: format!("Debian {}", 11 + number % 3),
                    json: "{}".into(),
                    ..HostFactsColumns::default()
                };
                host::host_create(c, id, &facts, "1", now)?;
                if number % 4 > 0 {
                    host::host_transition(c, id, HostEvent::Report, "test", &[], now)?;
                }
            }
            Ok(())
        })
        .await
        .unwrap();
}

#[test]
fn the_documentation_names_the_columns_that_each_list_can_be_sorted_by() {
    let mut known = BTreeMap::from([
        ("/hosts", columns::<HostSort>()),
        ("/findings", columns::<finding::FindingSort>()),
        ("/changes", columns::<change::ChangeSort>()),
        ("/changes/{id}/deployments", columns::<deployment::DeploymentSort>()),
        ("/audit", columns::<audit::AuditSort>()),
        ("/users", columns::<user::UserSort>()),
        ("/tokens", columns::<api_token::ApiTokenSort>()),
    ]);
    for endpoint in endpoints() {
        let Some(field) = endpoint.query.iter().find(|field| field.name == "sort") else { continue };
        let columns = known.remove(endpoint.path).unwrap_or_else(|| panic!("{} is sorted by what?", endpoint.path));
        let named = field.summary.split(';').next().unwrap().replace(" (when absent)", "").replace(" or ", ", ");
        assert_eq!(named.split(", ").collect::<Vec<_>>(), columns, "{}", endpoint.path);
    }
    assert!(known.is_empty(), "not documented: {known:?}");
}

/// All items of a list, page by page.
async fn whole(client: &Client, address: &str) -> Vec<Value> {
    let (mut items, mut next) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("{PREFIX}{address}{next}")).await.ok();
        items.extend(page["items"].as_array().unwrap().clone());
        let Some(after) = page["next"].as_str() else { return items };
        next = format!("&after={after}");
    }
}

#[tokio::test]
async fn every_list_is_paged_in_every_order_it_names() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let administrator = server.administrator().await;
        fleet(&server).await;
        for column in columns::<HostSort>() {
            for sort in [column.to_owned(), format!("-{column}")] {
                let hosts = whole(&administrator, &format!("/hosts?limit=7&sort={sort}")).await;
                let mut ids: Vec<&str> = hosts.iter().map(|host| host["id"].as_str().unwrap()).collect();
                let mut keys: Vec<&str> = hosts.iter().map(|host| host[column].as_str().unwrap()).collect();
                if sort.starts_with('-') {
                    keys.reverse();
                }
                assert!(keys.is_sorted(), "{sort}: {keys:?}");
                ids.sort_unstable();
                ids.dedup();
                assert_eq!(ids.len(), 40, "{sort}");
            }
        }
        // A page in the order before has no place in another one.
        let page = administrator.get("/api/v1/hosts?limit=7&sort=os").await.ok();
        let next = page["next"].as_str().unwrap();
        let reply = administrator.get(&format!("/api/v1/hosts?sort=-os&after={next}")).await;
        assert_eq!((reply.status, reply.json["field"].as_str()), (422, Some("after")), "{reply:?}");
        for (path, named) in [
            ("/hosts", "name, state, os, last_seen"),
            ("/findings", "priority, vulnerability, source, first_seen"),
            ("/changes", "number, title, requester"),
            ("/audit", "sequence, actor, action, object"),
            ("/users", "name, role, created_at, last_sign_in"),
            ("/tokens", "created_at, label, expires_at, last_used"),
        ] {
            for column in named.split(", ") {
                administrator.get(&format!("{PREFIX}{path}?sort=-{column}&limit=1")).await.ok();
            }
            let reply = administrator.get(&format!("{PREFIX}{path}?sort=password%27--")).await;
            assert_eq!((reply.status, reply.problem(), reply.json["field"].as_str()), (422, "invalid", Some("sort")));
            assert!(reply.json["advice"].as_str().unwrap().contains(named), "{reply:?}");
            let reply = administrator.get(&format!("{PREFIX}{path}?after=WyJ4Il0")).await;
            assert_eq!((reply.status, reply.json["field"].as_str()), (422, Some("after")), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn a_narrowed_list_offers_the_orders_that_can_be_served() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    for (path, served) in [
        ("/findings?source=linux", "priority, source"),
        ("/findings?vulnerability=CVE-2026-1", "priority, vulnerability"),
        ("/findings?vulnerability=CVE-2026-1&source=linux", "priority, vulnerability, source"),
        ("/findings?text=linux", "priority"),
        (
            "/findings?host=host_018f0000-0071-7000-8000-000000000000&text=x",
            "priority, vulnerability, source, first_seen",
        ),
        ("/audit?actor=admin", "sequence, actor"),
        ("/audit?action=user.&object=olga", "sequence, action, object"),
    ] {
        for column in served.split(", ") {
            administrator.get(&format!("{PREFIX}{path}&sort=-{column}")).await.ok();
        }
        let all =
            if path.starts_with("/audit") { columns::<audit::AuditSort>() } else { columns::<finding::FindingSort>() };
        for column in all.into_iter().filter(|column| !served.contains(column)) {
            let reply = administrator.get(&format!("{PREFIX}{path}&sort={column}")).await;
            assert_eq!((reply.status, reply.json["field"].as_str()), (422, Some("sort")), "{path} {column}");
            assert!(reply.json["detail"].as_str().unwrap().contains("narrowed like this"), "{reply:?}");
            assert!(reply.json["advice"].as_str().unwrap().contains(served), "{reply:?}");
        }
    }
    // The pages show such heads as words, and forget an order that a search takes away.
    let browser = browser(&server).await;
    let shown = page(&browser, "/audit?sort=action&actor=admin").await;
    assert_eq!(head(&shown, "#").1, "descending");
    assert!(shown.contains("<th scope=\"col\">Action</th>") && shown.matches("aria-sort").count() == 1, "{shown}");
}

async fn browser(server: &TestServer) -> Client {
    let address = "192.0.2.1".parse().unwrap();
    let session = ops::account::sign_in(&server.state, address, &HeaderMap::new(), "admin", PASSWORD).await.unwrap();
    server.client().with("cookie", session.cookie().unwrap().to_str().unwrap().split(';').next().unwrap())
}

async fn page(browser: &Client, address: &str) -> String {
    let reply = browser.get(address).await;
    assert_eq!(reply.status, 200, "{address}: {}", reply.text);
    reply.text
}

/// The link of a column's head and how it says that the list is sorted by it.
fn head(page: &str, words: &str) -> (String, String) {
    let cell = page.split("<th ").find(|cell| cell.contains(&format!(">{words}<span class=\"arrow\""))).unwrap();
    let attribute = |name: &str| {
        let found = cell.split_once(&format!("{name}=\"")).map_or("", |(_, rest)| rest.split('"').next().unwrap());
        found.replace("&amp;", "&")
    };
    let opening = cell.split('>').next().unwrap();
    (attribute("href"), if opening.contains("aria-sort") { attribute("aria-sort") } else { String::new() })
}

#[tokio::test]
async fn heads_of_columns_are_links_that_keep_the_filter_and_the_length_of_a_page() {
    let server = TestServer::start();
    server.administrator().await;
    fleet(&server).await;
    let browser = browser(&server).await;
    let first = page(&browser, "/hosts?state=managed&text=web&limit=7").await;
    assert_eq!(head(&first, "Host").1, "ascending", "the list's own order is said too");
    let (by_system, state) = head(&first, "Operating system");
    assert_eq!((by_system.as_str(), state.as_str()), ("/hosts?state=managed&text=web&sort=os&limit=7", ""));
    assert_eq!(head(&first, "Last seen").0, "/hosts?state=managed&text=web&sort=-last_seen&limit=7");

    let sorted = page(&browser, &by_system).await;
    let (turned, state) = head(&sorted, "Operating system");
    assert_eq!((turned.as_str(), state.as_str()), ("/hosts?state=managed&text=web&sort=-os&limit=7", "ascending"));
    assert_eq!(head(&sorted, "Host").1, "");
    assert_eq!(head(&page(&browser, &turned).await, "Operating system").1, "descending");
    // A search and a chip stay in the order.
    assert!(sorted.contains(r#"<input type="hidden" name="sort" value="os">"#));
    assert!(sorted.contains(r#"href="/hosts?state=silent&amp;text=web&amp;sort=os&amp;limit=7""#));

    // The pager's links alone lead through the whole list.
    let (mut address, mut hosts) = (turned, Vec::new());
    loop {
        let shown = page(&browser, &address).await;
        let systems: Vec<String> = shown
            .split("<td data-label=\"System\">")
            .skip(1)
            .map(|cell| cell.split('<').next().unwrap().to_owned())
            .collect();
        assert!((1..=7).contains(&systems.len()), "{address}");
        hosts.extend(systems);
        let Some((before, _)) = shown.split_once("\">Next page") else { break };
        before.rsplit_once("href=\"").unwrap().1.replace("&amp;", "&").clone_into(&mut address);
    }
    assert_eq!(hosts.len(), 30);
    assert!(hosts.windows(2).all(|pair| pair[0] >= pair[1]), "{hosts:?}");

    for (address, words, order) in [
        ("/audit", "#", "descending"),
        ("/audit?sort=actor&limit=2", "Actor", "ascending"),
        ("/users?sort=-role", "Role", "descending"),
        ("/account", "Made", "descending"),
        ("/account?sort=label", "What for", "ascending"),
    ] {
        let shown = page(&browser, address).await;
        assert_eq!(head(&shown, words).1, order, "{address}");
        assert_eq!(shown.matches("aria-sort").count(), 1, "{address}");
    }
    let wrong = browser.get("/hosts?sort=nonsense").await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text.contains("one of name, state, os, last_seen"), "{}", wrong.text);
}
