//! One request from beginning to end: fetch, read, store, feed by feed. A feed that fails keeps its
//! last good data and does not stop the others.

use super::fetch::{self, Fetched};
use super::{folder, unpack};
use crate::{AppState, clock};
use fettle_content::sha256_hex;
use fettle_domain::advisory::FeedName;
use fettle_plugin::{Document, Feed, FeedContent, Problem};
use fettle_store::patches::feed::{self, FeedRecord};
use fettle_store::patches::feed_request::{self, FeedProgress, FeedRequest};
use fettle_store::patches::{advisory, vulnerability};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Facts in one write: the writer serves others in between.
const FACTS: usize = 4000;
/// Problems kept with a feed.
const PROBLEMS: usize = 50;

/// What was read for one feed, with where it came from.
struct Harvest {
    content: FeedContent,
    etag: String,
    last_modified: String,
}

/// Serves a request. Whatever happens is told in its progress.
pub async fn serve(state: &AppState, client: &Result<reqwest::Client, String>, request: FeedRequest) {
    let names: Vec<FeedName> = state
        .feeds
        .iter()
        .map(|feed| feed.name())
        .filter(|name| request.names.is_empty() || request.names.contains(&name.0))
        .collect();
    let board = Board::new(state.clone(), request.id, &names);
    let reporter = board.clone();
    let ticking = tokio::spawn(async move { reporter.tick().await });
    if request.source.is_empty() || request.source.contains("://") {
        for name in &names {
            from_url(state, client, name, &request.source, &board).await;
        }
    } else {
        let asked = !request.names.is_empty();
        from_directory(state, &request.source, &names, asked, &board).await;
    }
    ticking.abort();
    board.finish().await;
    state.nudges.gathering.notify_one();
}

async fn from_url(
    state: &AppState,
    client: &Result<reqwest::Client, String>,
    name: &FeedName,
    base: &str,
    board: &Board,
) {
    let Some(index) = state.feeds.iter().position(|feed| feed.name() == *name) else { return };
    let Some(publisher) = state.feeds.get(index) else { return };
    let url = address(publisher.as_ref(), base);
    let client = match client {
        Ok(client) => client,
        Err(error) => return settle(state, name, &url, Err(error.clone()), board).await,
    };
    let wanted = name.clone();
    let known = state.store.read(move |connection| feed::feed_get(connection, &wanted)).await.ok().flatten();
    // A condition only makes sense against the very same source.
    let (etag, last_modified) = match &known {
        Some(record) if record.source == url => (record.etag.clone(), record.last_modified.clone()),
        _ => Default::default(),
    };
    board.set(name, |progress| progress.phase = "fetching".into());
    let fetched = fetch::fetch(client, &url, &etag, &last_modified, &mut |bytes, total| {
        board.set(name, |progress| (progress.bytes, progress.total) = (bytes, total));
    })
    .await;
    match fetched {
        Ok(Fetched::Unchanged) => {
            board.set(name, |progress| progress.phase = "unchanged".into());
            note_unchanged(state, name).await;
        }
        Ok(Fetched::Document { bytes, etag, last_modified }) => {
            board.set(name, |progress| progress.phase = "reading".into());
            let feeds = state.feeds.clone();
            let place = url.clone();
            let read = tokio::task::spawn_blocking(move || {
                let feed = feeds.get(index).ok_or("the feed is gone")?;
                read_bytes(feed.as_ref(), &place, &bytes)
            })
            .await;
            let read = read.unwrap_or_else(|error| Err(format!("reading {url} ended abruptly: {error}")));
            settle(state, name, &url, read.map(|content| Harvest { content, etag, last_modified }), board).await;
        }
        Err(error) => settle(state, name, &url, Err(error), board).await,
    }
}

/// The publisher's own address, or the file of that name below another base URL (a mirror).
fn address(feed: &dyn Feed, base: &str) -> String {
    if base.is_empty() {
        return feed.url().to_owned();
    }
    if !base.ends_with('/') {
        return base.to_owned();
    }
    let file = feed.url().rsplit('/').next().unwrap_or_default();
    format!("{base}{file}")
}

fn read_bytes(feed: &dyn Feed, place: &str, bytes: &[u8]) -> Result<FeedContent, String> {
    let mut content = FeedContent::default();
    unpack::each_document(place, bytes, &mut |name, plain| read_document(feed, name, plain, &mut content))?;
    Ok(content)
}

