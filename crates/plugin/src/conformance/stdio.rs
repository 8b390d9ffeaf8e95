//! What only a program can get wrong: lines, numbers, deadlines, its own end.

use super::provider::Trial;
use super::{FeedCase, ProviderCase, Report, told};
use crate::host::{Launch, Session, StdioProvider};
use crate::protocol::*;
use crate::scratch::Scratch;
use crate::{Document, ErrorKind, PluginError, Provider, Step};
use serde_json::{Value, json};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For an answer that should come at once.
const SOON: Duration = Duration::from_secs(30);
/// For what should not come.
const SILENCE: Duration = Duration::from_millis(300);

type Failing<T> = Result<T, String>;

/// A request that any plug-in of its kind answers, with `ok` or `err`.
pub(super) struct Ordinary {
    method: &'static str,
    document: Option<(String, Vec<u8>)>,
    root: Option<PathBuf>,
    _kept: Option<Arc<Scratch>>,
}

impl Ordinary {
    pub fn of_feed(cases: &[FeedCase]) -> Self {
        let document = cases.first().map(|case| (case.name.clone(), case.bytes.clone()));
        let document = Some(document.unwrap_or_else(|| ("document.json".to_owned(), b"{}".to_vec())));
        Self { method: FEED_RECOGNISES, document, root: None, _kept: None }
    }

    /// On the root of the case, or an empty one.
    pub fn of_provider(launch: &Launch, case: Option<&ProviderCase>) -> io::Result<Self> {
        let (root, kept) = match case {
            Some(case) => (case.root.clone(), case.kept.clone()),
            None => {
                let scratch = Scratch::new(&launch.scratch)?;
                (scratch.path().to_owned(), Some(Arc::new(scratch)))
            }
        };
        Ok(Self { method: PROVIDER_INVENTORY, document: None, root: Some(root), _kept: kept })
    }

    fn params(&self, session: &Session) -> Failing<Value> {
        if let Some((name, bytes)) = &self.document {
            let document = crate::host::document_message(session.scratch(), Document { name, bytes }, true)
                .map_err(|error| error.to_string())?;
            return serde_json::to_value(DocumentParams { document }).map_err(|error| error.to_string());
        }
        let host = HostMessage { root: self.root.clone().unwrap_or_default(), lock_patience_ms: 1000, limits: None };
        serde_json::to_value(HostParams { host }).map_err(|error| error.to_string())
    }
}

/// The first line; without one, nothing else can be tried.
pub(super) fn check_hello(launch: &Launch, report: &mut Report) -> Option<Hello> {
    let heard = start(launch).map(|session| session.hello().cloned());
    let hello = match heard {
        Ok(hello) => hello,
        Err(why) => {
            report.note("hello: versions, name and what it is", Err(why));
            return None;
        }
    };
    report.note("hello: versions, name and what it is", Ok(()));
    let again = start(launch).and_then(|mut session| {
        if session.hello() != hello.as_ref() {
            return Err("started twice, it says two things of itself".to_owned());
        }
        silent(&mut session)
    });
    report.note("hello: the same at every start, and nothing unasked after it", again);
    hello
}

