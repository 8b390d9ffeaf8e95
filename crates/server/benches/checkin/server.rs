//! The real server in a process of its own, so that its memory and processor time are its own.

use fettle_server::{ServerOptions, Settings};
use std::io::Read as _;
use std::path::PathBuf;

/// Serves until standard input ends. Says on standard output where.
pub fn run(data_dir: PathBuf, database_url: String, grouped: bool, check_in_seconds: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut settings = Settings::default();
    settings.hosts.check_in_seconds = check_in_seconds;
    let options = ServerOptions {
        data_dir,
        listen: "127.0.0.1:0".parse().unwrap(),
        database_url: Some(database_url),
        settings,
        feeds: Vec::new(),
    };
    runtime.block_on(async move {
        let prepared = if grouped {
            fettle_server::prepare(options).await
        } else {
            fettle_server::prepare_ungrouped(options).await
        }
        .unwrap();
        println!("{}", prepared.announcement().listen);
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        prepared.run(async { drop(ended.await) }).await.unwrap();
    });
}
