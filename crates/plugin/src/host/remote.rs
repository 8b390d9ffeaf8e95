//! Foreign plug-ins behind the very traits of the built-in ones.

use super::{ASK_ITS_AUTHOR, Launch, Session, Silent, check, fail};
use crate::protocol::*;
use crate::provider::{Applied, Candidate, Provider, ProviderContext, StepRequest};
use crate::scratch;
use crate::{Document, ErrorKind, Feed, FeedContent, Manifest, Plugin, PluginError, Problem};
use fettle_domain::advisory::{Advisory, FeedName, VulnId, VulnerabilityFacts};
use fettle_domain::package::{Ecosystem, InstalledPackage};
use fettle_domain::plan::{self, Job, PackageStep, RehearsalOutcome};
use fettle_domain::reason::Reason;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::io;
use std::time::Instant;

/// Records that are told one by one as not usable; the rest is counted.
const PROBLEMS: usize = 1000;
/// Longest place and message of a problem.
const PROBLEM_TEXT: usize = 500;

fn begin(launch: &Launch, first: &Hello, deadline: Instant) -> Result<Session, PluginError> {
    let session = Session::start(launch, deadline)?;
    if session.hello() != Some(first) {
        return Err(session.broke("says another thing of itself than when it was taken in".to_owned()));
    }
    Ok(session)
}

fn decode<T: DeserializeOwned>(session: &Session, method: &str, answer: &RawValue) -> Result<T, PluginError> {
    serde_json::from_str(answer.get())
        .map_err(|error| session.broke(format!("answered {method} with something else: {error}")))
}

/// What is said of an answer that has the right type and cannot be believed.
fn refused(launch: &Launch, method: &str, what: String) -> PluginError {
    fail(ErrorKind::Failed, format!("the answer of {} to {method} is refused: {what}", launch.name))
        .advise(ASK_ITS_AUTHOR)
}

/// The first hello of a plug-in.
fn introduce(launch: &Launch) -> Result<Hello, PluginError> {
    let session = Session::start(launch, Instant::now() + launch.limits.hello)?;
    let hello = session.hello().cloned().ok_or_else(|| session.broke("said no hello".to_owned()))?;
    session.finish()?;
    Ok(hello)
}

/// A provider that is another program.
#[derive(Debug)]
pub struct StdioProvider {
    launch: Launch,
    hello: Hello,
    about: ProviderHello,
    ecosystem: Ecosystem,
}

impl StdioProvider {
    /// Starts it once, to hear what it is.
    pub fn connect(launch: Launch) -> Result<Self, PluginError> {
        let hello = introduce(&launch)?;
        let Some(about) = hello.provider.clone() else {
            return Err(fail(ErrorKind::Unsupported, format!("{} is a feed, not a provider", launch.name)));
        };
        let ecosystem = Ecosystem::parse(&about.ecosystem).ok_or_else(|| {
            fail(ErrorKind::Unsupported, format!("{} manages an ecosystem nobody knows", launch.name))
        })?;
        Ok(Self { launch, hello, about, ecosystem })
    }

    fn ask<T: DeserializeOwned>(
        &self,
        context: &ProviderContext<'_>,
        method: &str,
        params: &impl Serialize,
        check: impl FnOnce(&T) -> Result<(), String>,
    ) -> Result<T, PluginError> {
        let mut session = begin(&self.launch, &self.hello, context.deadline)?;
        session.govern(&context.limits);
        let answer = session.call(method, params, context.deadline, context.events)?;
        let answer = decode(&session, method, &answer)?;
        session.finish()?;
        check(&answer).map_err(|what| refused(&self.launch, method, what))?;
        Ok(answer)
    }
}

fn host(context: &ProviderContext<'_>) -> HostMessage {
    let patience = u64::try_from(context.lock_patience.as_millis()).unwrap_or(u64::MAX);
    HostMessage { root: context.root.clone(), lock_patience_ms: patience, limits: Some(context.limits.into()) }
}

impl Plugin for StdioProvider {
    fn manifest(&self) -> Manifest {
        Manifest {
            name: self.hello.name.clone(),
            title: self.hello.title.clone(),
            commands: self.about.commands.clone(),
            root: self.about.root,
        }
    }
}

impl Provider for StdioProvider {
    fn ecosystem(&self) -> Ecosystem {
        self.ecosystem
    }

    fn database_files(&self) -> Vec<String> {
        self.about.database_files.clone()
    }

    fn inventory(&self, context: &ProviderContext<'_>) -> Result<Vec<InstalledPackage>, PluginError> {
        let most = self.launch.limits.packages;
        let params = HostParams { host: host(context) };
        let answer: InventoryAnswer = self.ask(context, PROVIDER_INVENTORY, &params, |it: &InventoryAnswer| {
            check::inventory(&it.packages, self.ecosystem, most)
        })?;
        Ok(answer.packages)
    }

