//! What the halves say to each other. Both are the same program, so there is one form: a difference
//! of versions is told by the first message and ends the conversation.

use crate::inventory::Snapshot;
use crate::run::Exit;
use fettle_domain::{DeploymentId, HostId, LogRequestId};
use fettle_wire::agent::{ReportEntry, SectionDigests, WorkItem};
use fettle_wire::log::LogPart;
use serde::{Deserialize, Serialize};

/// From the network-facing half.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FromNetwork {
    /// Repeated in the answer.
    pub(crate) id: u64,
    pub(crate) request: Request,
}

/// What the network-facing half may ask for. There is no request that names a command, a file, or
/// anything to be done that is not inside a signed order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// The first: are both halves of one build?
    Hello { version: String },
    /// Look at the host. The packages come along when they are not what the server has, or when `whole`.
    Look { server_has: SectionDigests, whole: bool },
    /// What the server sent.
    Take { items: Vec<WorkItem> },
    /// What is to be reported next.
    Reports,
    /// The server has stored every entry up to this one.
    Acknowledge { up_to: u64 },
    /// A part of the log that is kept of a deployment, from a line on; secrets are masked in it.
    Log { request: LogRequestId, deployment: DeploymentId, from: u64, most_bytes: u64 },
    /// The server has answered a check-in of this half.
    Answered,
    /// `--once`: carry out everything that is due.
    CarryOut,
    /// The last: how the network-facing half ended, or what kept it from its work.
    Goodbye { exit: Result<Exit, String> },
}

/// From the executor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum FromExecutor {
    /// To a request.
    Answer { id: u64, answer: Box<Answer> },
    /// Unasked.
    Notice { notice: Notice },
}

/// Answers, in the order of the requests.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Answer {
    /// Whose orders the executor obeys, and the interval of the administrator's own file.
    Welcome { host: HostId, check_in_seconds: Option<u64> },
    /// The host as it is.
    Snapshot { snapshot: Box<Snapshot> },
    /// False when something was left with the server for later.
    Taken { all: bool },
    /// Entries of the spool; `live` while a deployment's output goes on.
    Reports { entries: Vec<ReportEntry>, live: bool },
    /// A part of a kept log.
    Log { part: Box<LogPart> },
    /// Acknowledged.
    Done,
    /// What was due has been carried out; whether a deployment failed, and what kept one from going on.
    CarriedOut { failed: bool, problem: Option<String> },
    /// It cannot be done; why.
    Refused { why: String },
}

/// What the executor says unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Notice {
    /// There is something to report.
    Reports,
    /// The host was changed: check in.
    Changed,
    /// The agent stops: report what there is, then say goodbye.
    End,
}
