//! The link to the server: the token that begins it, TLS, the identity it rests on and how that
//! is renewed, the requests.

pub(crate) mod chain;
pub(crate) mod client;
pub(crate) mod enrol;
pub(crate) mod identity;
pub(crate) mod own;
pub(crate) mod renewal;
pub(crate) mod tls;
pub(crate) mod token;

pub(crate) use client::{Client, ClientError};
pub(crate) use identity::Identity;
