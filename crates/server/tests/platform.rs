//! What everything of the server stands on, asked from outside over real TLS.
// Clippy exempts functions marked #[test], not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod platform {
    mod endpoints;
    mod golden;
    mod lifecycle;
    mod lists;
    mod people;
    mod tls;
}
