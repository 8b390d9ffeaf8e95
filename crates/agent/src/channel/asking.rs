//! The network-facing half's end: asks and waits for the answer of its own question.

use super::frame::{FrameReader, FrameWriter};
use super::message::{Answer, FromExecutor, FromNetwork, Notice, Request};
use crate::clock;
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// Why the executor gave no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// It ended, or the socket broke.
    #[error("the executor of this agent is gone: {0}")]
    Gone(String),
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// Something else than what was asked.
    #[error("the executor of this agent answered something else than what it was asked")]
    Other,
}

/// Asks the executor.
pub(crate) struct Asking {
    writer: FrameWriter<FromNetwork>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    gone: Option<String>,
}

/// Reads what the executor says; has to be driven beside the questions.
pub(crate) struct Answers(FrameReader<FromExecutor>);

impl Asking {
    /// Both ends of asking over this socket.
    pub(crate) fn over(socket: UnixStream) -> (Self, Answers) {
        let (read, write) = socket.into_split();
        let asking = Self { writer: FrameWriter::new(write), state: Mutex::default() };
        (asking, Answers(FrameReader::new(read)))
    }

    /// Asks one thing.
    pub(crate) async fn ask(&self, request: Request) -> Result<Answer, ChannelError> {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut state = clock::lock(&self.state);
            if let Some(why) = &state.gone {
                return Err(ChannelError::Gone(why.clone()));
            }
            state.last += 1;
            let id = state.last;
            state.waiting.insert(id, sender);
            id
        };
        if let Err(error) = self.writer.write(&FromNetwork { id, request }).await {
            clock::lock(&self.state).waiting.remove(&id);
            return Err(ChannelError::Gone(error.to_string()));
        }
        match receiver.await {
            Ok(Answer::Refused { why }) => Err(ChannelError::Refused(why)),
            Ok(answer) => Ok(answer),
            Err(_) => {
                let why = clock::lock(&self.state).gone.clone();
                Err(ChannelError::Gone(why.unwrap_or_else(|| "it ended".to_owned())))
            }
        }
    }

    /// Hands answers to those who asked and notices to `notice`, until the executor is gone.
    pub(crate) async fn listen(&self, mut answers: Answers, notice: impl Fn(Notice)) {
        let why = loop {
            match answers.0.next().await {
                Ok(Some(FromExecutor::Notice { notice: said })) => notice(said),
                Ok(Some(FromExecutor::Answer { id, answer })) => {
                    let waiting = clock::lock(&self.state).waiting.remove(&id);
                    if let Some(waiting) = waiting {
                        // Who asked may have given up.
                        let _ = waiting.send(*answer);
                    }
                }
                Ok(None) => break "it ended".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        let mut state = clock::lock(&self.state);
        state.gone = Some(why);
        state.waiting.clear();
    }
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        ChannelError::Gone(error.to_string())
    }
}
