//! Stories of the store, told to a fresh database of each kind. A new entity brings a module.
// Clippy exempts functions marked #[test], not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod story {
    mod changes;
    mod feeds;
    mod findings;
    mod frame;
    mod hosts;
    mod inventories;
    mod lists;
    mod local;
    mod people;
}
