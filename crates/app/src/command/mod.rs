//! One file a noun: parse, one call of the API, render.

#[cfg(feature = "full")]
pub mod account;
pub mod agent;
#[cfg(feature = "full")]
pub mod audit;
#[cfg(feature = "full")]
pub mod change;
#[cfg(feature = "full")]
pub mod feed;
#[cfg(feature = "full")]
pub mod finding;
#[cfg(feature = "full")]
pub mod host;
#[cfg(feature = "full")]
mod import;
mod local;
#[cfg(feature = "full")]
mod log;
pub mod plugin;
mod render;
#[cfg(feature = "full")]
pub mod server;
#[cfg(feature = "full")]
pub mod vercmp;

#[cfg(feature = "full")]
pub use render::{history, query};
pub use render::{reasons, text};
