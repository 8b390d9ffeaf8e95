//! The conformance suite: what `docs/protocol.md` and the traits promise, tried out on a plug-in.
//!
//! The halves on the traits ([`check_feed`], [`check_provider`]) take any `dyn Feed` or `dyn Provider`, built-in or
//! behind [`crate::host`]; [`over_stdio`] adds what only a program can get wrong. `cargo xtask check-plugin EXE`
//! runs it.

mod feed;
mod fixtures;
mod provider;
mod stdio;

pub use feed::{Content, FeedCase, check_feed};
pub use fixtures::Fixtures;
pub use provider::{ProviderCase, check_provider};

use crate::PluginError;
use crate::host::{Launch, StdioFeed, StdioProvider};
use std::fmt;

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As promised.
    Passed,
    /// Not as promised: how.
    Failed(String),
    /// Could not be tried: what was missing.
    LeftOut(String),
}

/// One check of a plug-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was tried.
    pub check: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// All checks, in order. Prints one line for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The checks.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Notes what came of a check.
    pub fn note(&mut self, check: impl Into<String>, result: Result<(), String>) {
        let verdict = match result {
            Ok(()) => Verdict::Passed,
            Err(why) => Verdict::Failed(why),
        };
        self.outcomes.push(Outcome { check: check.into(), verdict });
    }

    /// Notes a check that could not be tried.
    pub fn leave_out(&mut self, check: impl Into<String>, missing: &str) {
        self.outcomes.push(Outcome { check: check.into(), verdict: Verdict::LeftOut(missing.to_owned()) });
    }

    /// How many passed, failed, were left out.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |wanted: fn(&Verdict) -> bool| self.outcomes.iter().filter(|it| wanted(&it.verdict)).count();
        (
            count(|it| *it == Verdict::Passed),
            count(|it| matches!(it, Verdict::Failed(_))),
            count(|it| matches!(it, Verdict::LeftOut(_))),
        )
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.counts().1 == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Outcome { check, verdict } in &self.outcomes {
            match verdict {
                Verdict::Passed => writeln!(f, "ok       {check}")?,
                Verdict::Failed(why) => writeln!(f, "FAILED   {check}\n         {why}")?,
                Verdict::LeftOut(missing) => writeln!(f, "left out {check} ({missing})")?,
            }
        }
        let (passed, failed, left_out) = self.counts();
        write!(f, "{passed} passed, {failed} failed, {left_out} left out")
    }
}

/// Tries a program: the protocol itself, then its trait over the protocol.
pub fn over_stdio(launch: &Launch, fixtures: &Fixtures) -> Report {
    let mut report = Report::default();
    let Some(hello) = stdio::check_hello(launch, &mut report) else { return report };
    if hello.feed.is_some() {
        stdio::check_lines(launch, &stdio::Ordinary::of_feed(&fixtures.feed), &mut report);
        match StdioFeed::connect(launch.clone()) {
            Ok(feed) => check_feed(&feed, &fixtures.feed, &mut report),
            Err(error) => report.note("it is taken in as a feed", Err(told(&error))),
        }
    } else {
        let case = fixtures.provider.as_ref();
        match stdio::Ordinary::of_provider(launch, case) {
            Ok(ordinary) => stdio::check_lines(launch, &ordinary, &mut report),
            Err(error) => report.note("a scratch root can be made", Err(error.to_string())),
        }
        match StdioProvider::connect(launch.clone()) {
            Ok(provider) => {
                check_provider(&provider, case, &mut report);
                stdio::check_killed(launch, &provider, case, &mut report);
            }
            Err(error) => report.note("it is taken in as a provider", Err(told(&error))),
        }
    }
    report
}

/// An error as one line.
fn told(error: &PluginError) -> String {
    let causes = error.causes.iter().take(5).cloned().collect::<Vec<_>>().join(" | ");
    if causes.is_empty() { error.message.clone() } else { format!("{} ({causes})", error.message) }
}
