//! What may be shared with the world: advisories, vulnerabilities, feeds. Never mentions a machine.

pub mod advisory;
pub mod feed;
pub mod feed_request;
pub mod vulnerability;
