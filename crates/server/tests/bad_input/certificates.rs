//! Certificates: none, of another authority, of a host where people are asked, of a revoked host.

use super::agent::{Agent, refused};
use super::wire::Wire;
use fettle_domain::HostId;
use fettle_server::clock;
use fettle_testkit::{Setup, TestDatabase, TestServer};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn another_authoritys_certificate_ends_in_the_handshake() {
    let (server, other) = (TestServer::start(), TestServer::start());
    let admin = server.administrator().await;
    let agent = Agent::known(&server, &admin, "web-1").await;
    let before = agent.kept(&server).await;
    // The very name of a host that is known here, by an authority that is not.
    let stranger = other.host_certificate(agent.id);
    for request in ["POST /agent/v1/check-in", "GET /agent/v1/work", "POST /agent/v1/report", "GET /healthz"] {
        let alert = Wire::alert(&server, &stranger, request).await;
        assert!(alert.contains("UnknownCA") || alert.contains("DecryptError"), "{request}: {alert}");
    }
    // A certificate that its host signed itself, and one that a host signed for another.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wish = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    wish.distinguished_name.push(rcgen::DnType::CommonName, agent.id.to_string());
    let own = (wish.self_signed(&key).unwrap().pem(), key.serialize_pem());
    let host_key = rcgen::KeyPair::from_pem(&agent.certificate.1).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&agent.certificate.0, host_key).unwrap();
    let by_host =
        (format!("{}{}", wish.signed_by(&key, &issuer).unwrap().pem(), agent.certificate.0), key.serialize_pem());
    for certificate in [own, by_host] {
        let alert = Wire::alert(&server, &certificate, "GET /agent/v1/work").await;
        assert!(alert.contains("fatal alert"), "{alert}");
    }
    assert_eq!(agent.kept(&server).await, before);
    agent.speaks().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_a_certificate_speaks_for_a_host() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let agent = Agent::known(&server, &admin, "web-1").await;
    let before = agent.kept(&server).await;
    // Also an administrator's token is no certificate.
    for client in [server.client(), admin.clone()] {
        let whole = serde_json::to_value(agent.whole()).unwrap();
        for reply in [
            client.post("/agent/v1/check-in", &whole).await,
            client.get("/agent/v1/work?after=0&wait=0").await,
            client.post("/agent/v1/report", &json!({ "entries": [] })).await,
        ] {
            refused(&reply, 401, "certificate-required");
            assert!(reply.json["advice"].as_str().unwrap().contains("fettle host token create"), "{reply:?}");
        }
    }
    assert_eq!(agent.kept(&server).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_certificate_opens_nothing_in_the_api() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let agent = Agent::known(&server, &admin, "web-1").await;
    let login = admin.post("/api/v1/tokens", &json!({ "label": "stolen", "hours": 1 })).await.ok();
    let with_token = agent.client.clone().bearer(login["secret"].as_str().unwrap());
    for client in [agent.client.clone(), with_token] {
        for path in ["/api/v1/hosts", "/api/v1/whoami", "/api/v1/audit", "/api/v1/findings", "/api/v1/feeds"] {
            refused(&client.get(path).await, 403, "denied");
        }
        refused(&client.post("/api/v1/hosts/web-1/revoke", &json!({ "reason": "x" })).await, 403, "denied");
        refused(&client.post("/api/v1/login", &json!({ "user": "admin", "password": "x" })).await, 403, "denied");
    }
    agent.speaks().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_is_refused_everywhere_from_the_next_request_on() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let agent = Agent::known(&server, &admin, "web-1").await;
        let bystander = Agent::known(&server, &admin, "web-2").await;
        let ask = |agent: &Agent| {
            let (client, whole) = (agent.client.clone(), serde_json::to_value(agent.whole()).unwrap());
            async move {
                [
                    client.post("/agent/v1/check-in", &whole).await,
                    client.get("/agent/v1/work?after=0&wait=0").await,
                    client.post("/agent/v1/report", &json!({ "entries": [] })).await,
                ]
            }
        };
        // The connections stay open: it is no matter of the next handshake.
        for reply in ask(&agent).await {
            reply.ok();
        }
        admin.post("/api/v1/hosts/web-1/revoke", &json!({ "reason": "stolen" })).await.ok();
        let before = agent.kept(&server).await;
        for reply in ask(&agent).await {
            refused(&reply, 403, "host-revoked");
            assert!(reply.json["advice"].as_str().unwrap().contains("enrol it anew"), "{reply:?}");
        }
        assert_eq!(agent.kept(&server).await, before, "what was known of it stays readable");
        // One that never was, with a true certificate: the same words.
        let unknown = server.host_client(clock::fresh::<HostId>());
        refused(&unknown.get("/agent/v1/work").await, 403, "host-revoked");
        refused(&unknown.post("/agent/v1/report", &json!({ "entries": [] })).await, 403, "host-revoked");
        for reply in ask(&bystander).await {
            reply.ok();
        }
        assert_eq!(admin.get("/api/v1/audit/verify").await.ok()["intact"], true);
    }
}
