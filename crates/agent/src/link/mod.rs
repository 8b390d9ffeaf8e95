//! The link to the server: the token that begins it, TLS, the identity it rests on, the requests.

pub(crate) mod client;
pub(crate) mod enrol;
pub(crate) mod identity;
pub(crate) mod tls;
pub(crate) mod token;

pub(crate) use client::{Client, ClientError};
pub(crate) use identity::Identity;
