//! The server under attack: bodies, inventories, enrolments, certificates, feeds, a full disk, people.
//! Each case asks for a clear refusal, for nothing lost, and for the last good data still in use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bad_input {
    mod agent;
    mod bodies;
    mod certificates;
    mod disk;
    mod enrolment;
    mod feeds;
    mod inventories;
    mod people;
    mod wire;
}
