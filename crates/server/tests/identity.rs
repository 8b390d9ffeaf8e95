//! Who hosts are: certificates that are renewed in time and after it, machines with copies of an
//! identity, machines installed anew, clocks that are wrong, revocation while an agent waits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod identity {
    mod copies;
    mod machine;
    mod pages;
    mod reinstalled;
    mod renewal;
    mod revocation;
    mod same_host;
}
