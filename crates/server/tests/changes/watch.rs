//! The stream of a change: replayed from any number, live, without gaps.

use super::agent::Conduct;
use super::fleet::{Fleet, LIMIT, settings};
use fettle_testkit::{TestDatabase, client};
use serde_json::{Value, json};

/// Reads events of a stream until one fits; returns all numbers with their data.
async fn read(response: &mut reqwest::Response, buffer: &mut String, until: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        while let Some(end) = buffer.find("\n\n") {
            let block: String = buffer.drain(..end + 2).collect();
            let Some(data) = block.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
            let event: Value = serde_json::from_str(data).unwrap();
            let id = block.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
            assert_eq!(event["number"].to_string(), id);
            let done = until(&event);
            events.push(event);
            if done {
                return events;
            }
        }
        let chunk = tokio::time::timeout(LIMIT, response.chunk())
            .await
            .expect("an event in time")
            .unwrap()
            .expect("the stream goes on");
        buffer.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_misses_nothing_and_goes_on_where_it_was_cut() {
    for database in TestDatabase::all() {
        let mut fleet = Fleet::start(database, settings(1), &[Conduct::Good]).await;
        let path = fleet.ask(json!({})).await;
        let login = json!({ "user": "olga", "password": fettle_testkit::server::PASSWORD });
        let token =
            fleet.server.client().post("/api/v1/login", &login).await.ok()["secret"].as_str().unwrap().to_owned();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(client::tls(fleet.server.state.identity.authority_pem(), None))
            .no_proxy()
            .build()
            .unwrap();
        let open = async |last: Option<u64>| {
            let mut request = http.get(format!("{}{path}/events", fleet.server.url())).bearer_auth(&token);
            if let Some(last) = last {
                request = request.header("last-event-id", last.to_string());
            }
            request.send().await.unwrap()
        };
        let mut stream = open(None).await;
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        let mut buffer = String::new();
        let first = read(&mut stream, &mut buffer, |event| event["event"] == "create").await;
        assert_eq!(first[0]["number"], 1);
        drop(stream);
        // Much happens while nobody listens.
        let cut_at = 1;
        let url = fleet.server.url();
        fleet.approve(&path).await;
        let mut stream = http
            .get(format!("{url}{path}/events"))
            .bearer_auth(&token)
            .header("last-event-id", cut_at.to_string())
            .send()
            .await
            .unwrap();
        let mut buffer = String::new();
        let missed =
            read(&mut stream, &mut buffer, |event| event["event"] == "approve" && event["machine"] == "plan").await;
        fleet.act(&path, "start").await;
        fleet.run_until(&path, &["completed"]).await;
        let live = read(&mut stream, &mut buffer, |event| event["event"] == "close").await;
        let numbers: Vec<u64> =
            first.iter().chain(&missed).chain(&live).map(|event| event["number"].as_u64().unwrap()).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
        let output = live.iter().find(|event| event["machine"] == "output").expect("live output");
        assert_eq!(output["lines"][0], "Unpacking libexpat1 …");
        assert_eq!(output["host_name"], "web-1");
        let words: Vec<String> = live
            .iter()
            .filter(|event| event["machine"] == "deployment")
            .map(|event| event["state"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            words,
            ["offered", "queued", "fetching", "ready", "applying", "checking", "succeeded", "succeeded"],
            "the last is its proof"
        );
        drop(stream);
        let denied = fleet.server.client().get(&format!("{path}/events")).await;
        assert_eq!(denied.status, 401);
    }
}
