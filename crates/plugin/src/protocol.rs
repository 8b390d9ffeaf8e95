//! The messages of the plug-in protocol, one JSON object a line. `docs/protocol.md` is the contract that
//! authors read; it carries a hash of the types named here, and a test fails when they change without it.
//!
//! Nothing is untagged or flattened; a reader leaves out the fields it does not know.

use crate::error::{ErrorKind, PluginError};
use crate::provider::{Applied, Candidate, ResourceLimits, StepRequest};
use fettle_domain::advisory::{VulnId, VulnerabilityFacts};
use fettle_domain::package::InstalledPackage;
use fettle_domain::plan::{Job, Manifest, PackageStep, RehearsalOutcome};
use fettle_domain::reason::Reason;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::path::PathBuf;

/// The version of the protocol that these types are.
pub const VERSION: u32 = 1;
/// Longest line in either direction, in bytes, without its end.
pub const LINE_LIMIT: usize = 8 << 20;
/// Of a document that is only to be recognised, at most this many bytes are handed over.
pub const HEAD_LIMIT: usize = 1 << 20;

/// Asks whether a document is one of this feed: [`DocumentParams`], [`Recognised`].
pub const FEED_RECOGNISES: &str = "feed.recognises";
/// Asks for what a document holds: [`DocumentParams`], [`ReadAnswer`].
pub const FEED_READ: &str = "feed.read";
/// Asks for everything installed: [`HostParams`], [`InventoryAnswer`].
pub const PROVIDER_INVENTORY: &str = "provider.inventory";
/// Asks for the digest of the installed set: [`HostParams`], [`DigestAnswer`].
pub const PROVIDER_STATE_DIGEST: &str = "provider.state_digest";
/// Asks for newer versions: [`CandidatesParams`], [`CandidatesAnswer`].
pub const PROVIDER_CANDIDATES: &str = "provider.candidates";
/// Asks for a dry run: [`RehearseParams`], [`RehearseAnswer`].
pub const PROVIDER_REHEARSE: &str = "provider.rehearse";
/// Asks for one act: [`ApplyParams`], [`AppliedAnswer`].
pub const PROVIDER_APPLY: &str = "provider.apply";
/// Asks for the undo of one act: [`UndoParams`], [`AppliedAnswer`].
pub const PROVIDER_UNDO: &str = "provider.undo";
/// Asks what of a manifest is not so: [`VerifyParams`], [`VerifyAnswer`].
pub const PROVIDER_VERIFY: &str = "provider.verify";
/// Asks to finish what was interrupted: [`HostParams`], [`RecoverAnswer`].
pub const PROVIDER_RECOVER: &str = "provider.recover";
/// Asks to put or lift holds: [`HoldParams`], [`HoldAnswer`].
pub const PROVIDER_SET_HOLD: &str = "provider.set_hold";

/// The first line of a plug-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloLine {
    /// What it says of itself.
    pub hello: Hello,
}

/// What a plug-in says of itself. It is either a feed or a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions of the protocol it speaks.
    pub versions: Vec<u32>,
    /// Stable name: `[a-z][a-z0-9-]*`, at most 40 characters.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Present when it is a feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<FeedHello>,
    /// Present when it is a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderHello>,
}

/// What a feed says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedHello {
    /// Where its publisher serves the document; the host fetches.
    pub url: String,
}

/// What a provider says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderHello {
    /// Whose packages it manages: `debian` or `generic`.
    pub ecosystem: String,
    /// Commands that must be present on the host.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Whether acting (not reading) needs root.
    #[serde(default)]
    pub root: bool,
    /// Files and folders below the root that change whenever the inventory would. Empty: asked every time.
    #[serde(default)]
    pub database_files: Vec<String>,
}

/// A request, as the host writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Version of the protocol it is written in.
    pub v: u32,
    /// Number of the request, from 1.
    pub id: u64,
    /// What is asked.
    pub method: String,
    /// With what; the type is the method's.
    pub params: Box<RawValue>,
    /// Milliseconds that are left for the answer.
    pub deadline_ms: u64,
}

/// A wish to stop, as the host writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The request that should end as soon as it is safe.
    pub cancel: u64,
}