/// Everything about lines.
pub(super) fn check_lines(launch: &Launch, ordinary: &Ordinary, report: &mut Report) {
    let on = |check: fn(&mut Session, &Ordinary) -> Failing<()>| {
        let mut session = start(launch)?;
        check(&mut session, ordinary)?;
        session.finish().map_err(|error| told(&error))
    };
    report.note("lines: one answer, then it ends with its input", ends(launch, ordinary));
    report.note("lines: several requests in one run, each by its number", on(several));
    report.note("lines: an unknown method is unsupported", on(unknown_method));
    report.note("lines: unknown fields are left out", on(unknown_field));
    report.note("lines: a version it does not speak is unsupported", on(other_version));
    report.note("lines: params of another form are invalid_input", on(wrong_params));
    report.note("lines: what is no JSON is refused, and spoils nothing", goes_on(launch, ordinary, b"{no json"));
    let long = vec![b'x'; LINE_LIMIT + 1];
    report.note("lines: an oversize line is refused, and spoils nothing", goes_on(launch, ordinary, &long));
    report.note("cancel: of a request that is not there is left out", on(cancel_nothing));
    report.note("cancel: of a request under way leaves exactly one answer", on(cancel_under_way));
    report.note("deadline: a request whose time is over is answered, or it ends", deadline(launch, ordinary));
    report.note("crash: killed in mid-answer, the next start answers as ever", crash(launch, ordinary));
    if ordinary.document.is_some() {
        report.note("files: a document of another digest is invalid_input", on(other_digest));
        report.note("files: a name that leads elsewhere is a name and no more", on(name_is_a_label));
    }
}

fn start(launch: &Launch) -> Failing<Session> {
    Session::start(launch, Instant::now() + SOON).map_err(|error| told(&error))
}

/// Nothing is said in the next moment.
fn silent(session: &mut Session) -> Failing<()> {
    match session.read_raw(Instant::now() + SILENCE) {
        Ok(line) => Err(format!("unasked, it says {}", String::from_utf8_lossy(&line))),
        Err(_) => Ok(()),
    }
}

/// Sends JSON as a line.
fn send(session: &mut Session, value: &Value) {
    session.write_raw(value.to_string().as_bytes());
}

fn request(session: &Session, ordinary: &Ordinary, id: u64) -> Failing<Value> {
    let params = ordinary.params(session)?;
    Ok(json!({ "v": VERSION, "id": id, "method": ordinary.method, "params": params, "deadline_ms": 30_000 }))
}

/// Puts a value into an object somewhere in JSON.
fn set(json: &mut Value, path: &[&str], value: Value) {
    let Some((last, way)) = path.split_last() else { return };
    let mut place = json;
    for key in way {
        let Some(inner) = place.get_mut(*key) else { return };
        place = inner;
    }
    if let Some(object) = place.as_object_mut() {
        object.insert((*last).to_owned(), value);
    }
}

/// The answer to a request by its number, events passed over.
fn answer(session: &mut Session, id: u64) -> Failing<Reply> {
    let until = Instant::now() + SOON;
    loop {
        let line = session.read_raw(until).map_err(|error| told(&error))?;
        let reply: Reply = serde_json::from_slice(&line)
            .map_err(|error| format!("no reply: {error}: {}", String::from_utf8_lossy(&line)))?;
        if reply.id != id {
            return Err(format!("it answers request {}, asked was {id}", reply.id));
        }
        match (&reply.event, &reply.ok, &reply.err) {
            (Some(_), None, None) => {}
            (None, Some(_), None) | (None, None, Some(_)) => return Ok(reply),
            _ => return Err("a reply is not one of event, ok and err".to_owned()),
        }
    }
}

fn refused_as(reply: &Reply, wanted: ErrorKindMessage) -> Failing<()> {
    match &reply.err {
        Some(error) if error.kind == wanted && !error.message.is_empty() => Ok(()),
        Some(error) => Err(format!("the error is {:?}: {:?}", error.kind, error.message)),
        None => Err("it was answered with ok".to_owned()),
    }
}

/// Asks the ordinary request.
fn ask(session: &mut Session, ordinary: &Ordinary, id: u64) -> Failing<Reply> {
    let line = request(session, ordinary, id)?;
    send(session, &line);
    answer(session, id)
}

/// Asks for it with one thing changed.
fn ask_changed(session: &mut Session, ordinary: &Ordinary, change: impl FnOnce(&mut Value)) -> Failing<Reply> {
    let mut line = request(session, ordinary, 1)?;
    change(&mut line);
    send(session, &line);
    answer(session, 1)
}

