//! One connection that asks, and reads the replies.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::files::Source;
use super::speech::{Decoder, Speech};
use super::trouble::{Doing, Trouble, ensure};

/// A server that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const BLOCK: usize = 256 * 1024;

thread_local! {
    /// Where bytes arrive; one for all connections of a thread, since no byte is kept.
    static ARRIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; BLOCK]);
}

pub struct Reader {
    pub stream: TcpStream,
    pub decoder: Decoder,
}

impl Reader {
    pub fn connect(addr: SocketAddr, speech: Speech) -> Result<Reader, Trouble> {
        Ok(Reader { stream: connect(addr)?, decoder: Decoder::new(speech) })
    }

    pub fn send(&mut self, requests: &[u8]) -> Result<(), Trouble> {
        self.stream.write_all(requests).doing("cannot ask")
    }

    /// Waits for bytes and takes what has come.
    pub fn receive(&mut self) -> Result<(), Trouble> {
        ARRIVED.with_borrow_mut(|block| {
            let count = self.stream.read(block).doing("cannot read a reply")?;
            ensure(count > 0, || "a server ended a connection early".to_owned())?;
            self.decoder.take(&block[..count])
        })
    }

    /// Sends a request and reads the whole reply; says how long that took.
    pub fn fetch(&mut self, request: &[u8]) -> Result<Duration, Trouble> {
        let (start, wanted) = (Instant::now(), self.decoder.replies + 1);
        self.send(request)?;
        while self.decoder.replies < wanted {
            self.receive()?;
        }
        Ok(start.elapsed())
    }
}

/// A connection that sends at once, and does not wait for ever.
pub fn connect(addr: SocketAddr) -> Result<TcpStream, Trouble> {
    let stream = TcpStream::connect(addr).doing("cannot connect")?;
    stream.set_nodelay(true).doing("cannot set up a connection")?;
    stream.set_read_timeout(Some(PATIENCE)).doing("cannot set up a connection")?;
    Ok(stream)
}

/// Fails unless the server gives out these files as they are.
pub fn check(addr: SocketAddr, speech: Speech, files: &[Source]) -> Result<(), Trouble> {
    let mut reader = Reader::connect(addr, speech)?;
    for file in files {
        reader.decoder.hash();
        reader.fetch(&speech.request(&file.name))?;
        let right = reader.decoder.hashed() == Some(file.md5);
        ensure(right, || format!("{speech:?} has sent other bytes of {} than it holds", file.name))?;
    }
    Ok(())
}
