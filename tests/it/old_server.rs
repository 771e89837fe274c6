//! The old server as it is deployed in the field: a thread a connection, every field in one read, no check of the path.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::wire::metadata;

/// The longest name that is worth a buffer: an old peer never asks for a longer one.
const LONGEST_NAME: usize = 64 * 1024;

/// Between `OK` and the metadata, beside the hashing itself, unless a test wants more: the old server hashed slowly.
const HASHING: Duration = Duration::from_millis(20);

/// Stops on drop.
pub struct OldServer {
    pub addr: SocketAddr,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl OldServer {
    pub fn of(dir: &Path) -> OldServer {
        OldServer::hashing_for(HASHING, dir)
    }

    /// Takes this long between `OK` and the metadata.
    pub fn hashing_for(delay: Duration, dir: &Path) -> OldServer {
        OldServer::on(TcpListener::bind("127.0.0.1:0").unwrap(), delay, dir)
    }

    pub fn on(listener: TcpListener, delay: Duration, dir: &Path) -> OldServer {
        let addr = listener.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, dir) = (Arc::clone(&stopping), dir.to_owned());
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, dir) = (stream.unwrap(), dir.clone());
                std::thread::spawn(move || answer(stream, dir, delay));
            }
        });
        OldServer { addr, stopping, acceptor: Some(acceptor) }
    }
}

impl Drop for OldServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees the flag.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// A peer that goes away ends the conversation, as an exception did in the old server.
fn answer(mut stream: TcpStream, dir: PathBuf, delay: Duration) -> Option<()> {
    let name = read_name(&mut stream)?;
    let Ok(body) = std::fs::read(dir.join(&name)) else {
        let message = format!("ERRORFile '{name}' not found on server");
        return stream.write_all(message.as_bytes()).ok();
    };
    stream.write_all(b"OK").ok()?;
    std::thread::sleep(delay);
    let base = name.rsplit('/').next().unwrap_or(&name);
    stream.write_all(&metadata(base, &body)).ok()?;
    stream.write_all(&body).ok()
}

/// One read for the length and one for the name. None (and a silent close) for what it cannot decode.
fn read_name(stream: &mut TcpStream) -> Option<String> {
    let mut length = [0; 4];
    if stream.read(&mut length).ok()? != length.len() {
        return None;
    }
    let mut name = vec![0; LONGEST_NAME.min(u32::from_be_bytes(length) as usize)];
    let count = stream.read(&mut name).ok()?;
    name.truncate(count);
    String::from_utf8(name).ok()
}