fn ends(launch: &Launch, ordinary: &Ordinary) -> Failing<()> {
    let mut session = start(launch)?;
    ask(&mut session, ordinary, 1)?;
    let until = Instant::now() + launch.limits.farewell;
    let process = session.process();
    session.finish().map_err(|error| told(&error))?;
    let ended = !std::path::Path::new(&format!("/proc/{process}")).exists();
    if Instant::now() >= until || !ended {
        return Err(format!("its input ended, it did not within {} s", launch.limits.farewell.as_secs()));
    }
    Ok(())
}

fn several(session: &mut Session, ordinary: &Ordinary) -> Failing<()> {
    for id in [1, 2, 900_000_000_000] {
        ask(session, ordinary, id).map_err(|why| format!("request {id}: {why}"))?;
    }
    Ok(())
}

fn unknown_method(session: &mut Session, ordinary: &Ordinary) -> Failing<()> {
    let reply = ask_changed(session, ordinary, |line| set(line, &["method"], json!("no.such.method")))?;
    refused_as(&reply, ErrorKindMessage::Unsupported)?;
    ask(session, ordinary, 2).map(drop)
}

fn unknown_field(session: &mut Session, ordinary: &Ordinary) -> Failing<()> {
    let usual = ask(session, ordinary, 1)?;
    let mut line = request(session, ordinary, 2)?;
    set(&mut line, &["later"], json!({ "deep": [1, 2] }));
    set(&mut line, &["params", "later"], json!("value"));
    send(session, &line);
    let other = answer(session, 2)?;
    let text = |reply: &Reply| reply.ok.as_ref().map(|ok| ok.get().to_owned());
    if text(&usual) == text(&other) { Ok(()) } else { Err("with unknown fields the answer is another".to_owned()) }
}

fn other_version(session: &mut Session, ordinary: &Ordinary) -> Failing<()> {
    let reply = ask_changed(session, ordinary, |line| set(line, &["v"], json!(4_000_000_000_u32)))?;
    refused_as(&reply, ErrorKindMessage::Unsupported)
}

fn wrong_params(session: &mut Session, ordinary: &Ordinary) -> Failing<()> {
    let reply = ask_changed(session, ordinary, |line| set(line, &["params"], json!({ "host": 7, "document": [] })))?;
    refused_as(&reply, ErrorKindMessage::InvalidInput)?;
    ask(session, ordinary, 2).map(drop)
}

/// After a line that is none, the next request is answered; or the plug-in has ended, and a new one answers.
fn goes_on(launch: &Launch, ordinary: &Ordinary, bad: &[u8]) -> Failing<()> {
    let mut session = start(launch)?;
    session.write_raw(bad);
    match session.read_raw(Instant::now() + SOON) {
        Ok(line) => {
            let reply: Reply = serde_json::from_slice(&line).map_err(|error| format!("no reply: {error}"))?;
            if reply.id != 0 {
                return Err(format!("it answers request {}, which nobody asked", reply.id));
            }
            refused_as(&reply, ErrorKindMessage::InvalidInput)?;
        }
        Err(error) if error.message.contains("ended before") => session = start(launch)?,
        Err(error) => return Err(told(&error)),
    }
    ask(&mut session, ordinary, 1)?;
    session.finish().map_err(|error| told(&error))
}

fn cancel_nothing(session: &mut Session, ordinary: &Ordinary) -> Failing<()> {
    session.cancel(77);
    silent(session)?;
    ask(session, ordinary, 1).map(drop)
}

fn cancel_under_way(session: &mut Session, ordinary: &Ordinary) -> Failing<()> {
    let line = request(session, ordinary, 1)?;
    send(session, &line);
    session.cancel(1);
    answer(session, 1)?;
    silent(session)?;
    ask(session, ordinary, 2).map(drop)
}

