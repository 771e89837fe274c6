//! One attempt at one file: ask, read the answer, receive, verify, save (xfer-protocol(5), VERSION 1).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::link::{Link, Read};
use super::progress::Progress;
use super::receive::{Block, Body, Receiver};
use super::target::{Target, There};
use super::wait::{Stop, Waits};
use super::{Existing, GetConfig};
use crate::error::{Error, ExitCode, reason};
use crate::proto::digest::Digest;
use crate::proto::v1::{self, Metadata, Status};
use crate::proto::{MESSAGE_MAX, Malformed, NAME_MAX, base_name};
use crate::text;

/// A server of the first system says `OK`, and then hashes the whole file before its next byte.
const METADATA_TIMEOUT: Duration = Duration::from_secs(300);

/// How long after the last byte of the file the server may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the bar shows how far a local file has been hashed.
const COMPARE_REFRESH: Duration = Duration::from_millis(100);

/// One attempt; the line that says how the file ended well.
pub fn attempt(
    name: &[u8],
    config: &GetConfig,
    started: Instant,
    target: &mut Target,
    receiver: &mut Receiver,
    waits: &mut Waits,
    progress: &mut Progress,
) -> Result<String, Stop> {
    let link = Link::connect(&config.host, config.port, config.timeout, waits)?;
    let mut attempt = Attempt { name, config, link, waits, progress, input: Vec::new() };
    attempt.ask()?;
    let metadata = attempt.answer()?;
    if let Some(line) = attempt.compare(&metadata, target, receiver)? {
        return Ok(line);
    }
    let digest = attempt.receive(&metadata, target, receiver)?;
    if digest != metadata.digest {
        return Err(Stop::Mismatch(format!(
            "{} arrived damaged: its MD5 is {digest}, the server said {}",
            text::quoted(name),
            metadata.digest
        )));
    }
    let replaces = config.existing != Existing::Keep;
    if !target.commit(config.sync, replaces, receiver.writer(), attempt.waits)? {
        return Ok(format!("kept {}: it has appeared meanwhile (--no-clobber)", target.shown()));
    }
    attempt.progress.complete();
    let seconds = started.elapsed().as_secs_f64();
    Ok(format!(
        "{} {}: {}, md5 {digest}, verified, {seconds:.1} s, {}",
        if target.is_stream() { "written to" } else { "saved" },
        target.shown(),
        text::size(metadata.size),
        text::speed(metadata.size, seconds)
    ))
}

struct Attempt<'a> {
    name: &'a [u8],
    config: &'a GetConfig,
    link: Link,
    waits: &'a mut Waits,
    progress: &'a mut Progress,
    /// What has arrived and is not used yet.
    input: Vec<u8>,
}

