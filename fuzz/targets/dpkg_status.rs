//! Whatever stands in dpkg's status file: it is listed or refused with words.
#![no_main]

use fettle_plugin::{ProviderContext, ProviderEvents, ResourceLimits};
use libfuzzer_sys::fuzz_target;
use std::cell::OnceCell;
use std::time::{Duration, Instant};

struct Silent;

impl ProviderEvents for Silent {
    fn output(&self, _line: &str) {}
    fn progress(&self, _percent: u8, _what: &str) {}
}

thread_local! {
    static ROOT: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| ROOT.with(|root| {
    let root = root.get_or_init(|| {
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        std::fs::create_dir_all(root.path().join("var/lib/dpkg")).expect("a folder");
        root
    });
    std::fs::write(root.path().join("var/lib/dpkg/status"), bytes).expect("a file");
    let context = ProviderContext {
        root: root.path().to_owned(),
        events: &Silent,
        deadline: Instant::now() + Duration::from_secs(10),
        lock_patience: Duration::ZERO,
        limits: ResourceLimits::default(),
    };
    for provider in fettle_vendors::providers() {
        if let Ok(packages) = provider.inventory(&context) {
            assert!(packages.iter().all(|one| !one.package.name.is_empty() && !one.package.version.is_empty()));
        }
    }
}));
