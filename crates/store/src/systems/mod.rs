//! What is ours: hosts, findings, plans, rollouts, people, audit. One file an entity.

pub mod agent_report;
pub mod api_token;
pub mod audit;
pub mod change;
pub mod deployment;
pub mod enrolment_token;
pub mod finding;
pub mod group;
pub mod host;
pub mod host_identity;
pub mod host_import;
pub mod host_likeness;
pub mod host_seen;
pub mod inventory;
pub mod log_request;
pub mod login_attempt;
pub mod package_dictionary;
pub mod plan;
pub mod rehearsal;
pub mod rollout;
pub mod session;
pub mod user;
pub mod work;
