//! Checking in: a digest as a sign of life, and what changed since the server last acknowledged.

use super::network::Network;
use super::{Exit, FIRST_WAIT, LONGEST_WAIT, RunError};
use crate::channel::{Answer, ChannelError, Request};
use crate::clock::{self, Backoff, jittered};
use crate::disk::state;
use crate::inventory::{Acknowledged, Snapshot};
use crate::link::renewal::{Tended, tend};
use crate::status::LastContact;
use fettle_domain::Timestamp;
use fettle_domain::package::InstalledPackage;
use fettle_wire::agent::{CheckIn, CheckInReply, PackagesReport, Section, SectionDigests};
use std::sync::Mutex;
use std::time::Duration;

/// Bounds of the interval that a server may ask for.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(86_400);
/// Rounds of one check-in: the digest and changes, then what the server wants whole, then once more
/// for a host that changed in between.
const ROUNDS: usize = 3;

/// What checking in remembers.
pub(super) struct CheckIns {
    kept: Mutex<Acknowledged>,
    answered_at: Mutex<Option<Timestamp>>,
    /// In place of what the server asks for.
    interval: Mutex<Option<Duration>>,
}

impl CheckIns {
    pub(super) fn new(kept: Acknowledged) -> Self {
        Self { kept: Mutex::new(kept), answered_at: Mutex::new(None), interval: Mutex::new(None) }
    }

    pub(super) fn set_interval(&self, interval: Option<Duration>) {
        *clock::lock(&self.interval) = interval;
    }
}

/// What is sent, and the packages that it speaks of.
struct Prepared {
    request: CheckIn,
    packages: Option<Vec<InstalledPackage>>,
    trouble: Option<String>,
}

impl Network {
    /// Checks in again and again: at the interval, and when something was done.
    pub(super) async fn check_in_loop(&self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while !self.is_ending() {
            let wait = match self.unless_ending(self.check_in()).await {
                None => return,
                Some(Ok(next)) => {
                    backoff.reset();
                    jittered(next)
                }
                Some(Err(error)) => {
                    let wait = backoff.next_wait();
                    match &error {
                        RunError::Client(error) => self.failed("check-in", error, wait),
                        other => tracing::error!(error.text = %other, "the inventory cannot be taken or kept"),
                    }
                    wait
                }
            };
            self.pause(wait, Some(&self.changed)).await;
        }
    }

    /// One check-in with all that the server needs. Returns when the next is due.
    pub(super) async fn check_in(&self) -> Result<Duration, RunError> {
        let mut result = self.check_in_rounds().await;
        match self.tend_identity(&result).await {
            Tended::Renewed if result.is_err() => result = self.check_in_rounds().await,
            Tended::Instead(error) => result = Err(error.into()),
            Tended::Renewed | Tended::NewIdentity | Tended::Nothing => {}
        }
        if result.is_ok() {
            // A version of the agent that is on trial proves itself by this.
            self.executor.ask(Request::Answered).await?;
        }
        let now = clock::now();
        let mut answered_at = clock::lock(&self.check_ins.answered_at);
        if result.is_ok() {
            *answered_at = Some(now);
        }
        let error = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let contact = LastContact { answered_at: *answered_at, tried_at: now, error, link: self.client.link() };
        // Only for `fettle agent status`: a full disk must not keep the host silent.
        if let Err(error) = state::write_json(&self.state.last_contact(), &contact) {
            tracing::warn!(error.text = %error, "the last contact cannot be noted");
        }
        let reply = result?;
        let asked = Duration::from_secs(reply.next_seconds).clamp(SHORTEST, LONGEST);
        Ok(clock::lock(&self.check_ins.interval).unwrap_or(asked))
    }

    /// Renews the certificate when it is time; the copy of another host ends, to begin as its own.
    async fn tend_identity(&self, result: &Result<CheckInReply, RunError>) -> Tended {
        let outcome = match result {
            Ok(reply) => Ok(reply.server_time),
            Err(RunError::Client(error)) => Err(error),
            Err(_) => return Tended::Nothing,
        };
        let tended = tend(&self.client, &self.state, outcome).await;
        if matches!(tended, Tended::NewIdentity) {
            self.end.send_replace(Some(Exit::NewIdentity));
        }
        tended
    }

    async fn check_in_rounds(&self) -> Result<CheckInReply, RunError> {
        let mut want = Vec::new();
        let mut answer = None;
        for _ in 0..ROUNDS {
            let Prepared { mut request, packages, trouble } = self.prepare(&want).await?;
            request.chain = self.client.next_link();
            let reply = self.client.check_in(&request).await?;
            self.note_clock(reply.server_time);
            if let Some(error) = trouble {
                return Err(RunError::Work(format!("cannot list the packages: {error}")));
            }
            if reply.want.is_empty() {
                clock::lock(&self.check_ins.kept).store(request.digests, packages.as_deref())?;
                return Ok(reply);
            }
            want.clone_from(&reply.want);
            answer = Some(reply);
        }
        clock::lock(&self.check_ins.kept).forget()?;
        tracing::warn!(sections.wanted = ?want, "the server still wants sections that it was sent: they are sent again at the next check-in");
        answer.ok_or_else(|| RunError::Work("no check-in was made".to_owned()))
    }

    /// Has the host looked at and puts together what the server needs.
    async fn prepare(&self, want: &[Section]) -> Result<Prepared, RunError> {
        let server_has = clock::lock(&self.check_ins.kept).digests().clone();
        let whole = want.contains(&Section::Packages);
        let look = Request::Look { server_has: server_has.clone(), whole };
        let Answer::Snapshot { snapshot } = self.executor.ask(look).await? else {
            return Err(ChannelError::Other.into());
        };
        self.client.note_facts(&snapshot.facts);
        let kept = clock::lock(&self.check_ins.kept);
        Ok(put_together(*snapshot, &kept, &server_has, want))
    }

    fn note_clock(&self, server: Timestamp) {
        let now = clock::now();
        let apart = now.until(server).max(server.until(now));
        if apart > Duration::from_secs(300) {
            tracing::warn!(
                clock.apart_seconds = apart.as_secs(),
                "the clocks of this host and the server differ: windows and expiry go by this host's"
            );
        }
    }
}

fn put_together(snapshot: Snapshot, kept: &Acknowledged, server_has: &SectionDigests, want: &[Section]) -> Prepared {
    let Snapshot { digests, facts, services, packages, trouble } = snapshot;
    let facts = (digests.facts != server_has.facts || want.contains(&Section::Facts)).then_some(facts);
    let services = (digests.services != server_has.services || want.contains(&Section::Services)).then_some(services);
    let report = packages.as_ref().and_then(|packages| {
        if want.contains(&Section::Packages) {
            Some(PackagesReport::Complete { packages: packages.clone() })
        } else if digests.packages == server_has.packages {
            None
        } else {
            Some(kept.report(packages.clone()))
        }
    });
    let request = CheckIn {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        time: clock::now(),
        digests,
        chain: None,
        facts,
        packages: report,
        services,
    };
    Prepared { request, packages, trouble }
}
