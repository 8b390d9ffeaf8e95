//! A server of the tests' own: real TLS with its own authority, the real messages, everything in
//! memory. And a package manager over plain files.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod provider;
pub mod server;

use fettle_agent::{EnrolError, EnrolOptions, Enrolled, Exit, RunError, RunOptions, enrol, run};
use provider::FileProvider;
use server::Server;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

/// One machine: its root, its state, its package manager.
pub struct Machine {
    _folder: tempfile::TempDir,
    pub state: PathBuf,
    pub root: PathBuf,
    pub provider: Arc<FileProvider>,
}

impl Machine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("db")).unwrap();
        let provider = Arc::new(FileProvider::new(&root));
        Self { state: folder.path().join("state"), root, provider, _folder: folder }
    }

    pub fn enrol(&self, server: &Server, token: &str, force: bool) -> Result<Enrolled, EnrolError> {
        block_on(enrol(self.enrol_options(&server.address(), token, force)))
    }

    pub fn enrol_options(&self, server: &str, token: &str, force: bool) -> EnrolOptions {
        EnrolOptions {
            server: server.to_owned(),
            token: token.to_owned(),
            state_dir: self.state.clone(),
            root: self.root.clone(),
            read_only: false,
            force,
        }
    }

    pub fn options(&self, once: bool) -> RunOptions {
        RunOptions {
            state_dir: self.state.clone(),
            root: self.root.clone(),
            policy: self.state.join("policy.toml"),
            read_only: false,
            once,
            check_in_seconds: None,
            providers: vec![self.provider.clone()],
            owner: None,
            network: None,
            launcher: None,
        }
    }

    pub fn once(&self) -> Result<Exit, RunError> {
        block_on(run(self.options(true), std::future::pending()))
    }

    /// Runs the agent in a thread until the answer is told to stop.
    pub fn start(&self) -> Running {
        let options = self.options(false);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || block_on(run(options, async move { drop(stopped.await) })));
        Running { stop: Some(stop), thread: Some(thread) }
    }
}

/// An agent at work.
pub struct Running {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<Exit, RunError>>>,
}

impl Running {
    pub fn stop(mut self) -> Result<Exit, RunError> {
        self.stop.take();
        self.wait()
    }

    pub fn wait(&mut self) -> Result<Exit, RunError> {
        self.thread.take().unwrap().join().unwrap()
    }
}

/// The agent as the program runs it: on one thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
