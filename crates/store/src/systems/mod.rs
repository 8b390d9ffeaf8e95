//! What is ours: hosts, findings, plans, rollouts, people, audit. One file an entity.

pub mod finding;