fn deadline(launch: &Launch, ordinary: &Ordinary) -> Failing<()> {
    let mut session = start(launch)?;
    let mut line = request(&session, ordinary, 1)?;
    set(&mut line, &["deadline_ms"], json!(0));
    send(&mut session, &line);
    match session.read_raw(Instant::now() + launch.limits.grace) {
        Ok(_) => Ok(()),
        Err(error) if error.message.contains("ended before") => Ok(()),
        Err(error) => Err(told(&error)),
    }
}

fn crash(launch: &Launch, ordinary: &Ordinary) -> Failing<()> {
    let usual = ask(&mut start(launch)?, ordinary, 1)?;
    let mut session = start(launch)?;
    let line = request(&session, ordinary, 1)?;
    send(&mut session, &line);
    // So that it is written. Dropped, it is killed with all it started, wherever it stands.
    let _ = session.read_raw(Instant::now() + Duration::from_millis(2));
    drop(session);
    let next = ask(&mut start(launch)?, ordinary, 1)?;
    let text = |reply: &Reply| reply.ok.as_ref().map(|ok| ok.get().to_owned());
    if text(&usual) == text(&next) { Ok(()) } else { Err("after the crash the answer is another".to_owned()) }
}

fn other_digest(session: &mut Session, ordinary: &Ordinary) -> Failing<()> {
    // It is there, and not what its name says.
    std::fs::write(session.scratch().join("0".repeat(64)), b"{}").map_err(|error| error.to_string())?;
    let reply = ask_changed(session, ordinary, |line| {
        set(line, &["params", "document", "file", "sha256"], json!("0".repeat(64)));
    })?;
    refused_as(&reply, ErrorKindMessage::InvalidInput)
}

fn name_is_a_label(session: &mut Session, ordinary: &Ordinary) -> Failing<()> {
    let usual = ask(session, ordinary, 2)?;
    let name = json!("../../../etc/passwd");
    let reply = ask_changed(session, ordinary, |line| set(line, &["params", "document", "name"], name))?;
    match (&usual.ok, &reply.ok) {
        (Some(_), Some(_)) | (None, None) => Ok(()),
        _ => Err("the name of the document changes whether it can be read".to_owned()),
    }
}

/// Killed in mid-install at several moments, recovered and undone: the host is as before.
pub(super) fn check_killed(
    launch: &Launch,
    provider: &StdioProvider,
    case: Option<&ProviderCase>,
    report: &mut Report,
) {
    let Some(case) = case else { return };
    let trial = Trial { provider: provider as &dyn Provider, case };
    for moment in [0, 30, 200, 1000] {
        let name = format!("crash: killed {moment} ms into an install, recovered and undone: the host is as before");
        report.note(name, killed(launch, &trial, Duration::from_millis(moment)));
    }
}

fn killed(launch: &Launch, trial: &Trial<'_>, moment: Duration) -> Failing<()> {
    let (before, digest) = (trial.inventory()?, trial.digest()?);
    let manifest = trial.manifest()?;
    trial.apply_twice(Step::Fetch, &manifest)?;
    trial.apply_twice(Step::KeepOld, &manifest)?;
    let mut session = start(launch)?;
    let host = HostMessage { root: trial.case.root.clone(), lock_patience_ms: 1000, limits: None };
    let params = ApplyParams { host, request: trial.request(Step::Install, &manifest) };
    let deadline = Instant::now() + SOON;
    let asked: Result<u64, PluginError> = session.ask(PROVIDER_APPLY, &params, deadline);
    let id = asked.map_err(|error| told(&error))?;
    match session.answer_until(id, PROVIDER_APPLY, Instant::now() + moment) {
        Err(error) if error.kind != ErrorKind::Unavailable => return Err(told(&error)),
        _ => drop(session),
    }
    trial.recover()?;
    trial.undo(Step::Install, &manifest, None)?;
    trial.same(&before, &digest)?;
    trial.undo(Step::KeepOld, &manifest, None)?;
    trial.undo(Step::Fetch, &manifest, None)
}
