//! A link with faults: a relay in front of a server that cuts, holds, damages or chops what it passes on, and keeps
//! the books on what was asked and what was sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt;

use super::wait::{PATIENCE, wait_for};
use super::wire2::Get;

/// What is kept of what a client said: far more than any test's requests.
const ASKED_MAX: usize = 1 << 20;

/// Unsent bytes of a connection that is cut are lost; this is how many there can be. Beside the files of the tests it
/// is nothing.
const SEND_BUFFER: usize = 64 * 1024;

/// What the kernel takes in for a relay that holds: the server must not run far ahead of what passed.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// A connection that nobody releases ends after this long, so that no test hangs for ever.
const HELD_MAX: Duration = Duration::from_secs(2 * PATIENCE.as_secs());

/// What happens to one connection. Counts are bytes to the client.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    cut: Option<(u64, Cut)>,
    hold: Option<u64>,
    flips: Vec<u64>,
    chop: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Reset,
    Close,
}

impl Plan {
    /// Everything passes as it is.
    pub fn faithful() -> Plan {
        Plan::default()
    }

    /// Ends after so many bytes. With 0 the request still reaches the server.
    pub fn cut(after: u64, how: Cut) -> Plan {
        Plan { cut: Some((after, how)), ..Plan::default() }
    }

    /// Stands still after so many bytes, until it is released or the client goes away.
    pub fn hold(after: u64) -> Plan {
        Plan { hold: Some(after), ..Plan::default() }
    }

    /// Changes one bit of the bytes at these places.
    pub fn flip(at: &[u64]) -> Plan {
        Plan { flips: at.to_vec(), ..Plan::default() }
    }

    /// Every byte in a write of its own.
    pub fn chop() -> Plan {
        Plan { chop: true, ..Plan::default() }
    }

    pub fn and_cut(self, after: u64, how: Cut) -> Plan {
        Plan { cut: Some((after, how)), ..self }
    }

    pub fn and_hold(self, after: u64) -> Plan {
        Plan { hold: Some(after), ..self }
    }

    /// How many of the next `count` bytes may go on, behind `sent` others, before something happens.
    fn until_event(&self, sent: u64, count: usize) -> usize {
        let count = if self.chop { 1 } else { count };
        let events = [self.cut.map(|(after, _)| after), self.hold];
        let ahead = events.into_iter().flatten().filter(|at| *at > sent).map(|at| at - sent).min();
        ahead.map_or(count, |ahead| count.min(usize::try_from(ahead).unwrap_or(usize::MAX)))
    }

    /// Changes what is to be changed in bytes that follow `sent` others.
    fn damage(&self, sent: u64, bytes: &mut [u8]) {
        for at in self.flips.iter().filter_map(|at| at.checked_sub(sent)) {
            if let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)) {
                *byte ^= 0x10;
            }
        }
    }
}

/// Stops on drop; tells what it has seen if the test failed.
pub struct Relay {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    plan: Box<dyn Fn(usize) -> Plan + Send + Sync>,
    connections: Mutex<Vec<Arc<Connection>>>,
    stopping: AtomicBool,
}

/// One connection of a client, and what passed through it.
struct Connection {
    peer: SocketAddr,
    plan: Plan,
    /// To end them from elsewhere, as long as they are open.
    sockets: Mutex<Vec<TcpStream>>,
    asked: Mutex<Vec<u8>>,
    to_server: AtomicU64,
    to_client: AtomicU64,
    gate: Mutex<Gate>,
    changed: Condvar,
    ended: AtomicBool,
}

#[derive(Default)]
struct Gate {
    holding: bool,
    released: bool,
    client_gone: bool,
}

impl Relay {
    /// `plan` says what happens to each connection, by its number from 0.
    pub fn new(upstream: SocketAddr, plan: impl Fn(usize) -> Plan + Send + Sync + 'static) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            plan: Box::new(plan),
            connections: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Relay { addr, shared, acceptor: Some(acceptor) }
    }

