//! Version 1 of the wire by hand: what a client says, what a server answers, and readers that take their time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt};

use super::content::md5_hex;
use super::wait::PATIENCE;

/// The receive buffer of a slow reader. A small one keeps the kernel from taking in the file for it.
pub const SLOW_BUFFER: usize = 16 * 1024;

/// What comes between `OK` and the bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub name: String,
    pub size: u64,
    pub digest: String,
}

pub fn request(name: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(name.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(name);
    bytes
}

/// The metadata of a file, as an honest server sends it.
pub fn metadata(name: &str, body: &[u8]) -> Vec<u8> {
    metadata_claiming(name.as_bytes(), body.len() as u64, md5_hex(body).as_bytes())
}

pub fn metadata_claiming(name: &[u8], size: u64, digest: &[u8]) -> Vec<u8> {
    let mut bytes = request(name);
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(digest);
    bytes
}

pub fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Closed in the children that other tests start meanwhile: a server counts what it has inherited.
fn socket() -> OwnedFd {
    socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

/// A connection from another address of the loopback: 127.0.0.N. A small receive buffer lets the kernel hold little of
/// what nobody reads.
pub fn dial_from(n: u8, addr: SocketAddr, buffer: Option<usize>) -> TcpStream {
    let fd = socket();
    if let Some(bytes) = buffer {
        sockopt::set_socket_recv_buffer_size(&fd, bytes).unwrap();
    }
    bind(&fd, &SocketAddr::from(([127, 0, 0, n], 0))).unwrap();
    connect(&fd, &addr).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection whose reader lets the kernel hold as little as possible.
pub fn dial_slowly(addr: SocketAddr) -> TcpStream {
    let fd = socket();
    sockopt::set_socket_recv_buffer_size(&fd, SLOW_BUFFER).unwrap();
    connect(&fd, &addr).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends these bytes and reads to the end. A reset ends the reply too: the caller sees what came before it.
pub fn exchange(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = dial(addr);
    // The server may have refused and closed before it took everything.
    let _ = stream.write_all(bytes);
    read_to_end(&mut stream)
}

/// Asks for a file and reads the whole reply.
pub fn ask(addr: SocketAddr, name: &[u8]) -> Vec<u8> {
    exchange(addr, &request(name))
}

pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("no end of the reply: {error}"),
        _ => reply,
    }
}

/// Reads `OK` and the metadata, and nothing of the file.
pub fn read_head(stream: &mut TcpStream) -> Metadata {
    let status: [u8; 2] = read_array(stream);
    if status != *b"OK" {
        let rest = read_to_end(stream);
        panic!("OK expected, got {:?}{:?}", status.escape_ascii().to_string(), rest.escape_ascii().to_string());
    }
    let mut name = vec![0; u32::from_be_bytes(read_array(stream)) as usize];
    stream.read_exact(&mut name).unwrap();
    let size = u64::from_be_bytes(read_array(stream));
    let digest: [u8; 32] = read_array(stream);
    Metadata { name: String::from_utf8(name).unwrap(), size, digest: String::from_utf8(digest.to_vec()).unwrap() }
}

/// Reads and forgets; answers how many bytes came before the end.
pub fn drain(stream: &mut TcpStream) -> u64 {
    let mut block = vec![0; 1024 * 1024];
    let mut total = 0;
    loop {
        match stream.read(&mut block) {
            Ok(0) => return total,
            Ok(count) => total += count as u64,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return total,
            Err(error) => panic!("after {total} bytes: {error}"),
        }
    }
}

pub fn read_array<const N: usize>(stream: &mut impl Read) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// The other side of a request, as a scripted server reads it: the name, however it was cut.
pub fn read_request(stream: &mut impl Read) -> Vec<u8> {
    let mut name = vec![0; u32::from_be_bytes(read_array(stream)) as usize];
    stream.read_exact(&mut name).unwrap();
    name
}

/// The message of an `ERROR` reply; panics on any other reply.
pub fn refusal(reply: &[u8]) -> String {
    let message = reply.strip_prefix(b"ERROR");
    let message = message.unwrap_or_else(|| panic!("ERROR expected, got {:?}", reply.escape_ascii().to_string()));
    String::from_utf8(message.to_vec()).unwrap()
}

/// A port of the loopback that is taken and refuses every connection, until `open` lets it listen.
pub struct ClosedPort {
    fd: OwnedFd,
    pub addr: SocketAddr,
}

impl ClosedPort {
    pub fn new() -> ClosedPort {
        let fd = socket();
        bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = rustix::net::getsockname(&fd).unwrap().try_into().unwrap();
        ClosedPort { fd, addr }
    }

    pub fn open(self, backlog: i32) -> TcpListener {
        listen(&self.fd, backlog).unwrap();
        TcpListener::from(self.fd)
    }
}

#[test]
fn a_closed_port_refuses_until_it_is_opened() {
    let port = ClosedPort::new();
    let addr = port.addr;
    assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let listener = port.open(8);
    assert!(TcpStream::connect(addr).is_ok());
    drop(listener);
}