impl Attempt<'_> {
    fn ask(&mut self) -> Result<(), Stop> {
        // Checked before the first connection.
        let name = v1::check_name(self.name).map_err(|malformed| self.broken(malformed))?;
        let request = v1::encode_request(name);
        self.link.send(&request, self.config.timeout, self.waits)
    }

    fn broken(&self, malformed: Malformed) -> Stop {
        Stop::protocol(format!("bad reply from {}: {malformed}", self.link.server()))
    }

    /// Reads until `parse` has its value.
    fn read_value<T>(
        &mut self,
        timeout: Duration,
        awaited: &str,
        parse: impl Fn(&[u8]) -> Result<Option<(usize, T)>, Malformed>,
    ) -> Result<T, Stop> {
        let mut buffer = [0; 2 * NAME_MAX];
        loop {
            if let Some((used, value)) = parse(&self.input).map_err(|malformed| self.broken(malformed))? {
                self.input.drain(..used);
                return Ok(value);
            }
            let server = self.link.server().to_string();
            match self.link.read(&mut buffer, timeout, self.waits)? {
                Read::Bytes(n) => self.input.extend_from_slice(&buffer[..n]),
                Read::End => return Err(Stop::again(format!("{server} closed the connection before {awaited}"))),
                Read::Reset => return Err(Stop::again(format!("{server} cut the connection before {awaited}"))),
                Read::Nothing => {
                    let seconds = timeout.as_secs_f64();
                    return Err(Stop::again(format!("{server} sent nothing for {seconds} s before {awaited}")));
                }
            }
        }
    }

    fn answer(&mut self) -> Result<Metadata, Stop> {
        match self.read_value(self.config.timeout, "its answer", v1::parse_status)? {
            Status::Ok => {}
            Status::Error => return Err(self.refusal()),
        }
        let metadata =
            self.read_value(METADATA_TIMEOUT.max(self.config.timeout), "size and digest", v1::parse_metadata)?;
        let expected = base_name(self.name);
        if metadata.name != expected {
            return Err(Stop::protocol(format!(
                "bad reply from {}: it sends {} and was asked for {}",
                self.link.server(),
                text::quoted(&metadata.name),
                text::quoted(expected)
            )));
        }
        log::debug!(target: "main", "{} has {} bytes, md5 {}", text::quoted(self.name), metadata.size, metadata.digest);
        Ok(metadata)
    }

    /// The server's own words, up to the end of input.
    fn refusal(&mut self) -> Stop {
        let mut buffer = [0; MESSAGE_MAX];
        loop {
            if self.input.len() > MESSAGE_MAX {
                return self.broken(Malformed::LongMessage);
            }
            match self.link.read(&mut buffer, self.config.timeout, self.waits) {
                Ok(Read::Bytes(n)) => self.input.extend_from_slice(&buffer[..n]),
                Err(stop) => return stop,
                // Whatever ended it: what was said was said.
                Ok(_) => break,
            }
        }
        let message = match text::escaped(&self.input) {
            message if message.is_empty() => String::from("no reason given"),
            message => message,
        };
        let server = self.link.server();
        let message = format!("{server} refused {}: {message}", text::quoted(self.name));
        Stop::Final(Error::new(ExitCode::Refused, message))
    }

    /// Whether the target holds the same content already; the line that says so. The connection waits meanwhile.
    fn compare(
        &mut self,
        metadata: &Metadata,
        target: &mut Target,
        receiver: &Receiver,
    ) -> Result<Option<String>, Stop> {
        if self.config.existing != Existing::Compare {
            return Ok(None);
        }
        let digest = match target.existing(metadata.size) {
            There::Nothing => return Ok(None),
            There::Hashed(digest) => digest,
            There::File(path) => match self.hash(path, metadata.size, receiver)? {
                Ok(digest) => digest,
                Err(error) => {
                    log::info!(target: "main", "cannot compare {}: {}: fetching", target.shown(), reason(&error));
                    return Ok(None);
                }
            },
        };
        target.hashed(digest);
        if digest != metadata.digest {
            log::info!(target: "main", "{} differs from the server's: fetching", target.shown());
            return Ok(None);
        }
        Ok(Some(format!(
            "{} is already there: {}, md5 {digest}, the same as on the server",
            target.shown(),
            text::size(metadata.size)
        )))
    }

    /// The digest of a local file, with a bar.
    fn hash(&mut self, path: PathBuf, size: u64, receiver: &Receiver) -> Result<io::Result<Digest>, Stop> {
        self.progress.begin(&format!("comparing {}", text::escaped(base_name(self.name))), size);
        let done = Arc::new(AtomicU64::new(0));
        let pending = receiver.hash_file(path, Arc::clone(&done));
        let result = loop {
            if let Some(result) = pending.poll()? {
                break result;
            }
            self.waits.wait(Some(Instant::now() + COMPARE_REFRESH))?;
            self.progress.advance(done.load(Ordering::Relaxed));
        };
        self.progress.end();
        Ok(result)
    }

    /// Receives, hashes and writes the whole file.
    fn receive(&mut self, metadata: &Metadata, target: &mut Target, receiver: &mut Receiver) -> Result<Digest, Stop> {
        receiver.settle(self.waits)?;
        let sink = target.begin(metadata)?;
        let mut body = receiver.begin(sink, self.config.sync);
        self.progress.begin(&text::escaped(base_name(self.name)), metadata.size);
        let result = self.receive_all(&mut body, metadata.size, target.brought());
        if let (Err(Stop::Again { .. }), true) = (&result, target.is_stream()) {
            // What went out cannot be taken back: the next attempt must bring it once more, to the byte.
            target.bring(body.received(), body.finish(self.waits)?);
        }
        result?;
        self.expect_end(metadata.size)?;
        body.finish(self.waits)
    }

    /// Receives every byte; those that earlier attempts have `brought` must have the same digest again.
    fn receive_all(&mut self, body: &mut Body<'_>, size: u64, brought: Option<(u64, Digest)>) -> Result<(), Stop> {
        while body.received() < size {
            // A fast server leaves nothing to wait for, and signals would go unseen.
            self.waits.check()?;
            let end = brought.map_or(size, |(bytes, _)| if body.received() < bytes { bytes } else { size });
            let mut block = body.block(self.waits)?;
            self.fill(&mut block, body, end, size)?;
            body.take(block);
            if let Some((bytes, digest)) = brought
                && bytes == body.received()
                && body.digest(self.waits)? != digest
            {
                let message = format!(
                    "{} sends other bytes than in the attempt before; the {bytes} bytes that went out already are in doubt",
                    self.link.server()
                );
                return Err(Stop::protocol(message));
            }
        }
        Ok(())
    }

    /// Fills a block with bytes before `end`; one for a stream only as far as bytes are there.
    fn fill(&mut self, block: &mut Block, body: &Body<'_>, end: u64, size: u64) -> Result<(), Stop> {
        let left = usize::try_from(end - body.received()).unwrap_or(usize::MAX);
        let goal = block.capacity().min(left);
        let kept = goal.min(self.input.len());
        for (to, from) in block.room(kept).iter_mut().zip(self.input.drain(..kept)) {
            *to = from;
        }
        block.add(kept);
        while block.len() < goal {
            let timeout = self.config.timeout;
            let read = match block.len() > 0 && body.is_stream() {
                true => self.link.read_now(block.room(goal)),
                false => self.link.read(block.room(goal), timeout, self.waits)?,
            };
            match read {
                Read::Bytes(n) => block.add(n),
                // What came is worth having; an end or a reset shows again at the next read.
                Read::End | Read::Reset if block.len() > 0 => break,
                Read::Nothing if block.len() > 0 && body.is_stream() => break,
                read => return Err(self.short(read, body.received() + block.len() as u64, size)),
            }
            self.progress.advance(body.received() + block.len() as u64);
        }
        Ok(())
    }

    /// A body that ended, in this way, before its end.
    fn short(&self, read: Read, received: u64, size: u64) -> Stop {
        let what = match read {
            Read::End | Read::Bytes(_) => String::from("closed the connection"),
            Read::Reset => String::from("cut the connection"),
            Read::Nothing => format!("sent nothing for {} s", self.config.timeout.as_secs_f64()),
        };
        Stop::again(format!("{} {what} after {received} of {size} bytes", self.link.server()))
    }

    /// The close is part of the reply: a byte more than announced is none of the file's.
    fn expect_end(&mut self, size: u64) -> Result<(), Stop> {
        let mut byte = [0];
        if self.input.is_empty() && !matches!(self.link.read(&mut byte, CLOSE_TIMEOUT, self.waits)?, Read::Bytes(_)) {
            return Ok(());
        }
        let server = self.link.server();
        Err(Stop::protocol(format!("bad reply from {server}: more bytes than the {size} that it announced")))
    }
}
