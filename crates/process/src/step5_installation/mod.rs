//! Step 5: an approved plan under way (paper 3.5). [`next_actions`] reads how things stand and says
//! what is to be done now; it may be asked as often as one likes. [`waiting_for`] says what is waited
//! for, in words.
//!
//! The one rule behind all others is that silence is failure, and that success is only what an
//! inventory has proved. The rollout halts by itself; only a person resumes it.

mod decide;
mod facts;
mod gate;
mod waiting;

pub use decide::{Action, next_actions};
pub use facts::{DeploymentFacts, Proof, RolloutFacts, WaveFacts};
pub use gate::{Standing, Tally};
pub use waiting::waiting_for;

#[cfg(test)]
mod tests;
