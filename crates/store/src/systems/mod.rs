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