/// Any line of the host, as a plug-in reads it: with `cancel` it is a [`Cancel`], else a [`Request`].
#[derive(Debug, Clone, Default, Deserialize)]
pub struct HostLine {
    /// Of a cancel.
    #[serde(default)]
    pub cancel: Option<u64>,
    /// Of a request.
    #[serde(default)]
    pub v: Option<u32>,
    /// Of a request.
    #[serde(default)]
    pub id: Option<u64>,
    /// Of a request.
    #[serde(default)]
    pub method: Option<String>,
    /// Of a request.
    #[serde(default)]
    pub params: Option<Box<RawValue>>,
    /// Of a request.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
}

/// Any line of a plug-in after the first: an event, or the answer (exactly one of `ok` and `err`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Reply {
    /// The request it belongs to; 0 for a line that could not be read as one.
    pub id: u64,
    /// `log` or `progress`; an event of another name is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Of `log`: one line of output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// Of `progress`: 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Of `progress`: what it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// The answer: an object whose type is the method's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<Box<RawValue>>,
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub err: Option<ErrorMessage>,
}

/// Why a request was not answered with what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// For the host's decision.
    pub kind: ErrorKindMessage,
    /// What happened, to what.
    pub message: String,
    /// What to do next, for a person.
    #[serde(default)]
    pub advice: String,
    /// Output or deeper causes, most telling first.
    #[serde(default)]
    pub causes: Vec<String>,
}

/// [`ErrorKind`] on the wire; what a later version adds is read as `unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKindMessage {
    /// This plug-in cannot do that at all.
    Unsupported,
    /// It does not apply to the present state.
    NotApplicable,
    /// The input is wrong.
    InvalidInput,
    /// Not now; worth another try.
    Unavailable,
    /// Not allowed.
    Denied,
    /// Tried and failed.
    Failed,
    /// A kind that this reader does not know.
    #[serde(other)]
    Unknown,
}

impl From<PluginError> for ErrorMessage {
    fn from(error: PluginError) -> Self {
        let kind = match error.kind {
            ErrorKind::Unsupported => ErrorKindMessage::Unsupported,
            ErrorKind::NotApplicable => ErrorKindMessage::NotApplicable,
            ErrorKind::InvalidInput => ErrorKindMessage::InvalidInput,
            ErrorKind::Unavailable => ErrorKindMessage::Unavailable,
            ErrorKind::Denied => ErrorKindMessage::Denied,
            ErrorKind::Failed => ErrorKindMessage::Failed,
        };
        Self { kind, message: error.message, advice: error.advice, causes: error.causes }
    }
}

impl From<ErrorMessage> for PluginError {
    fn from(message: ErrorMessage) -> Self {
        let kind = match message.kind {
            ErrorKindMessage::Unsupported => ErrorKind::Unsupported,
            ErrorKindMessage::NotApplicable => ErrorKind::NotApplicable,
            ErrorKindMessage::InvalidInput => ErrorKind::InvalidInput,
            ErrorKindMessage::Unavailable => ErrorKind::Unavailable,
            ErrorKindMessage::Denied => ErrorKind::Denied,
            ErrorKindMessage::Failed | ErrorKindMessage::Unknown => ErrorKind::Failed,
        };
        Self { kind, message: message.message, advice: message.advice, causes: message.causes }
    }
}

/// A file in the scratch folder. Its name is its digest, whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMessage {
    /// Lowercase hex sha-256 of the bytes, and the name of the file.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// A document as the host fetched, unpacked and capped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentMessage {
    /// File name or archive member name, for messages; never a path to open.
    pub name: String,
    /// Its bytes; with `feed.recognises` at most the first [`HEAD_LIMIT`].
    pub file: FileMessage,
    /// Bytes of the whole document.
    pub whole_size: u64,
}

/// Of `feed.recognises` and `feed.read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentParams {
    /// The document.
    pub document: DocumentMessage,
}

/// Answer to `feed.recognises`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recognised {
    /// Whether it is one of this feed.
    pub recognised: bool,
}

/// Answer to `feed.read`. Advisories and facts are files of one JSON object a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAnswer {
    /// Lines of `Advisory`; absent when there are none.
    #[serde(default)]
    pub advisories: Option<FileMessage>,
    /// Lines of [`FactMessage`]; absent when there are none.
    #[serde(default)]
    pub facts: Option<FileMessage>,
    /// Records that could not be read.
    #[serde(default)]
    pub problems: Vec<ProblemMessage>,
}

