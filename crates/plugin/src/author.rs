//! The author's kit: a [`Feed`] or a [`Provider`] becomes a program that speaks the protocol on its standard
//! input and output. `fettle plugin serve NAME` is the built-in ones served so.
//!
//! One request is carried out at a time; cancels are read meanwhile. When the host is gone, what is under way is
//! told to stop, and the program ends after it.

use crate::feed::{Document, Feed};
use crate::protocol::*;
use crate::provider::{Provider, ProviderContext, ProviderEvents};
use crate::scratch;
use crate::{ErrorKind, Plugin, PluginError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Largest document that is read.
const DOCUMENT_LIMIT: u64 = 512 << 20;
/// Requests that may wait.
const QUEUE: usize = 16;

/// What is served.
pub enum Served<'a> {
    /// A feed.
    Feed(&'a dyn Feed),
    /// A provider.
    Provider(&'a dyn Provider),
}

/// Serves a feed on standard input and output, with the working directory as its scratch folder.
pub fn serve_feed(feed: &dyn Feed) -> io::Result<()> {
    serve(&Served::Feed(feed), Path::new("."), io::stdin(), io::stdout())
}

/// Serves a provider on standard input and output.
pub fn serve_provider(provider: &dyn Provider) -> io::Result<()> {
    serve(&Served::Provider(provider), Path::new("."), io::stdin(), io::stdout())
}

/// Serves until `input` ends.
pub fn serve(
    served: &Served<'_>,
    scratch: &Path,
    input: impl Read + Send,
    output: impl Write + Send,
) -> io::Result<()> {
    let desk = Desk::new(output);
    desk.line(&HelloLine { hello: hello(served) })?;
    let (send, receive) = mpsc::sync_channel(QUEUE);
    std::thread::scope(|scope| {
        scope.spawn(|| read_lines(input, &desk, send));
        for request in receive {
            let id = request.id;
            let answered = answer(served, scratch, &desk, request);
            desk.answer(id, answered)?;
        }
        Ok(())
    })
}

/// What a plug-in says of itself.
pub fn hello(served: &Served<'_>) -> Hello {
    let plugin: &dyn Plugin = match served {
        Served::Feed(feed) => *feed,
        Served::Provider(provider) => *provider,
    };
    let manifest = plugin.manifest();
    let (feed, provider) = match served {
        Served::Feed(feed) => (Some(FeedHello { url: feed.url().to_owned() }), None),
        Served::Provider(provider) => {
            let said = ProviderHello {
                ecosystem: provider.ecosystem().to_string(),
                commands: manifest.commands,
                root: manifest.root,
                database_files: provider.database_files(),
            };
            (None, Some(said))
        }
    };
    Hello { versions: vec![VERSION], name: manifest.name, title: manifest.title, feed, provider }
}

/// What reader and worker share.
struct Desk<W> {
    output: Mutex<W>,
    /// The latest request that should stop.
    cancelled: AtomicU64,
    /// The host is gone.
    gone: AtomicBool,
}

impl<W: Write> Desk<W> {
    fn new(output: W) -> Self {
        Self { output: Mutex::new(output), cancelled: AtomicU64::new(0), gone: AtomicBool::new(false) }
    }

    fn line(&self, message: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(message)?;
        if text.len() > LINE_LIMIT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the line is longer than the protocol allows"));
        }
        text.push(b'\n');
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(&text)?;
        output.flush()
    }

    fn answer(&self, id: u64, answer: Result<Box<RawValue>, PluginError>) -> io::Result<()> {
        let reply = match answer {
            Ok(ok) => Reply { id, ok: Some(ok), ..Reply::default() },
            Err(error) => Reply { id, err: Some(error.into()), ..Reply::default() },
        };
        match self.line(&reply) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let error = PluginError::new(ErrorKind::Failed, "the answer is longer than a line may be");
                self.line(&Reply { id, err: Some(error.into()), ..Reply::default() })
            }
            written => written,
        }
    }

    fn stops(&self, id: u64) -> bool {
        self.gone.load(Ordering::Relaxed) || self.cancelled.load(Ordering::Relaxed) == id
    }
}

/// A request that could be read as one.
struct Asked {
    id: u64,
    version: u32,
    method: String,
    params: Box<RawValue>,
    deadline: Instant,
}

