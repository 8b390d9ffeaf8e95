//! Who asks, and what they may: passwords, sessions, API tokens, and the proof that an unsafe
//! request comes from our own pages.

mod actor;
mod authenticate;
pub mod cross_site;
pub mod limit;
pub mod password;
pub mod secret;
pub mod session;

pub use actor::Actor;
pub use authenticate::TOKEN_PREFIX;
pub(crate) use authenticate::authenticate;

/// The moment of the last use could not be kept (a full disk): no reason to shut people out who only
/// want to look what is wrong.
fn only_noted(kept: fettle_store::Result<()>) {
    if let Err(error) = kept {
        tracing::warn!(store.error = %error, "cannot keep the moment of the last use");
    }
}