/// One line of the facts file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactMessage {
    /// The flaw.
    pub vulnerability: VulnId,
    /// What is known of it.
    pub facts: VulnerabilityFacts,
}

/// A record that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemMessage {
    /// Document and place in it.
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

/// What every request to a provider says of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMessage {
    /// The file system to act on: `/`, or the root directory of an image or chroot.
    pub root: PathBuf,
    /// How long to wait for the package manager's lock.
    pub lock_patience_ms: u64,
    /// What the package manager may take of the host; absent: the usual.
    #[serde(default)]
    pub limits: Option<LimitsMessage>,
}

/// What a package manager may take of the host while it works. Niceness and address space are set for the plug-in
/// before it is asked, and inherited by what it starts; who starts its programs otherwise sets them anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsMessage {
    /// Niceness, 0 to 19.
    pub nice: u8,
    /// Address space of each of its processes, in bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Per cent of one processor.
    #[serde(default)]
    pub cpu_percent: Option<u32>,
}

impl From<ResourceLimits> for LimitsMessage {
    fn from(limits: ResourceLimits) -> Self {
        let ResourceLimits { nice, memory_bytes, cpu_percent } = limits;
        Self { nice, memory_bytes, cpu_percent }
    }
}

impl From<LimitsMessage> for ResourceLimits {
    fn from(message: LimitsMessage) -> Self {
        let LimitsMessage { nice, memory_bytes, cpu_percent } = message;
        Self { nice, memory_bytes, cpu_percent }
    }
}

/// Of `provider.inventory`, `provider.state_digest` and `provider.recover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostParams {
    /// The host.
    pub host: HostMessage,
}

/// Answer to `provider.inventory`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InventoryAnswer {
    /// Everything installed.
    pub packages: Vec<InstalledPackage>,
}

/// Answer to `provider.state_digest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestAnswer {
    /// Lowercase hex sha-256; equal exactly when the installed set is.
    pub digest: String,
}

/// Of `provider.candidates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidatesParams {
    /// The host.
    pub host: HostMessage,
    /// Whether the indexes are fetched first.
    pub refresh: bool,
}

/// Answer to `provider.candidates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidatesAnswer {
    /// All newer versions on offer.
    pub candidates: Vec<Candidate>,
}

/// Of `provider.rehearse`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearseParams {
    /// The host.
    pub host: HostMessage,
    /// What is wanted.
    pub job: Job,
    /// Whether the indexes are fetched first.
    pub refresh: bool,
}

/// Answer to `provider.rehearse`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearseAnswer {
    /// What exactly would happen, or why it cannot be done.
    pub outcome: RehearsalOutcome,
}

/// Of `provider.apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyParams {
    /// The host.
    pub host: HostMessage,
    /// The act.
    pub request: StepRequest,
}

/// Of `provider.undo`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndoParams {
    /// The host.
    pub host: HostMessage,
    /// The act to be undone.
    pub request: StepRequest,
    /// What it left; absent when it was cut off.
    #[serde(default)]
    pub applied: Option<Applied>,
}

/// Answer to `provider.apply` and `provider.undo`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppliedAnswer {
    /// What it left.
    pub applied: Applied,
}

/// Of `provider.verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyParams {
    /// The host.
    pub host: HostMessage,
    /// What should be so.
    pub manifest: Manifest,
    /// Whether the versions before the change are meant.
    pub reverted: bool,
}

/// Answer to `provider.verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyAnswer {
    /// What is not so; empty means proved.
    pub unreached: Vec<UnreachedStep>,
}

/// A package that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreachedStep {
    /// The step of the manifest.
    pub step: PackageStep,
    /// The state found.
    pub found: String,
}

/// Answer to `provider.recover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverAnswer {
    /// What was mended.
    pub mended: Vec<Reason>,
}

/// Of `provider.set_hold`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldParams {
    /// The host.
    pub host: HostMessage,
    /// Package names.
    pub names: Vec<String>,
    /// Put (true) or lift.
    pub held: bool,
}

/// Answer to `provider.set_hold`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldAnswer {
    /// Names that changed.
    pub changed: Vec<String>,
}
