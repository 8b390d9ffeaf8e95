//! Between the two halves of the agent: the network-facing half asks, the executor answers. One
//! socket pair, typed messages, each with a cap. The executor believes nothing that comes over it:
//! orders carry their own signature, everything else may only read or ask for a dry run.

mod asking;
mod frame;
mod message;

pub use asking::ChannelError;
pub(crate) use asking::{Answers, Asking};
pub(crate) use frame::{FrameReader, FrameWriter};
pub(crate) use message::{Answer, FromExecutor, FromNetwork, Notice, Request};