    fn state_digest(&self, context: &ProviderContext<'_>) -> Result<String, PluginError> {
        let params = HostParams { host: host(context) };
        let answer: DigestAnswer =
            self.ask(context, PROVIDER_STATE_DIGEST, &params, |it: &DigestAnswer| check::digest(&it.digest))?;
        Ok(answer.digest)
    }

    fn candidates(&self, context: &ProviderContext<'_>, refresh: bool) -> Result<Vec<Candidate>, PluginError> {
        let most = self.launch.limits.packages;
        let params = CandidatesParams { host: host(context), refresh };
        let answer: CandidatesAnswer = self.ask(context, PROVIDER_CANDIDATES, &params, |it: &CandidatesAnswer| {
            check::candidates(&it.candidates, most)
        })?;
        Ok(answer.candidates)
    }

    fn rehearse(
        &self,
        context: &ProviderContext<'_>,
        job: &Job,
        refresh: bool,
    ) -> Result<RehearsalOutcome, PluginError> {
        let params = RehearseParams { host: host(context), job: job.clone(), refresh };
        let answer: RehearseAnswer = self.ask(context, PROVIDER_REHEARSE, &params, |it: &RehearseAnswer| {
            check::outcome(&it.outcome, self.ecosystem)
        })?;
        Ok(answer.outcome)
    }

    fn apply(&self, context: &ProviderContext<'_>, request: &StepRequest) -> Result<Applied, PluginError> {
        let params = ApplyParams { host: host(context), request: request.clone() };
        let answer: AppliedAnswer =
            self.ask(context, PROVIDER_APPLY, &params, |it: &AppliedAnswer| check::applied(&it.applied))?;
        Ok(answer.applied)
    }

    fn undo(
        &self,
        context: &ProviderContext<'_>,
        request: &StepRequest,
        applied: Option<&Applied>,
    ) -> Result<Applied, PluginError> {
        let params = UndoParams { host: host(context), request: request.clone(), applied: applied.cloned() };
        let answer: AppliedAnswer =
            self.ask(context, PROVIDER_UNDO, &params, |it: &AppliedAnswer| check::applied(&it.applied))?;
        Ok(answer.applied)
    }

    fn verify(
        &self,
        context: &ProviderContext<'_>,
        manifest: &plan::Manifest,
        reverted: bool,
    ) -> Result<Vec<(PackageStep, String)>, PluginError> {
        let params = VerifyParams { host: host(context), manifest: manifest.clone(), reverted };
        let known = |it: &VerifyAnswer| match it.unreached.iter().find(|it| !manifest.steps.contains(&it.step)) {
            Some(other) => Err(format!(
                "it speaks of {}, which is no step of the manifest",
                super::session::clean(&other.step.name, 80)
            )),
            None => Ok(()),
        };
        let answer: VerifyAnswer = self.ask(context, PROVIDER_VERIFY, &params, known)?;
        Ok(answer.unreached.into_iter().map(|it| (it.step, super::session::clean(&it.found, PROBLEM_TEXT))).collect())
    }

    fn recover(&self, context: &ProviderContext<'_>) -> Result<Vec<Reason>, PluginError> {
        let params = HostParams { host: host(context) };
        let answer: RecoverAnswer =
            self.ask(context, PROVIDER_RECOVER, &params, |it: &RecoverAnswer| check::reasons(&it.mended))?;
        Ok(answer.mended)
    }

    fn set_hold(
        &self,
        context: &ProviderContext<'_>,
        names: &[String],
        held: bool,
    ) -> Result<Vec<String>, PluginError> {
        let params = HoldParams { host: host(context), names: names.to_vec(), held };
        let known = |it: &HoldAnswer| match it.changed.iter().find(|name| !names.contains(name)) {
            Some(name) => Err(format!("it changed {}, which nobody asked for", super::session::clean(name, 80))),
            None => Ok(()),
        };
        let answer: HoldAnswer = self.ask(context, PROVIDER_SET_HOLD, &params, known)?;
        Ok(answer.changed)
    }
}

/// A feed that is another program.
#[derive(Debug)]
pub struct StdioFeed {
    launch: Launch,
    hello: Hello,
    url: String,
}

impl StdioFeed {
    /// Starts it once, to hear what it is.
    pub fn connect(launch: Launch) -> Result<Self, PluginError> {
        let hello = introduce(&launch)?;
        let Some(FeedHello { url }) = hello.feed.clone() else {
            return Err(fail(ErrorKind::Unsupported, format!("{} is a provider, not a feed", launch.name)));
        };
        Ok(Self { launch, hello, url })
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.launch.limits.feed_call
    }

