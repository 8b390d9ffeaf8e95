//! Frames on the socket pair: four bytes of length, then JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::marker::PhantomData;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;

/// Cap of one message: the inventory of a host with some ten thousand packages is 4 MB, all orders
/// that one answer of the server may hold are 16 MB.
const LONGEST: usize = 64 << 20;

/// Reads messages of one kind.
pub(crate) struct FrameReader<M> {
    socket: OwnedReadHalf,
    message: PhantomData<M>,
}

impl<M: DeserializeOwned> FrameReader<M> {
    pub(crate) fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, message: PhantomData }
    }

    /// The next message; `None` when the other half is gone. Not to be given up half way: the rest of
    /// a message would be taken for the next.
    pub(crate) async fn next(&mut self) -> io::Result<Option<M>> {
        let mut length = [0; 4];
        match self.socket.read_exact(&mut length).await {
            Ok(_) => {}
            Err(error) if is_end(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
        }
        // Grows with what really comes, not with what was announced.
        let mut bytes = Vec::with_capacity(length.min(64 << 10));
        let mut socket = (&mut self.socket).take(length as u64);
        socket.read_to_end(&mut bytes).await?;
        if bytes.len() < length {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Whether the other half is simply gone.
pub(crate) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::UnexpectedEof | K::BrokenPipe | K::ConnectionReset)
}

/// Writes messages whole, one after the other.
pub(crate) struct FrameWriter<M> {
    socket: Mutex<OwnedWriteHalf>,
    message: PhantomData<fn(M)>,
}

impl<M: Serialize> FrameWriter<M> {
    pub(crate) fn new(socket: OwnedWriteHalf) -> Self {
        Self { socket: Mutex::new(socket), message: PhantomData }
    }

    /// Writes one.
    pub(crate) async fn write(&self, message: &M) -> io::Result<()> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, message)?;
        let length = bytes.len() - 4;
        let announced = u32::try_from(length).ok().filter(|_| length <= LONGEST).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes is too long"))
        })?;
        if let Some(head) = bytes.first_chunk_mut::<4>() {
            *head = announced.to_be_bytes();
        }
        self.socket.lock().await.write_all(&bytes).await
    }
}
