//! A relay in front of the server that counts what hosts send.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Counting {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
}

impl Counting {
    pub fn before(server: &str) -> Self {
        let server: SocketAddr = server.trim_start_matches("https://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, sent) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let counter = sent.clone();
        std::thread::spawn(move || {
            for host in listener.incoming() {
                let (host, server) = (host.unwrap(), TcpStream::connect(server).unwrap());
                relay(host.try_clone().unwrap(), server.try_clone().unwrap(), Some(counter.clone()));
                relay(server, host, None);
            }
        });
        Self { address, sent }
    }

    pub fn address(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, counter: Option<Arc<AtomicU64>>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if let Some(counter) = &counter {
                counter.fetch_add(length as u64, Ordering::SeqCst);
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
