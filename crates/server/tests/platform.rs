//! What everything of the server stands on, asked from outside over real TLS.

mod platform {
    mod endpoints;
    mod golden;
    mod lifecycle;
    mod people;
    mod tls;
}
