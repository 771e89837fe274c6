//! A server that says what a test tells it to, true or not.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::PATIENCE;
use crate::harness::wire::{ClosedPort, read_request, read_to_end};
use crate::harness::wire2::Get;

/// A held connection is let go after this long, so that no test hangs for ever.
const HOLD: Duration = PATIENCE;

/// The first byte of a connection in version 2: the type of a GET.
const VERSION_2: u8 = 0x01;

/// Stops on drop.
pub struct ScriptedServer {
    pub addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl ScriptedServer {
    /// A server of before version 2, which closes silently on anything of it, as on all that it cannot decode.
    ///
    /// Runs `script` for every other connection, with the connection's number, from 0; closes when it returns.
    pub fn new(script: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> ScriptedServer {
        ScriptedServer::hearing(|stream| first_byte(stream) != Some(VERSION_2), script)
    }

    /// Runs `script` for every connection, whichever version is spoken in it.
    pub fn of_any_version(script: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> ScriptedServer {
        ScriptedServer::hearing(|_| true, script)
    }

    /// Answers every request of version 2 by these bytes, and closes when nothing more is asked.
    pub fn answering_gets(reply: impl Fn(usize, &Get) -> Vec<u8> + Send + Sync + 'static) -> ScriptedServer {
        let count = AtomicUsize::new(0);
        ScriptedServer::of_any_version(move |_, stream| {
            while let Some(get) = Get::read(stream) {
                let reply = reply(count.fetch_add(1, Ordering::SeqCst), &get);
                // The client may have gone away in the middle of a lie.
                if stream.write_all(&reply).is_err() {
                    return;
                }
            }
        })
    }

    /// Counts and runs only what is heard.
    fn hearing(
        heard: impl Fn(&TcpStream) -> bool + Send + Sync + 'static,
        script: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static,
    ) -> ScriptedServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (connections, stopping) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (Arc::clone(&connections), Arc::clone(&stopping));
        let answer = Arc::new(move |mut stream: TcpStream| {
            if heard(&stream) {
                script(count.fetch_add(1, Ordering::SeqCst), &mut stream);
            }
        });
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, answer) = (stream.unwrap(), Arc::clone(&answer));
                std::thread::spawn(move || answer(stream));
            }
        });
        ScriptedServer { addr, connections, stopping, acceptor: Some(acceptor) }
    }

    /// Reads the request and answers every connection with `OK`, the metadata and the body, whatever they are.
    pub fn answering(metadata: Vec<u8>, body: Vec<u8>) -> ScriptedServer {
        ScriptedServer::new(move |_, stream| answer(stream, &metadata, &body))
    }

    /// Reads the request, sends these bytes, and then neither sends nor closes.
    pub fn stalling_after(bytes: Vec<u8>) -> ScriptedServer {
        ScriptedServer::new(move |_, stream| {
            read_request(stream);
            stream.write_all(&bytes).unwrap();
            hold(stream);
        })
    }

    /// How many connections it has heard so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees the flag.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Looked at, not read; None if the peer said nothing before it closed.
fn first_byte(stream: &TcpStream) -> Option<u8> {
    let mut first = [0];
    stream.set_read_timeout(Some(HOLD)).unwrap();
    let count = stream.peek(&mut first).ok();
    stream.set_read_timeout(None).unwrap();
    count.filter(|count| *count == 1).map(|_| first[0])
}

/// One whole reply of version 1. The client may have gone away in the middle of a lie: that is its right.
pub fn answer(stream: &mut TcpStream, metadata: &[u8], body: &[u8]) {
    read_request(stream);
    let _ = stream.write_all(b"OK").and_then(|()| stream.write_all(metadata)).and_then(|()| stream.write_all(body));
    close_softly(stream);
}

/// Reads the request and refuses it.
pub fn refuse(stream: &mut TcpStream, message: &[u8]) {
    read_request(stream);
    let _ = stream.write_all(b"ERROR").and_then(|()| stream.write_all(message));
    close_softly(stream);
}

/// Until the client closes.
pub fn hold(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(HOLD)).unwrap();
    let _ = std::io::Read::read(stream, &mut [0]);
}

/// A plain close could turn into a reset that overtakes what was sent.
fn close_softly(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(HOLD)).unwrap();
    if stream.shutdown(Shutdown::Write).is_ok() {
        read_to_end(stream);
    }
}

/// A listener that accepts nothing and whose queue is full, so that a further connection hangs; and what fills it.
pub fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let listener = ClosedPort::new().open(0);
    let queued = fill(&listener);
    (listener, queued)
}

/// Fills the queue of a listener, made as short as it can be, so that a further connection hangs; what fills it.
pub fn fill(listener: &TcpListener) -> Vec<TcpStream> {
    rustix::net::listen(listener, 0).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    // A queue of "0" holds one; a few more do no harm, and the first that hangs shows that it is full.
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue of a listener with backlog 0 never fills");
    }
    queued
}