    /// The same for every connection.
    pub fn of(upstream: SocketAddr, plan: Plan) -> Relay {
        Relay::new(upstream, move |_| plan.clone())
    }

    /// Where the next connections lead.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap() = upstream;
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// Bytes sent on to the client, in all connections.
    pub fn to_client(&self) -> u64 {
        self.each(|connection| connection.to_client.load(Ordering::SeqCst)).iter().sum()
    }

    /// Bytes in both directions, in all connections.
    pub fn traffic(&self) -> u64 {
        self.to_client() + self.each(|connection| connection.to_server.load(Ordering::SeqCst)).iter().sum::<u64>()
    }

    /// The first byte that each connection's client said, if it said one.
    pub fn first_bytes(&self) -> Vec<Option<u8>> {
        self.each(|connection| connection.asked.lock().unwrap().first().copied())
    }

    /// What was asked in each connection; None for one that is not of version 2.
    pub fn gets(&self) -> Vec<Option<Vec<Get>>> {
        self.each(|connection| Get::all_in(&connection.asked.lock().unwrap()))
    }

    /// Whether a client spoke version 1 in any of the connections.
    pub fn was_asked_in_version_1(&self) -> bool {
        self.first_bytes().contains(&Some(0))
    }

    /// What was asked in version 2, in whichever connection.
    pub fn all_gets(&self) -> Vec<Get> {
        self.gets().into_iter().flatten().flatten().collect()
    }

    /// Waits until this connection stands still.
    pub fn wait_until_held(&self, number: usize) {
        wait_for(&format!("connection {number} to be held by the relay"), || self.is_held(number));
    }

    pub fn is_held(&self, number: usize) -> bool {
        self.connection(number).is_some_and(|connection| connection.gate.lock().unwrap().holding)
    }

    /// Waits until all that clients of the past have begun is counted and over, by a connection of its own behind them.
    pub fn settle(&self) {
        let own = TcpStream::connect(self.addr).unwrap().local_addr().unwrap();
        wait_for("the relay to reach its own connection", || self.each(|connection| connection.peer).contains(&own));
        self.wait_until_quiet();
    }

    /// Lets a connection that is held, or will be, go on.
    pub fn release(&self, number: usize) {
        let connection = self.connection(number).expect("a connection to release");
        connection.gate.lock().unwrap().released = true;
        connection.changed.notify_all();
    }

    /// Waits until nothing can pass any more, so that the counts are final.
    pub fn wait_until_quiet(&self) {
        wait_for("the relay's connections to end", || {
            self.each(|connection| connection.ended.load(Ordering::SeqCst)).into_iter().all(|ended| ended)
        });
    }

    pub fn report(&self) -> String {
        let lines = self.each(|connection| {
            let (up, down) = (connection.to_server.load(Ordering::SeqCst), connection.to_client.load(Ordering::SeqCst));
            let asked = connection.asked.lock().unwrap();
            let shown = match Get::all_in(&asked) {
                Some(gets) if gets.len() <= 8 => format!("{gets:?}"),
                Some(gets) => format!("{} GETs", gets.len()),
                None => asked[..asked.len().min(100)].escape_ascii().to_string(),
            };
            format!("{:?}: {up} bytes to the server, {down} to the client: {shown}\n", connection.plan)
        });
        format!("relay:\n{}", lines.concat())
    }

    fn connection(&self, number: usize) -> Option<Arc<Connection>> {
        self.shared.connections.lock().unwrap().get(number).cloned()
    }

    fn each<T>(&self, look: impl Fn(&Connection) -> T) -> Vec<T> {
        self.shared.connections.lock().unwrap().iter().map(|connection| look(connection)).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees the flag.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.each(Connection::abandon);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let (client, peer) = listener.accept().unwrap();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let mut connections = shared.connections.lock().unwrap();
        let connection = Arc::new(Connection::of(peer, (shared.plan)(connections.len())));
        connections.push(Arc::clone(&connection));
        let upstream = *shared.upstream.lock().unwrap();
        std::thread::spawn(move || connection.run(client, upstream));
    }
}

