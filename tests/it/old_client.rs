//! The old client as it is deployed in the field: it reads each field once, whatever has arrived of it by then.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};

use crate::harness::content::hex;

/// On connecting and on every single read.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The file arrived and its digest is right; `path` is where it was saved, under the name that the server sent.
    Verified { path: PathBuf, size: u64 },
    /// What followed `ERROR`.
    Refused(String),
}

/// Fetches `name` into `dir`, in one attempt. The error is what the old client would have printed.
pub fn fetch(addr: SocketAddr, name: &[u8], dir: &Path) -> Result<Fetched, String> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT).map_err(|error| format!("connecting: {error}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    // The length and the name are two writes: two segments, usually.
    stream.set_nodelay(true).unwrap();
    let sent = stream.write_all(&(name.len() as u32).to_be_bytes()).and_then(|()| stream.write_all(name));
    sent.map_err(|error| format!("sending the request: {error}"))?;

    match recv(&mut stream, 5, "status")?.as_slice() {
        b"OK" => receive_file(&mut stream, dir),
        b"ERROR" => {
            let message = recv(&mut stream, 1024, "error message")?;
            Ok(Fetched::Refused(String::from_utf8(message).map_err(|error| error.to_string())?))
        }
        other => Err(format!("invalid reply: {}", other.escape_ascii())),
    }
}

fn receive_file(stream: &mut TcpStream, dir: &Path) -> Result<Fetched, String> {
    let length = u32::from_be_bytes(recv_exactly(stream, "name length")?);
    let name = recv(stream, length as usize, "name")?;
    let name = String::from_utf8(name).map_err(|error| error.to_string())?;
    if name.len() != length as usize {
        return Err(format!("name of {length} bytes announced, read {name:?}"));
    }
    let size = u64::from_be_bytes(recv_exactly(stream, "size")?);
    let digest: [u8; 32] = recv_exactly(stream, "digest")?;
    let digest = String::from_utf8(digest.to_vec()).map_err(|error| error.to_string())?;
    let path = dir.join(name);
    let found = receive_body(stream, size, &path)?;
    if found != digest {
        return Err(format!("digest {digest} announced, {found} received"));
    }
    Ok(Fetched::Verified { path, size })
}

/// Saves the body and answers its digest.
fn receive_body(stream: &mut TcpStream, size: u64, path: &Path) -> Result<String, String> {
    let mut file = File::create(path).map_err(|error| error.to_string())?;
    let mut hash = Md5::new();
    let mut left = size;
    let mut block = vec![0; 1024 * 1024];
    while left > 0 {
        let wanted = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count =
            uninterrupted(stream, &mut block[..wanted]).map_err(|error| format!("{left} bytes missing: {error}"))?;
        if count == 0 {
            return Err(format!("connection closed with {left} bytes missing"));
        }
        hash.update(&block[..count]);
        file.write_all(&block[..count]).map_err(|error| error.to_string())?;
        left -= count as u64;
    }
    Ok(hex(&hash.finalize()))
}

/// One read, of at most `wanted` bytes: never a loop, that is the point of it.
fn recv(stream: &mut TcpStream, wanted: usize, what: &str) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; wanted];
    let count = uninterrupted(stream, &mut bytes).map_err(|error| format!("reading the {what}: {error}"))?;
    bytes.truncate(count);
    Ok(bytes)
}

/// A read that goes on after a signal, as Python's do (PEP 475): a machine that is stopped for a moment interrupts it.
fn uninterrupted(stream: &mut TcpStream, room: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(room) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn recv_exactly<const N: usize>(stream: &mut TcpStream, what: &str) -> Result<[u8; N], String> {
    let bytes = recv(stream, N, what)?;
    bytes.try_into().map_err(|bytes: Vec<u8>| format!("{what}: {N} bytes expected in one read, got {}", bytes.len()))
}
