//! The patch process as pure steps, in the order of section 3 of the paper: values in, decisions
//! with their reasons out. "Now" comes in as a value.
//!
//! Absent on purpose: async, I/O, a clock, randomness, the store. Steps that nothing needs yet
//! (testing, compliance) are not made yet.

#[path = "step6_audit/mod.rs"]
pub mod audit;
#[path = "step4_change/mod.rs"]
pub mod change;
#[path = "step1_gathering/mod.rs"]
pub mod gathering;
#[path = "step5_installation/mod.rs"]
pub mod installation;
#[path = "step2_scheduling/mod.rs"]
pub mod scheduling;
