//! One reconciler a step of `process`. Each reads the store, calls the pure step, writes the result;
//! woken by a nudge or a timer it takes no input, so the normal case, the retry and the crash are one path.
//!
//! Absent on purpose: decisions (they are in `process`), the network, components.

pub mod audit;
pub mod change;
pub mod gathering;
pub mod installation;
pub mod silence;
