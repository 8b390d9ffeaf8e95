//! The one port: TLS for people (no client certificate) and agents (a certificate of our
//! authority), HTTP/1.1, and every limit that protects the server from who connects.

use crate::Shutdown;
use crate::identity::PeerCertificate;
use crate::problem::Refusal;
use crate::slow_body::SlowBody;
use axum::Router;
use axum::http::StatusCode;
use fettle_wire::agent::problem;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

/// The host's certificate that was presented, if any. Put into every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerHost(pub Option<PeerCertificate>);

impl PeerHost {
    /// The certificate, or the refusal that an agent understands. Whether it is still good is looked
    /// at around all that agents ask (`agent_api`), and with the store (`admission`).
    pub(crate) fn require(self) -> Result<PeerCertificate, Refusal> {
        self.0.ok_or_else(|| {
            Refusal::new(
                StatusCode::UNAUTHORIZED,
                problem::CERTIFICATE_REQUIRED,
                "A host certificate is needed",
                "no client certificate of this server's authority was presented",
            )
            .advise("Enrol the host: `fettle host token create` prints the line to paste on it.")
        })
    }
}

/// Where the request came from. Put into every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// Time for the TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
/// Time a peer gets to read the last word, and bytes of its own that are thrown away meanwhile.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 << 20;
/// Time for a request's headers, and for an idle connection until the next request; longer than the
/// 90 seconds for which agents and browsers keep theirs.
const HEADER_LIMIT: Duration = Duration::from_secs(100);
/// Bytes of headers, and of hyper's buffers: what a waiting agent costs.
const BUFFER: usize = 16 << 10;
/// Headers in a request.
const HEADERS: usize = 64;
/// Time after which a peer that acknowledges nothing is given up.
const DEAD_PEER: Duration = Duration::from_secs(60);

/// Where connections come in, and how many may be open.
pub(crate) struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
    seats: Arc<Semaphore>,
    capacity: usize,
}

impl Listener {
    pub(crate) async fn bind(
        listen: SocketAddr,
        config: rustls::ServerConfig,
        capacity: usize,
    ) -> std::io::Result<Self> {
        let tcp = TcpListener::bind(listen).await?;
        let capacity = capacity.clamp(16, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Ok(Self { tcp, tls: TlsAcceptor::from(Arc::new(config)), seats: Arc::new(Semaphore::new(capacity)), capacity })
    }

    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until shutdown, then lets open requests end within `patience`.
    pub(crate) async fn serve(self, router: Router, shutdown: &Shutdown, patience: Duration) {
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.tcp, &self.seats) => accepted,
                () = shutdown.requested() => break,
            };
            if let Some((stream, address, seat)) = accepted {
                let connection =
                    Connection { router: router.clone(), tls: self.tls.clone(), shutdown: shutdown.clone() };
                tokio::spawn(async move {
                    connection.run(stream, address).await;
                    drop(seat);
                });
            }
        }
        drop(self.tcp);
        let all = u32::try_from(self.capacity).unwrap_or(u32::MAX);
        if tokio::time::timeout(patience, self.seats.acquire_many(all)).await.is_err() {
            let open = self.capacity - self.seats.available_permits();
            tracing::warn!(connections.open = open, "gave up on requests that did not end in time");
        }
    }
}

/// The next connection with its seat. A seat is taken first: without one the kernel's queue holds
/// the others back.
async fn accept(tcp: &TcpListener, seats: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let seat = seats.clone().acquire_owned().await.ok()?;
    match tcp.accept().await {
        Ok((stream, address)) => Some((stream, address, seat)),
        Err(error) => {
            tracing::warn!(error = %error, "cannot accept a connection");
            // Out of descriptors: an immediate retry would only burn the processor.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

struct Connection {
    router: Router,
    tls: TlsAcceptor,
    shutdown: Shutdown,
}

impl Connection {
    /// The parts that are over before the first request stand in boxes of their own: what is left
    /// is what a waiting agent costs.
    async fn run(self, stream: TcpStream, address: SocketAddr) {
        let Self { router, tls, shutdown } = self;
        let Some((stream, host)) = Box::pin(handshake(tls, stream, address)).await else { return };
        let peer = (PeerHost(host), PeerAddress(address.ip().to_canonical()));
        let stream = serve(stream, router, peer, &shutdown).await;
        // At the end of the server nobody waits for peers that have nothing to say.
        if !shutdown.is_requested() {
            Box::pin(linger(stream)).await;
        }
    }
}

/// TLS, and which host is there; `None` when the peer was refused.
async fn handshake(
    tls: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
) -> Option<(Box<TlsStream>, Option<PeerCertificate>)> {
    if let Err(error) = tune(&stream) {
        tracing::debug!(peer.address = %address, error = %error, "cannot set socket options");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err((error, stream))) => {
            tracing::info!(peer.address = %address, error = %error, "refused in the TLS handshake");
            linger(stream).await;
            return None;
        }
        Err(_) => return None,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let host = certificate.map(crate::identity::peer_certificate);
    match host {
        None => Some((stream, None)),
        Some(Some(host)) => Some((stream, Some(host))),
        // Ours, but not for a host: there is no such certificate, so nobody may use one.
        Some(None) => None,
    }
}

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Answers requests until the connection ends; hands it back for a good end.
async fn serve<IO>(stream: IO, router: Router, peer: (PeerHost, PeerAddress), shutdown: &Shutdown) -> IO
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.0);
        request.extensions_mut().insert(peer.1);
        let mut router = router.clone();
        Box::pin(async move { router.call(request.map(|body| axum::body::Body::new(SlowBody::new(body)))).await })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.requested() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = ended {
        // Peers hang up all the time: no news.
        tracing::debug!(error = %error, "a connection broke");
    }
    connection.into_parts().io.into_inner()
}

/// Closes so that the last word is heard. A peer may have sent what nobody read: a request after
/// its half of a refused handshake, the rest of a body that was too long. Closing with that unread
/// resets the connection, and the alert or the answer that tells what was wrong is lost on the way.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let drained = async {
        // Where the connection already ended by the rules this is the second time, and harmless.
        let _ = stream.shutdown().await;
        let mut scratch = vec![0; 8 << 10];
        let mut left = LINGER_BYTES;
        while left > 0 {
            let read = stream.read(&mut scratch).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        Ok::<_, std::io::Error>(())
    };
    // Whatever happens here, nothing more is owed to the peer.
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// Small answers go out at once, and a peer that is gone is noticed also while it waits.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    let socket = stream.as_fd();
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, DEAD_PEER)?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(15))?;
    sockopt::set_tcp_user_timeout(socket, u32::try_from(DEAD_PEER.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}