/// Reads lines until there are no more. What is no request is refused at once, and spoils no other.
fn read_lines<W: Write>(input: impl Read, desk: &Desk<W>, send: mpsc::SyncSender<Asked>) {
    let mut input = BufReader::new(input);
    while let Ok(Some(line)) = next_line(&mut input) {
        let read = match line {
            Line::Whole(bytes) => asked(&bytes),
            Line::TooLong => Err(invalid(format!("a line is longer than {LINE_LIMIT} bytes"))),
        };
        let told = match read {
            Ok(Some(Said::Ask(request))) => match send.send(request) {
                Ok(()) => Ok(()),
                Err(_) => break,
            },
            Ok(Some(Said::Cancel(id))) => {
                desk.cancelled.store(id, Ordering::Relaxed);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => desk.answer(0, Err(error)),
        };
        if told.is_err() {
            break;
        }
    }
    desk.gone.store(true, Ordering::Relaxed);
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// The next line; of one that is too long, the rest is read and forgotten.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let mut too_long = false;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(match (bytes.is_empty(), too_long) {
                (true, false) => None,
                (_, true) => Some(Line::TooLong),
                (false, false) => Some(Line::Whole(bytes)),
            });
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        if bytes.len() + part.len() > LINE_LIMIT {
            too_long = true;
            bytes = Vec::new();
        } else if !too_long {
            bytes.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(Some(if too_long { Line::TooLong } else { Line::Whole(bytes) }));
        }
    }
}

enum Said {
    Ask(Asked),
    Cancel(u64),
}

fn asked(line: &[u8]) -> Result<Option<Said>, PluginError> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let line: HostLine =
        serde_json::from_slice(line).map_err(|error| invalid(format!("a line is no message: {error}")))?;
    if let Some(id) = line.cancel {
        return Ok(Some(Said::Cancel(id)));
    }
    let (Some(version), Some(id), Some(method)) = (line.v, line.id, line.method) else {
        return Err(invalid("a line has neither `cancel` nor all of `v`, `id` and `method`".to_owned()));
    };
    let params = line.params.unwrap_or_else(|| RawValue::NULL.to_owned());
    let left = Duration::from_millis(line.deadline_ms.unwrap_or(60_000));
    let deadline = Instant::now().checked_add(left).ok_or_else(|| invalid("the deadline never comes".to_owned()))?;
    Ok(Some(Said::Ask(Asked { id, version, method, params, deadline })))
}

fn invalid(message: String) -> PluginError {
    PluginError::new(ErrorKind::InvalidInput, message)
}

/// Carries one request out.
fn answer<W: Write + Send>(
    served: &Served<'_>,
    scratch: &Path,
    desk: &Desk<W>,
    asked: Asked,
) -> Result<Box<RawValue>, PluginError> {
    if asked.version != VERSION {
        let message = format!("the request is of version {}, this plug-in speaks {VERSION}", asked.version);
        return Err(PluginError::new(ErrorKind::Unsupported, message));
    }
    if desk.stops(asked.id) {
        return Err(PluginError::new(ErrorKind::Unavailable, "a stop was asked for before it began"));
    }
    match served {
        Served::Feed(feed) => of_feed(*feed, scratch, &asked),
        Served::Provider(provider) => of_provider(*provider, desk, &asked),
    }
}

fn params<T: DeserializeOwned>(asked: &Asked) -> Result<T, PluginError> {
    serde_json::from_str(asked.params.get())
        .map_err(|error| invalid(format!("the params of {} cannot be read: {error}", asked.method)))
}

fn ok(value: &impl Serialize) -> Result<Box<RawValue>, PluginError> {
    to_raw_value(value).map_err(|error| {
        PluginError::new(ErrorKind::Failed, "the answer cannot be written as JSON").caused_by(error.to_string())
    })
}

fn unknown(asked: &Asked) -> PluginError {
    let method: String = asked.method.chars().filter(|c| !c.is_control()).take(80).collect();
    PluginError::new(ErrorKind::Unsupported, format!("there is no method `{method}`"))
}

fn of_feed(feed: &dyn Feed, scratch: &Path, asked: &Asked) -> Result<Box<RawValue>, PluginError> {
    match asked.method.as_str() {
        FEED_RECOGNISES => {
            let DocumentParams { document } = params(asked)?;
            let bytes = taken(scratch, &document)?;
            ok(&Recognised { recognised: feed.recognises(Document { name: &document.name, bytes: &bytes }) })
        }
        FEED_READ => {
            let DocumentParams { document } = params(asked)?;
            let bytes = taken(scratch, &document)?;
            let content = feed.read(Document { name: &document.name, bytes: &bytes })?;
            let facts = content.facts.into_iter().map(|(vulnerability, facts)| FactMessage { vulnerability, facts });
            let problems =
                content.problems.into_iter().map(|it| ProblemMessage { place: it.place, message: it.message });
            ok(&ReadAnswer {
                advisories: lines(scratch, content.advisories.into_iter())?,
                facts: lines(scratch, facts)?,
                problems: problems.collect(),
            })
        }
        _ => Err(unknown(asked)),
    }
}