impl Connection {
    fn of(peer: SocketAddr, plan: Plan) -> Connection {
        Connection {
            peer,
            plan,
            sockets: Mutex::default(),
            asked: Mutex::default(),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            gate: Mutex::default(),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
        }
    }

    fn run(&self, client: TcpStream, upstream: SocketAddr) {
        client.set_nodelay(true).unwrap();
        sockopt::set_socket_send_buffer_size(&client, SEND_BUFFER).unwrap();
        match TcpStream::connect(upstream) {
            Ok(server) => {
                server.set_nodelay(true).unwrap();
                sockopt::set_socket_recv_buffer_size(&server, RECEIVE_BUFFER).unwrap();
                self.sockets.lock().unwrap().extend([&client, &server].map(|socket| socket.try_clone().unwrap()));
                std::thread::scope(|scope| {
                    scope.spawn(|| self.pass_to_server(&client, &server));
                    self.pass_to_client(&client, &server);
                });
            }
            // The server is away: the relay hears what would have been asked, and hangs up.
            Err(_) => _ = self.hear(&client, &mut vec![0; 64 * 1024]),
        }
        // With the last handles gone, the sockets close: by a reset where one was asked for.
        self.sockets.lock().unwrap().clear();
        drop(client);
        self.ended.store(true, Ordering::SeqCst);
    }