fn read_document(feed: &dyn Feed, name: &str, bytes: &[u8], into: &mut FeedContent) -> Result<(), String> {
    let read = feed.read(Document { name, bytes }).map_err(|error| {
        let advice = if error.advice.is_empty() { String::new() } else { format!(" ({})", error.advice) };
        format!("{name}: {error}{advice}")
    })?;
    into.advisories.extend(read.advisories);
    into.facts.extend(read.facts);
    into.problems.extend(read.problems);
    Ok(())
}

/// Reads a directory; every document goes to the feed that recognises it. A feed without one is a failure
/// where it was `asked` for by name.
async fn from_directory(state: &AppState, directory: &str, names: &[FeedName], asked: bool, board: &Board) {
    let feeds = state.feeds.clone();
    let wanted: Vec<FeedName> = names.to_vec();
    let root = directory.to_owned();
    let progress = board.clone();
    let sorted =
        tokio::task::spawn_blocking(move || sort_documents(&feeds, &wanted, Path::new(&root), &progress)).await;
    let sorted = sorted.unwrap_or_else(|error| Err(format!("reading {directory} ended abruptly: {error}")));
    let (harvests, left_out) = match sorted {
        Ok(sorted) => sorted,
        Err(error) => {
            for name in names {
                settle(state, name, directory, Err(error.clone()), board).await;
            }
            return;
        }
    };
    let nothing_at_all = harvests.iter().all(Option::is_none);
    for (name, harvest) in names.iter().zip(harvests) {
        let read = match harvest {
            Some(read) => read.map(|mut content| {
                // Whose they are cannot be told: who loads a feed beside them has to know of them.
                content.problems.extend(left_out.iter().cloned());
                Harvest { content, etag: String::new(), last_modified: String::new() }
            }),
            None => {
                let error = absent(directory, &left_out);
                if !(nothing_at_all || asked || !left_out.is_empty()) {
                    board.set(name, |progress| (progress.phase, progress.error) = ("absent".into(), error));
                    continue;
                }
                Err(error)
            }
        };
        settle(state, name, directory, read, board).await;
    }
}

/// What is said of a feed without a document in the directory.
fn absent(directory: &str, left_out: &[Problem]) -> String {
    let mut text = format!("{directory} holds no document of this feed; the last good data stays in use");
    if let Some(first) = left_out.first() {
        text.push_str(&format!(" ({} files could not be read: {})", left_out.len(), first.message));
    }
    text
}

/// What was read for each feed, and the files that could not be read and may be anybody's.
type Sorted = (Vec<Option<Result<FeedContent, String>>>, Vec<Problem>);

fn sort_documents(feeds: &[Box<dyn Feed>], names: &[FeedName], root: &Path, board: &Board) -> Result<Sorted, String> {
    let mut harvests: Vec<Option<Result<FeedContent, String>>> = names.iter().map(|_| None).collect();
    let mut left_out = Vec::new();
    for path in folder::files(root)? {
        let shown = path.display().to_string();
        let bytes = folder::read(&path)?;
        let mut owners = BTreeSet::new();
        let outcome = unpack::each_document(&shown, &bytes, &mut |name, plain| {
            let document = Document { name, bytes: plain };
            let owner = names
                .iter()
                .position(|wanted| feeds.iter().any(|feed| feed.name() == *wanted && feed.recognises(document)));
            let Some((position, feed)) = owner.and_then(|position| {
                let wanted = names.get(position)?;
                Some((position, feeds.iter().find(|feed| feed.name() == *wanted)?))
            }) else {
                return Ok(());
            };
            let Some(slot) = harvests.get_mut(position) else { return Ok(()) };
            owners.insert(position);
            board.set(&feed.name(), |progress| {
                progress.phase = "reading".into();
                progress.bytes += plain.len() as u64;
            });
            if let Ok(content) = slot.get_or_insert_with(|| Ok(FeedContent::default())) {
                if let Err(error) = read_document(feed.as_ref(), name, plain, content) {
                    *slot = Some(Err(error));
                }
            }
            Ok(())
        });
        let Err(error) = outcome else { continue };
        tracing::warn!(feed.file = %shown, feed.error = %error, "a file of the feed directory was left out");
        for owner in &owners {
            // Half of an archive is not the feed: what its other half says would be forgotten.
            if let Some(slot) = harvests.get_mut(*owner) {
                *slot = Some(Err(error.clone()));
            }
        }
        // Nobody's document, as far as can be told; the others stand.
        if owners.is_empty() {
            left_out.push(Problem { place: shown, message: error });
        }
    }
    Ok((harvests, left_out))
}

