//! One attempt at one file in version 1: ask, read the answer, receive (xfer-protocol(5), VERSION 1).

use std::time::Duration;

use super::clock;
use super::item::{Item, Outcome, Received, Tools};
use super::link::{Link, Lost, Read, When};
use super::receive::{Body, Room};
use super::refusal::refusal_v1;
use super::slot::About;
use super::target::Offer;
use super::time_limits::TimeLimits;
use super::wait::Stop;
use crate::error::{Error, ExitCode};
use crate::proto::digest::Algorithm;
use crate::proto::v1::{self, Metadata, Status};
use crate::proto::{MESSAGE_MAX, Malformed, Version, base_name};
use crate::text;

/// A server of the first system says `OK`, and then hashes the whole file before its next byte.
const METADATA_TIMEOUT: Duration = Duration::from_secs(300);

/// How long after the last byte of the file the server may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that has answered.
pub struct Answered {
    link: Link,
    status: Status,
}

/// Asks for a file, and waits for the first word of the answer: whoever says it speaks version 1.
pub fn ask(item: &Item<'_>, tools: &mut Tools<'_>) -> Result<Answered, Stop> {
    let config = tools.config;
    let name = v1::check_name(item.name).map_err(|malformed| {
        let message = format!(
            "cannot fetch {} from {}, which speaks version 1: {malformed}",
            text::quoted(item.name),
            tools.server
        );
        Stop::Final(Error::new(ExitCode::Usage, message))
    })?;
    let mut link = Link::connect(tools)?;
    link.send(&v1::encode_request(name));
    let status = link.value(clock::now() + config.timeout, tools, v1::parse_status)?;
    match status {
        Ok(status) => Ok(Answered { link, status }),
        Err(lost) if tools.is_xfer_server => Err(link.lost(lost, config.timeout, When::Reply)),
        Err(lost) => Err(link.no_reply(lost, tools)?),
    }
}

impl Answered {
    /// Whether the answer is an error.
    pub fn is_refusal(&self) -> bool {
        self.status == Status::Error
    }

    /// Takes the rest of the answer.
    pub fn finish(self, item: &mut Item<'_>, tools: &mut Tools<'_>) -> Result<Outcome, Stop> {
        let Answered { mut link, status } = self;
        if status == Status::Error {
            return Err(refusal(&mut link, item, tools)?);
        }
        let metadata = metadata(&mut link, item, tools)?;
        if is_up_to_date(item, &metadata, tools)? {
            return Ok(Outcome::UpToDate { digest: metadata.digest, size: metadata.size });
        }
        receive(&mut link, item, &metadata, tools)
    }
}

fn metadata(link: &mut Link, item: &Item<'_>, tools: &mut Tools<'_>) -> Result<Metadata, Stop> {
    let timeout = METADATA_TIMEOUT.max(tools.config.timeout);
    let metadata = link.value(clock::now() + timeout, tools, v1::parse_metadata)?;
    let metadata = metadata.map_err(|lost| link.lost(lost, timeout, When::Metadata))?;
    tools.is_xfer_server = true;
    let expected = base_name(item.name);
    if metadata.name != expected {
        return Err(Stop::protocol(format!(
            "bad reply from {}: it offers {} instead of {}",
            link.server(),
            text::quoted(&metadata.name),
            text::quoted(expected)
        )));
    }
    let Metadata { size, digest, .. } = &metadata;
    log::debug!(target: "main", "{} has {size} bytes, md5 {digest}", text::quoted(item.name));
    Ok(metadata)
}

/// The server's own words, up to the end of input.
fn refusal(link: &mut Link, item: &Item<'_>, tools: &mut Tools<'_>) -> Result<Stop, Stop> {
    let mut message = Vec::new();
    let mut buffer = [0; MESSAGE_MAX];
    // All of it together: a server that says a byte now and then would take hours for it.
    let until = clock::now() + tools.config.timeout;
    // Whatever ends it: what was said was said.
    while let Read::Bytes(n) = link.read(&mut buffer, until, tools)? {
        message.extend_from_slice(buffer.get(..n).unwrap_or_default());
        if message.len() > MESSAGE_MAX {
            return Ok(link.broken(Malformed::LongMessage));
        }
    }
    tools.is_xfer_server = true;
    Ok(refusal_v1(link.server(), item.name, &message))
}

