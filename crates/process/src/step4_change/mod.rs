//! Step 4: from what is asked for to an immutable plan that people can approve (paper 3.4).
//!
//! [`choose`] turns findings and package names into a job for each host's package manager;
//! [`propose`] turns the dry runs' answers into a [`Plan`](fettle_domain::plan::Plan) with its report,
//! or says why there is none; [`lint`] refuses what no package manager should answer; [`assess`] tells
//! people what could go wrong; [`plan_digest`] is what they approve.

mod choose;
mod cover;
mod digest;
mod lint;
mod propose;
mod risk;
mod specification;

pub use choose::{AskedPackage, Choice, InstalledHere, Need, Target, choose};
pub use cover::covers;
pub use digest::{host_digest, plan_digest};
pub use lint::{Lint, LintLevel, lint_host};
pub use propose::{Answer, Draft, HostAnswer, Proposal, propose};
pub use risk::{Risk, RiskLevel, assess};
pub use specification::Specification;

#[cfg(test)]
mod tests;
