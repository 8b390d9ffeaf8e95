//! The server: components that take in and give out (`census`, `notify`, `distribute`), one
//! reconciler a step (`steps`), what a person may ask (`ops`) with its two faces (`api`, `ui`), and
//! what all of them stand on (`access`, `identity`, `listener`).
//!
//! A component never decides and never calls another: each finds its work in the store and leaves
//! its result there. `api` and `ui` call `ops` and nothing else.
//!
//! Absent on purpose: vendors and the agent (feeds are handed in by `app`), SQL.

pub mod access;
mod admission;
mod agent_api;
pub mod api;
mod app_state;
pub mod census;
pub mod clock;
pub mod distribute;
mod extract;
mod headers;
mod health;
pub mod identity;
mod limits;
mod listener;
pub mod live;
mod local;
pub mod notify;
pub mod nudge;
pub mod ops;
mod problem;
mod room;
mod run;
pub mod settings;
mod shutdown;
mod slow_body;
mod standing;
pub mod steps;
mod ui;

pub use app_state::AppState;
pub use listener::{PeerAddress, PeerHost};
pub use local::{LOCAL_OPERATOR, local_token};
pub use run::{
    Announcement, FIRST_ADMINISTRATOR, Prepared, ServerError, ServerOptions, prepare, prepare_ungrouped,
    reset_password, run,
};
pub use settings::Settings;
pub use shutdown::Shutdown;
