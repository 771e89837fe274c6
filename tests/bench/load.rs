//! Many connections in one thread, each of which asks again and again and throws away what comes.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::files::evict;
use super::reader::Reader;
use super::speech::Speech;
use super::trouble::{Doing, Trouble, ensure};

const EVENTS_MAX: usize = 1024;

/// A server that says nothing to anybody for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a connection asks for.
#[derive(Clone, Copy)]
pub struct Asks<'a> {
    /// One request for each name, in turn.
    pub requests: &'a [Vec<u8>],
    /// Requests on the way at most: few enough that sending them never waits.
    pub ahead: u64,
    /// Requests in all.
    pub total: u64,
    /// A file to be taken out of memory before each request.
    pub cold: Option<&'a File>,
}

impl<'a> Asks<'a> {
    /// One request after the other, without end.
    pub fn again_and_again(requests: &'a [Vec<u8>]) -> Asks<'a> {
        Asks { requests, ahead: 1, total: u64::MAX, cold: None }
    }
}

pub struct Load<'a> {
    epoll: OwnedFd,
    flows: Vec<Flow<'a>>,
    finished: usize,
}

impl<'a> Load<'a> {
    /// Connects and asks, once for each of `asks`.
    pub fn start(
        addr: SocketAddr,
        speech: Speech,
        asks: impl IntoIterator<Item = Asks<'a>>,
    ) -> Result<Load<'a>, Trouble> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).doing("cannot poll")?;
        let mut flows = Vec::new();
        for asks in asks {
            let reader = Reader::connect(addr, speech)?;
            let index = epoll::EventData::new_u64(flows.len() as u64);
            epoll::add(&epoll, &reader.stream, index, epoll::EventFlags::IN).doing("cannot watch a connection")?;
            flows.push(Flow { reader, asks, asked: 0 });
        }
        flows.iter_mut().try_for_each(Flow::ask)?;
        Ok(Load { epoll, flows, finished: 0 })
    }

    /// Bytes of files that came so far.
    pub fn body(&self) -> u64 {
        self.flows.iter().map(|flow| flow.reader.decoder.body).sum()
    }

    /// Whether each connection has had some of a file.
    pub fn all_served(&self) -> bool {
        self.flows.iter().all(|flow| flow.reader.decoder.body > 0)
    }

    /// Goes on until all that was to be asked for has come.
    pub fn finish(&mut self) -> Result<(), Trouble> {
        while self.finished < self.flows.len() {
            self.turn()?;
        }
        Ok(())
    }

    /// Waits for bytes, reads once from each connection that has some, and asks for more.
    pub fn turn(&mut self) -> Result<(), Trouble> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let patience = Timespec::try_from(PATIENCE).ok();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), patience.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            count => ensure(count.doing("cannot poll")? > 0, || format!("not a byte for {PATIENCE:?}"))?,
        }
        for event in events {
            let flow = &mut self.flows[event.data.u64() as usize];
            flow.reader.receive()?;
            flow.ask()?;
            self.finished += usize::from(flow.reader.decoder.replies == flow.asks.total);
        }
        Ok(())
    }
}

struct Flow<'a> {
    reader: Reader,
    asks: Asks<'a>,
    asked: u64,
}

impl Flow<'_> {
    /// Asks anew when half of what was asked has come: many small writes would only keep the harness busy.
    fn ask(&mut self) -> Result<(), Trouble> {
        let (replies, asks) = (self.reader.decoder.replies, &self.asks);
        if self.asked - replies > asks.ahead / 2 {
            return Ok(());
        }
        let mut unsent = Vec::new();
        while self.asked < asks.total.min(replies + asks.ahead) {
            asks.cold.map_or(Ok(()), evict)?;
            let index = self.asked % asks.requests.len() as u64;
            unsent.extend_from_slice(&asks.requests[index as usize]);
            self.asked += 1;
        }
        self.reader.send(&unsent)
    }
}
