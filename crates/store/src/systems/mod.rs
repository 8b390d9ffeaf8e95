//! What is ours: hosts, findings, plans, rollouts, people, audit. One file an entity.

pub mod finding;
pub mod api_token;
pub mod audit;
pub mod login_attempt;
pub mod session;
pub mod user;
pub mod enrolment_token;
pub mod group;
pub mod host;
pub mod inventory;
pub mod package_dictionary;
pub mod agent_report;
mod body;
pub mod change;
pub mod deployment;
pub mod plan;
pub mod rehearsal;
pub mod rollout;
pub mod work;