    fn begin(&self, document: Document<'_>, head: bool) -> Result<(Session, DocumentParams), PluginError> {
        let session = begin(&self.launch, &self.hello, self.deadline())?;
        let cannot = |error: io::Error| {
            fail(ErrorKind::Unavailable, format!("cannot hand {} to {}: {error}", document.name, self.launch.name))
        };
        let document = document_message(session.scratch(), document, head).map_err(cannot)?;
        Ok((session, DocumentParams { document }))
    }

    fn recognises_or_fails(&self, document: Document<'_>) -> Result<bool, PluginError> {
        let (mut session, params) = self.begin(document, true)?;
        let answer = session.call(FEED_RECOGNISES, &params, self.deadline(), &Silent)?;
        let answer: Recognised = decode(&session, FEED_RECOGNISES, &answer)?;
        session.finish()?;
        Ok(answer.recognised)
    }

    /// The lines of an answer file, each read by itself: a wrong one becomes a problem, the others stand.
    fn lines<T: DeserializeOwned>(
        &self,
        session: &Session,
        file: Option<&FileMessage>,
        what: &str,
        problems: &mut Problems,
        mut take: impl FnMut(T) -> Result<(), String>,
    ) -> Result<(), PluginError> {
        let Some(file) = file else { return Ok(()) };
        let bytes = scratch::take(session.scratch(), file, self.launch.limits.answer_file)
            .map_err(|error| refused(&self.launch, FEED_READ, format!("{what}: {error}")))?;
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let taken = serde_json::from_slice(line).map_err(|error| error.to_string()).and_then(&mut take);
            if let Err(message) = taken {
                problems.note(format!("{what} line {}", index + 1), message);
            }
        }
        Ok(())
    }
}

impl Plugin for StdioFeed {
    fn manifest(&self) -> Manifest {
        Manifest::new(&self.hello.name, &self.hello.title)
    }
}

impl Feed for StdioFeed {
    fn name(&self) -> FeedName {
        FeedName(self.hello.name.clone())
    }

    fn url(&self) -> &str {
        &self.url
    }

    /// A plug-in that cannot say so does not recognise the document; why is logged.
    fn recognises(&self, document: Document<'_>) -> bool {
        self.recognises_or_fails(document).unwrap_or_else(|error| {
            tracing::warn!(plugin.name = %self.launch.name, plugin.error = %error, "a foreign feed did not answer");
            false
        })
    }

    fn read(&self, document: Document<'_>) -> Result<FeedContent, PluginError> {
        let (mut session, params) = self.begin(document, false)?;
        let answer = session.call(FEED_READ, &params, self.deadline(), &Silent)?;
        let answer: ReadAnswer = decode(&session, FEED_READ, &answer)?;
        let name = self.name();
        let (mut advisories, mut facts): (Vec<Advisory>, Vec<(VulnId, VulnerabilityFacts)>) = Default::default();
        let mut problems = Problems::of(document.name, answer.problems);
        self.lines(&session, answer.advisories.as_ref(), "advisories", &mut problems, |it: Advisory| {
            check::advisory(&it, &name)?;
            advisories.push(it);
            Ok(())
        })?;
        self.lines(&session, answer.facts.as_ref(), "facts", &mut problems, |it: FactMessage| {
            check::fact(&it.vulnerability.0, &it.facts)?;
            facts.push((it.vulnerability, it.facts));
            Ok(())
        })?;
        session.finish()?;
        Ok(FeedContent { advisories, facts, problems: problems.finish() })
    }
}

/// Hands a document over: all of it, or the head.
pub(crate) fn document_message(
    scratch: &std::path::Path,
    document: Document<'_>,
    head: bool,
) -> io::Result<DocumentMessage> {
    let part = if head { document.bytes.get(..HEAD_LIMIT).unwrap_or(document.bytes) } else { document.bytes };
    let file = scratch::put(scratch, part)?;
    Ok(DocumentMessage { name: document.name.to_owned(), file, whole_size: document.bytes.len() as u64 })
}

/// Problems, as many as people read.
struct Problems {
    document: String,
    noted: Vec<Problem>,
    more: usize,
}

impl Problems {
    fn of(document: &str, said: Vec<ProblemMessage>) -> Self {
        let mut problems = Self { document: document.to_owned(), noted: Vec::new(), more: 0 };
        for ProblemMessage { place, message } in said {
            problems.push(super::session::clean(&place, PROBLEM_TEXT), message);
        }
        problems
    }

    fn note(&mut self, place: String, message: String) {
        let place = format!("{}: {place}", self.document);
        self.push(place, message);
    }

    fn push(&mut self, place: String, message: String) {
        if self.noted.len() < PROBLEMS {
            self.noted.push(Problem { place, message: super::session::clean(&message, PROBLEM_TEXT) });
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<Problem> {
        if self.more > 0 {
            let message = format!("{} more records could not be read", self.more);
            self.noted.push(Problem { place: self.document, message });
        }
        self.noted
    }
}
