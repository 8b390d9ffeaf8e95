use fettle_testkit::TestServer;
use fettle_testkit::client::tls;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
#[test]
fn debug() {
    let server = TestServer::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _a = runtime.block_on(server.administrator());
    for size in [100usize, 1_500_000, 3_000_000] {
    let mut connection = rustls::ClientConnection::new(Arc::new(tls(server.state.identity.authority_pem(), None)), "127.0.0.1".try_into().unwrap()).unwrap();
    let mut socket = TcpStream::connect(server.announcement.listen).unwrap();
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    stream.write_all(format!("POST /api/v1/password HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n").as_bytes()).unwrap();
    let mut sent = 0;
    let chunk = vec![b'x'; 16384];
    while sent < size { let n = chunk.len().min(size - sent); match stream.write_all(&chunk[..n]) { Ok(()) => sent += n, Err(e) => { println!("write failed at {sent}: {e}"); break; } } }
    let mut answer = Vec::new();
    let r = stream.read_to_end(&mut answer);
    println!("{size}: {r:?} {}", String::from_utf8_lossy(&answer));
    }
}
