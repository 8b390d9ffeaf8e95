//! The executor against a network-facing half that somebody has taken over: it can say whatever it
//! likes and still changes nothing.

use super::trust::Trust;
use super::{Executor, Served};
use crate::channel::{FromExecutor, FromNetwork, Request};
use crate::disk::StateDir;
use crate::run::{Exit, RunOptions};
use fettle_content::{SigningKey, envelope};
use fettle_domain::HostId;
use fettle_wire::agent::{SectionDigests, WorkItem};
use fettle_wire::offer::{Envelope, EnvelopeSignature, OFFER_TYPE};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

struct Attacked {
    executor: Arc<Executor>,
    _folder: tempfile::TempDir,
}

fn key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap()
}

fn executor() -> Attacked {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    let offer_keys = vec![key().public().to_base64()];
    Trust { host: HostId::new(1, [0; 10]), offer_keys }.store(&state).unwrap();
    drop(state);
    let options = RunOptions {
        state_dir: folder.path().to_owned(),
        root: folder.path().to_owned(),
        policy: folder.path().join("policy.toml"),
        read_only: false,
        once: false,
        check_in_seconds: None,
        providers: Vec::new(),
        owner: None,
        network: None,
        launcher: None,
    };
    Attacked { executor: Arc::new(Executor::open(&options).unwrap()), _folder: folder }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Sends raw bytes and hears how the executor takes it.
fn told(bytes: &[u8]) -> String {
    let attacked = executor();
    block_on(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(bytes).await.unwrap();
        match attacked.executor.serve(ours).await {
            Served::Gone(why) => why,
            Served::Goodbye(exit) => panic!("{exit:?}"),
        }
    })
}

fn framed(json: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(json.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

#[test]
fn what_is_no_message_ends_the_conversation() {
    assert!(told(&[0xff; 4]).contains("4294967295 bytes"));
    for json in [
        r#"{"id":1,"request":{"run":{"command":"/bin/sh"}}}"#,
        r#"{"id":1,"request":"reports","also":"this"}"#,
        r#"{"id":1,"request":{"take":{"items":[],"command":"x"}}}"#,
        r#"{"id":1,"request":{"take":{"items":[{"kind":"run","argv":["sh"]}]}}}"#,
        "[",
    ] {
        let why = told(&framed(json));
        assert!(why.contains("cannot be understood"), "{json}: {why}");
    }
    let deep = format!(r#"{{"id":1,"request":{}}}"#, "[".repeat(100_000));
    assert!(told(&framed(&deep)).contains("cannot be understood"));
}

/// Asks one thing after the other and hears the answers.
async fn ask(socket: &mut UnixStream, id: u64, request: Request) -> serde_json::Value {
    let json = serde_json::to_string(&FromNetwork { id, request }).unwrap();
    socket.write_all(&framed(&json)).await.unwrap();
    loop {
        let length = socket.read_u32().await.unwrap();
        let mut bytes = vec![0; length as usize];
        socket.read_exact(&mut bytes).await.unwrap();
        if let FromExecutor::Answer { id: answered, .. } = serde_json::from_slice(&bytes).unwrap()
            && answered == id
        {
            return serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["answer"]["answer"].clone();
        }
    }
}

#[test]
fn an_order_of_its_own_making_is_refused_and_it_says_so_to_nobody_but_itself() {
    let attacked = executor();
    let own_key = key();
    let signed = envelope::sign(&own_key, OFFER_TYPE, b"{\"action\":\"deploy\"}");
    let envelope = Envelope {
        payload_type: OFFER_TYPE.to_owned(),
        payload: signed.payload,
        signatures: vec![EnvelopeSignature { keyid: signed.key_id, sig: signed.signature }],
    };
    block_on(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let attack = async {
            let other = ask(&mut theirs, 1, Request::Hello { version: "0.0.0".to_owned() }).await;
            assert!(other["refused"]["why"].as_str().unwrap().contains("restart the agent"), "{other}");
            let taken = ask(&mut theirs, 2, Request::Take { items: vec![WorkItem::Offer { envelope }] }).await;
            assert_eq!(taken["taken"]["all"], true);
            let reports = ask(&mut theirs, 3, Request::Reports).await;
            let entry = &reports["reports"]["entries"][0]["body"];
            assert_eq!(
                (&entry["kind"], &entry["reasons"][0]["topic"]),
                (&"refused".into(), &"order.not-believed".into())
            );
            // Acknowledging what never was does no harm.
            let done = ask(&mut theirs, 4, Request::Acknowledge { up_to: u64::MAX }).await;
            assert_eq!(done, "done");
            let looked =
                ask(&mut theirs, 5, Request::Look { server_has: SectionDigests::default(), whole: true }).await;
            assert!(looked["snapshot"].is_object(), "{looked}");
            let json =
                serde_json::to_string(&FromNetwork { id: 6, request: Request::Goodbye { exit: Ok(Exit::Stopped) } });
            theirs.write_all(&framed(&json.unwrap())).await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = attacked.executor.serve(ours) => assert!(matches!(served, Served::Goodbye(Ok(Exit::Stopped))), "{served:?}"),
            () = attack => unreachable!(),
        }
    });
    assert!(attacked.executor.state().deployment_ids().unwrap().is_empty());
    // The next half finds an executor that still tells what happens.
    let mut spool = crate::clock::lock(&attacked.executor.host.spool);
    let body = fettle_wire::agent::ReportBody::Output {
        deployment: fettle_domain::DeploymentId::new(1, [0; 10]),
        lines: vec!["x".to_owned()],
    };
    spool.add(body, None).unwrap();
    assert_eq!(spool.batch().unwrap().len(), 2, "nothing is lost by a forged acknowledgement");
}