/// Stores what was read, or notes why nothing was.
async fn settle(state: &AppState, name: &FeedName, source: &str, read: Result<Harvest, String>, board: &Board) {
    let outcome = match read {
        Ok(harvest) if harvest.content.advisories.is_empty() && harvest.content.facts.is_empty() => {
            Err(format!("{source} holds no usable record of {name}; the last good data stays in use"))
        }
        Ok(harvest) => store(state, name, source, harvest, board).await,
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        tracing::warn!(feed.name = %name, feed.error = %error, "the feed was not loaded; its last good data stays in use");
        board.set(name, |progress| {
            progress.phase = "failed".into();
            progress.error = error.clone();
        });
        let name = name.clone();
        let now = clock::now();
        let noted = state.store.write(move |connection| feed::feed_failed(connection, &name, now, &error)).await;
        if let Err(error) = noted {
            tracing::warn!(feed.error = %error, "cannot note the failed load");
        }
    }
}

async fn store(state: &AppState, name: &FeedName, source: &str, harvest: Harvest, board: &Board) -> Result<(), String> {
    let Harvest { content, etag, last_modified } = harvest;
    let record = FeedRecord {
        name: name.clone(),
        source: source.to_owned(),
        etag,
        last_modified,
        checked_at: clock::now(),
        loaded_at: None,
        advisories: content.advisories.len() as u64,
        facts: content.facts.len() as u64,
        problems: problems(&content),
        last_error: String::new(),
        generation: 0,
    };
    board.set(name, |progress| {
        progress.phase = "storing".into();
        progress.advisories = record.advisories;
        progress.facts = record.facts;
        progress.problems = content.problems.len() as u64;
    });
    let words = |error: fettle_store::StoreError| error.to_string();
    let mut changed = 0;
    let catalogue = name.0 == "cisa-kev";
    if catalogue {
        let listed: Vec<_> = content.facts.iter().map(|(id, _)| id.clone()).collect();
        changed += state
            .store
            .write(move |connection| vulnerability::vulnerability_clear_kev(connection, &listed))
            .await
            .map_err(words)?;
    }
    for chunk in content.facts.chunks(FACTS) {
        let chunk = chunk.to_vec();
        changed += state
            .store
            .write(move |connection| vulnerability::vulnerability_merge(connection, &chunk))
            .await
            .map_err(words)?;
    }
    let advisories = content.advisories;
    let sets = tokio::task::spawn_blocking(move || advisory::advisory_sets(advisories, sha256_hex))
        .await
        .map_err(|error| error.to_string())?
        .map_err(words)?;
    let feed_name = name.clone();
    state
        .store
        .write(move |connection| {
            let sets = advisory::advisory_replace(connection, &feed_name, &sets)?;
            feed::feed_loaded(connection, &record, sets + changed > 0)
        })
        .await
        .map_err(words)?;
    board.set(name, |progress| progress.phase = "loaded".into());
    Ok(())
}

fn problems(content: &FeedContent) -> String {
    let first: Vec<serde_json::Value> = content
        .problems
        .iter()
        .take(PROBLEMS)
        .map(|problem| serde_json::json!({ "place": problem.place, "message": problem.message }))
        .collect();
    serde_json::Value::Array(first).to_string()
}

async fn note_unchanged(state: &AppState, name: &FeedName) {
    let name = name.clone();
    let now = clock::now();
    if let Err(error) = state.store.write(move |connection| feed::feed_unchanged(connection, &name, now)).await {
        tracing::warn!(feed.error = %error, "cannot note the unchanged feed");
    }
}

/// How far a request is: in memory at every step, in the store twice a second.
#[derive(Clone)]
struct Board {
    state: AppState,
    request: i64,
    progress: Arc<Mutex<Vec<FeedProgress>>>,
}

impl Board {
    fn new(state: AppState, request: i64, names: &[FeedName]) -> Self {
        let progress = names
            .iter()
            .map(|name| FeedProgress {
                name: name.0.clone(),
                phase: "waiting".into(),
                bytes: 0,
                total: None,
                advisories: 0,
                facts: 0,
                problems: 0,
                error: String::new(),
            })
            .collect();
        Self { state, request, progress: Arc::new(Mutex::new(progress)) }
    }

    fn set(&self, name: &FeedName, change: impl FnOnce(&mut FeedProgress)) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = progress.iter_mut().find(|entry| entry.name == name.0) {
            change(entry);
        }
    }

    async fn write(&self, done: bool) {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (request, now) = (self.request, clock::now());
        let written = self
            .state
            .store
            .write(move |connection| feed_request::feed_request_progress(connection, request, &progress, done, now))
            .await;
        if let Err(error) = written {
            tracing::warn!(feed.error = %error, "cannot note the progress of a feed request");
        }
    }

    async fn tick(&self) {
        loop {
            self.write(false).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn finish(&self) {
        self.write(true).await;
    }
}