/// Whether the target holds the same content already. The connection waits meanwhile.
fn is_up_to_date(item: &mut Item<'_>, metadata: &Metadata, tools: &mut Tools<'_>) -> Result<bool, Stop> {
    if tools.config.existing != super::Existing::Compare {
        return Ok(false);
    }
    let comparison = item.digest_existing(metadata.size, Algorithm::Md5, tools);
    let ours = item.existing_digest(comparison, tools)?;
    Ok(item.is_up_to_date(ours, &metadata.digest))
}

/// Receives, hashes and writes the whole file.
fn receive(link: &mut Link, item: &mut Item<'_>, metadata: &Metadata, tools: &mut Tools<'_>) -> Result<Outcome, Stop> {
    let offer = offer(item, metadata, tools);
    // What an interrupted stream has brought already, all of it written.
    let brought = item.target.brought().cloned();
    let mut body = item.begin(&offer, tools)?;
    let mut result = Ok(());
    if let Some(brought) = brought {
        result = receive_to(link, &mut body, brought.offset, metadata.size, tools)
            .and_then(|()| expect_same(link, &mut body, brought.hasher.finish(), tools));
    }
    let result = result
        .and_then(|()| receive_to(link, &mut body, metadata.size, metadata.size, tools))
        .and_then(|()| expect_end(link, metadata.size, tools))
        .and_then(|()| body.finish(&mut tools.waits));
    let digest = match result {
        Ok(digest) => digest,
        Err(stop) => return Err(item.interrupt(body, &offer, stop, tools)),
    };
    item.received += metadata.size;
    if digest != metadata.digest {
        return Err(item.damaged(&digest, &metadata.digest));
    }
    Ok(Outcome::Received(Received { digest, offer, slowed_by_digest: false }))
}

/// Version 1 has no versions: the digest, known before the first byte, stands for one.
fn offer(item: &Item<'_>, metadata: &Metadata, tools: &Tools<'_>) -> Offer {
    let mut version = Version::UNKNOWN;
    for (to, from) in version.0.iter_mut().zip(metadata.digest.as_bytes()) {
        *to = *from;
    }
    let about = About {
        name: item.name.to_vec(),
        origin: tools.server.clone(),
        size: metadata.size,
        version,
        algorithm: Algorithm::Md5,
    };
    Offer { about, offset: 0, attributes: None }
}

/// Receives up to a byte of the file.
fn receive_to(link: &mut Link, body: &mut Body<'_>, end: u64, size: u64, tools: &mut Tools<'_>) -> Result<(), Stop> {
    let timeout = tools.config.timeout;
    let mut limits = TimeLimits::new(timeout);
    // The server has hashed the file meanwhile.
    link.take_waited();
    while body.received() < end {
        let before = clock::now();
        let room = body.room(end - body.received(), &mut tools.waits)?;
        let room_len = room.len();
        limits.excuse(clock::since(before));
        match link.read(room, limits.until(), tools)? {
            Read::Bytes(n) => {
                body.add(n);
                if n < room_len {
                    body.pause();
                }
                limits.hear(n as u64, link.take_waited());
                tools.progress.advance(body.received());
            }
            Read::Lost(lost) => {
                return Err(link.lost(lost, timeout, When::Bytes { received: body.received(), size }));
            }
        }
        if let Some(how) = limits.too_slow() {
            let when = When::Bytes { received: body.received(), size };
            return Err(Stop::again(format!("{} {how} {when}", link.server())));
        }
    }
    body.end_frame();
    Ok(())
}

/// What went out cannot be taken back: a later attempt must bring the same again, to the byte.
fn expect_same(
    link: &Link,
    body: &mut Body<'_>,
    digest: crate::proto::digest::Digest,
    tools: &mut Tools<'_>,
) -> Result<(), Stop> {
    if body.digest(&mut tools.waits)? == digest {
        return Ok(());
    }
    Err(Stop::protocol(format!(
        "{} sent different data than in the previous attempt; discard the {} already written, and run the command again",
        link.server(),
        text::size(body.received())
    )))
}

/// The close is part of the reply: a byte more than announced is none of the file's.
fn expect_end(link: &mut Link, size: u64, tools: &mut Tools<'_>) -> Result<(), Stop> {
    match link.read(&mut [0], clock::now() + CLOSE_TIMEOUT, tools)? {
        Read::Bytes(_) => {
            let server = link.server();
            Err(Stop::protocol(format!("bad reply from {server}: more than the announced {size} bytes")))
        }
        Read::Lost(Lost::End | Lost::Reset | Lost::Silence) => Ok(()),
    }
}