    /// The next bytes from the client, recorded; None at its end.
    fn hear(&self, mut client: &TcpStream, block: &mut [u8]) -> Option<usize> {
        let count = loop {
            match client.read(block) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.ok().filter(|count| *count > 0)?,
            }
        };
        let mut asked = self.asked.lock().unwrap();
        assert!(asked.len() + count <= ASKED_MAX, "more said than a relay in a test keeps");
        asked.extend_from_slice(&block[..count]);
        self.to_server.fetch_add(count as u64, Ordering::SeqCst);
        Some(count)
    }

    fn pass_to_server(&self, client: &TcpStream, mut server: &TcpStream) {
        let mut block = vec![0; 64 * 1024];
        while let Some(count) = self.hear(client, &mut block) {
            if server.write_all(&block[..count]).is_err() {
                break;
            }
        }
        // The peer may be gone already.
        let _ = server.shutdown(Shutdown::Write);
        self.let_go();
    }

    fn pass_to_client(&self, client: &TcpStream, mut server: &TcpStream) {
        let mut block = vec![0; 64 * 1024];
        let end = loop {
            let passed = match server.read(&mut block) {
                Ok(0) => Err(Cut::Close),
                Ok(count) => self.pass(client, &mut block[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
                Err(_) => Err(Cut::Reset),
            };
            if let Err(end) = passed {
                break end;
            }
        };
        let _ = match end {
            Cut::Close => client.shutdown(Shutdown::Write),
            Cut::Reset => {
                sockopt::set_socket_linger(client, Some(Duration::ZERO)).unwrap();
                // Ends the other thread's reading; what goes out is a reset, when the socket closes.
                client.shutdown(Shutdown::Read)
            }
        };
        let _ = server.shutdown(Shutdown::Both);
    }

    /// Sends bytes on; the error says how the connection is to end.
    fn pass(&self, mut client: &TcpStream, mut bytes: &mut [u8]) -> Result<(), Cut> {
        loop {
            let sent = self.to_client.load(Ordering::SeqCst);
            self.stop_at(sent)?;
            if bytes.is_empty() {
                return Ok(());
            }
            let (now, later) = bytes.split_at_mut(self.plan.until_event(sent, bytes.len()));
            self.plan.damage(sent, now);
            client.write_all(now).map_err(|_| Cut::Close)?;
            self.to_client.fetch_add(now.len() as u64, Ordering::SeqCst);
            bytes = later;
        }
    }

    /// Cuts or holds if the time for it has come.
    fn stop_at(&self, sent: u64) -> Result<(), Cut> {
        if self.plan.hold == Some(sent) {
            let mut gate = self.gate.lock().unwrap();
            gate.holding = true;
            let waiting = |gate: &mut Gate| !gate.released && !gate.client_gone;
            let (mut gate, _) = self.changed.wait_timeout_while(gate, HELD_MAX, waiting).unwrap();
            gate.holding = false;
            if !gate.released {
                return Err(Cut::Close);
            }
        }
        match self.plan.cut {
            Some((after, how)) if after == sent => Err(how),
            _ => Ok(()),
        }
    }

    /// A connection whose client is gone need not be held any longer.
    fn let_go(&self) {
        self.gate.lock().unwrap().client_gone = true;
        self.changed.notify_all();
    }

    /// Ends both sides, whatever is under way.
    fn abandon(&self) {
        for socket in &*self.sockets.lock().unwrap() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::wire::{dial, read_to_end};
    use crate::scripted_server::ScriptedServer;

    /// A server that answers one byte with 100,000.
    fn upstream() -> ScriptedServer {
        ScriptedServer::new(|_, stream| {
            let mut first = [0];
            stream.read_exact(&mut first).unwrap();
            let _ = stream.write_all(&[7; 100_000]);
        })
    }

    fn received(relay: &Relay) -> Vec<u8> {
        let mut stream = dial(relay.addr);
        stream.write_all(b"x").unwrap();
        read_to_end(&mut stream)
    }

    #[test]
    fn passes_on_and_counts() {
        let server = upstream();
        for plan in [Plan::faithful(), Plan::chop()] {
            let relay = Relay::of(server.addr, plan);
            assert!(received(&relay) == [7; 100_000]);
            relay.wait_until_quiet();
            assert_eq!((relay.connections(), relay.to_client(), relay.traffic()), (1, 100_000, 100_001));
            assert_eq!((relay.first_bytes(), relay.gets()), (vec![Some(b'x')], vec![Some(Vec::new())]));
        }
    }

    #[test]
    fn cuts_at_the_byte() {
        let server = upstream();
        for (after, how) in [(0, Cut::Close), (70_000, Cut::Close), (0, Cut::Reset), (40_000, Cut::Reset)] {
            let relay = Relay::of(server.addr, Plan::cut(after, how));
            let mut stream = dial(relay.addr);
            stream.write_all(b"x").unwrap();
            let mut reply = Vec::new();
            let end = stream.read_to_end(&mut reply).map_err(|error| error.kind());
            assert_eq!(end.is_err(), how == Cut::Reset, "{how:?} after {after}: {end:?}");
            drop(stream);
            assert!(reply.len() as u64 <= after && (how == Cut::Reset || reply.len() as u64 == after));
            relay.wait_until_quiet();
            assert_eq!(relay.to_client(), after);
        }
    }

    #[test]
    fn holds_until_released_and_changes_one_bit() {
        let (server, other) = (upstream(), upstream());
        let relay =
            Relay::new(server.addr, |number| if number == 0 { Plan::hold(500) } else { Plan::flip(&[0, 99_999]) });
        let mut stream = dial(relay.addr);
        stream.write_all(b"x").unwrap();
        relay.wait_until_held(0);
        assert_eq!(relay.to_client(), 500);
        relay.release(0);
        assert!(read_to_end(&mut stream) == [7; 100_000]);
        relay.lead_to(other.addr);
        let damaged = received(&relay);
        assert!(damaged[0] == 0x17 && damaged[99_999] == 0x17 && damaged[1..99_999].iter().all(|byte| *byte == 7));
        assert_eq!((server.connections(), other.connections()), (1, 1));
    }
}
