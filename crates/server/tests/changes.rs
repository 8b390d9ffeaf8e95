//! Changes through the real server: agents that speak the protocol over mutual TLS, people over the
//! REST API. On both databases.

mod changes {
    mod agent;
    mod approval;
    mod fleet;
    mod orders;
    mod reports;
    mod simulation;
    mod watch;
}
