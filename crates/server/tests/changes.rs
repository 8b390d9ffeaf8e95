//! Changes through the real server: agents that speak the protocol over mutual TLS, people over the
//! REST API. On both databases.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod changes {
    mod agent;
    mod approval;
    mod checks;
    mod fleet;
    mod local;
    mod logs;
    mod orders;
    mod reports;
    mod simulation;
    mod watch;
}
