//! What may be shared with the world: advisories, vulnerabilities, feeds. Never mentions a host.