fn taken(scratch: &Path, document: &DocumentMessage) -> Result<Vec<u8>, PluginError> {
    scratch::take(scratch, &document.file, DOCUMENT_LIMIT).map_err(|error| invalid(error.to_string()))
}

/// A file of one JSON object a line.
fn lines<T: Serialize>(scratch: &Path, values: impl Iterator<Item = T>) -> Result<Option<FileMessage>, PluginError> {
    let mut bytes = Vec::new();
    let cannot = |error: io::Error| {
        PluginError::new(ErrorKind::Failed, format!("cannot write into the scratch folder: {error}"))
    };
    for value in values {
        serde_json::to_writer(&mut bytes, &value).map_err(|error| cannot(error.into()))?;
        bytes.push(b'\n');
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    scratch::put(scratch, &bytes).map(Some).map_err(cannot)
}

fn of_provider<W: Write + Send>(
    provider: &dyn Provider,
    desk: &Desk<W>,
    asked: &Asked,
) -> Result<Box<RawValue>, PluginError> {
    let events = Events { desk, id: asked.id };
    let around = |host: HostMessage| ProviderContext {
        root: host.root,
        events: &events,
        deadline: asked.deadline,
        lock_patience: Duration::from_millis(host.lock_patience_ms),
        limits: host.limits.map(Into::into).unwrap_or_default(),
    };
    match asked.method.as_str() {
        PROVIDER_INVENTORY => {
            let HostParams { host } = params(asked)?;
            ok(&InventoryAnswer { packages: provider.inventory(&around(host))? })
        }
        PROVIDER_STATE_DIGEST => {
            let HostParams { host } = params(asked)?;
            ok(&DigestAnswer { digest: provider.state_digest(&around(host))? })
        }
        PROVIDER_CANDIDATES => {
            let CandidatesParams { host, refresh } = params(asked)?;
            ok(&CandidatesAnswer { candidates: provider.candidates(&around(host), refresh)? })
        }
        PROVIDER_REHEARSE => {
            let RehearseParams { host, job, refresh } = params(asked)?;
            ok(&RehearseAnswer { outcome: provider.rehearse(&around(host), &job, refresh)? })
        }
        PROVIDER_APPLY => {
            let ApplyParams { host, request } = params(asked)?;
            ok(&AppliedAnswer { applied: provider.apply(&around(host), &request)? })
        }
        PROVIDER_UNDO => {
            let UndoParams { host, request, applied } = params(asked)?;
            ok(&AppliedAnswer { applied: provider.undo(&around(host), &request, applied.as_ref())? })
        }
        PROVIDER_VERIFY => {
            let VerifyParams { host, manifest, reverted } = params(asked)?;
            let unreached = provider.verify(&around(host), &manifest, reverted)?;
            let unreached = unreached.into_iter().map(|(step, found)| UnreachedStep { step, found }).collect();
            ok(&VerifyAnswer { unreached })
        }
        PROVIDER_RECOVER => {
            let HostParams { host } = params(asked)?;
            ok(&RecoverAnswer { mended: provider.recover(&around(host))? })
        }
        PROVIDER_SET_HOLD => {
            let HoldParams { host, names, held } = params(asked)?;
            ok(&HoldAnswer { changed: provider.set_hold(&around(host), &names, held)? })
        }
        _ => Err(unknown(asked)),
    }
}

/// Passes what a provider tells on to the host.
struct Events<'a, W> {
    desk: &'a Desk<W>,
    id: u64,
}

impl<W: Write + Send> ProviderEvents for Events<'_, W> {
    fn output(&self, line: &str) {
        let event = Reply { id: self.id, event: Some("log".into()), line: Some(line.into()), ..Reply::default() };
        // Output that nobody can read is no reason to stop what changes the host.
        let _ = self.desk.line(&event);
    }

    fn progress(&self, percent: u8, what: &str) {
        let event = Reply {
            id: self.id,
            event: Some("progress".into()),
            percent: Some(percent),
            what: Some(what.into()),
            ..Reply::default()
        };
        let _ = self.desk.line(&event);
    }

    fn cancelled(&self) -> bool {
        self.desk.stops(self.id)
    }
}
