//! Sessions that end while their transport holds bytes above the wire, as TLS does, and the peer
//! reads nothing: in every role and version, however the session ends, and whatever the peer does
//! then. What was reported as written has to arrive, or the session must not end with `Ok`.

mod exec;
mod tls;

use std::{fmt, time::Duration};

use bytes::Bytes;
use spdy_frame::Version;
use spdy_session::{
    Config, HeaderBlock, Incoming, OpenOptions, RecvStream, SendStream, Session, SessionError,
    Shutdown, Side, Timeout,
};
use spdy_tests::{
    frames,
    wire::{Received, Wire},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, duplex},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// How a session ends whose first stream was reported as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Graceful,
    Now,
    /// As an application does that ends whatever it has, in any case.
    NowTwice,
    Dropped,
    PeerGoesAway,
    PeerFinishes,
    /// The peer finishes, and then the application ends the session.
    NowAfterPeer,
    PeerBreaksRule,
    /// The deadline of a shutdown passes, because the second stream is open.
    Drain,
}

/// What the peer does when the session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    ReadsLate,
    ReadsNothing,
    Resets,
}

/// What holds the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Buffer,
    Rustls,
}

/// A transport of either kind.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Io for IO {}

impl Holder {
    /// Returns a transport that holds what it has taken, and its other end.
    async fn transport(self) -> (Box<dyn Io>, Box<dyn Io>) {
        let (near, far) = duplex(64);
        match self {
            Self::Buffer => {
                let near = BufWriter::with_capacity(60 * 1024, near);
                (Box::new(near), Box::new(far))
            }
            Self::Rustls => {
                let (near, far) = tls::connect(near, far).await;
                (Box::new(near), Box::new(far))
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Cell {
    holder: Holder,
    side: Side,
    version: Version,
    /// Whether a second stream is open, which has queued more than the transport takes.
    is_full: bool,
    way: Way,
    peer: Peer,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            holder,
            side,
            version,
            is_full,
            way,
            peer,
        } = self;
        write!(
            f,
            "{holder:?} {side} {version} {way:?} full: {is_full} {peer:?}"
        )
    }
}

impl Way {
    const ALL: [Self; 9] = [
        Self::Graceful,
        Self::Now,
        Self::NowTwice,
        Self::Dropped,
        Self::PeerGoesAway,
        Self::PeerFinishes,
        Self::NowAfterPeer,
        Self::PeerBreaksRule,
        Self::Drain,
    ];

    /// Returns whether this way ends a session whose second stream is open or not, as `is_full`
    /// says.
    const fn ends(self, is_full: bool) -> bool {
        match self {
            Self::Now | Self::NowTwice | Self::PeerBreaksRule => true,
            Self::Drain => is_full,
            _ => !is_full,
        }
    }

    /// Returns whether this is an end in order.
    const fn is_in_order(self) -> bool {
        !matches!(self, Self::PeerBreaksRule | Self::Drain)
    }
}

/// Both sides of a session.
struct Ends {
    session: Session,
    incoming: Incoming,
    driver: JoinHandle<Result<(), SessionError>>,
    peer: Wire<Box<dyn Io>>,
    /// Handles that would reset their streams.
    kept: Vec<RecvStream>,
}

impl Ends {
    async fn new(cell: Cell) -> Self {
        let (near, far) = cell.holder.transport().await;
        let make = match cell.side {
            Side::Client => spdy_session::client,
            Side::Server => spdy_session::server,
        };
        let (session, incoming, driver) = make(near, cell.version, Config::default());
        Self {
            session,
            incoming,
            driver: tokio::spawn(driver),
            peer: Wire::new(far, cell.version),
            kept: Vec::new(),
        }
    }

    /// Returns the sending half of a stream. With `fin` the peer has finished it.
    async fn stream(&mut self, cell: Cell, id: u32, fin: bool) -> SendStream {
        let end = |frame: frames::RawFrame| if fin { frame.fin() } else { frame };
        match cell.side {
            Side::Client => {
                let how = OpenOptions::default();
                let stream = self.session.open(HeaderBlock::new(), how).await.unwrap();
                let is_opening = |frame: &Received| matches!(frame, Received::SynStream { .. });
                self.peer.recv_until(is_opening).await;
                let reply = frames::syn_reply(cell.version, id);
                self.peer.send(end(reply)).await;
                let (mut from, to) = stream.split();
                from.response_headers().await.unwrap();
                self.kept.push(from);
                to
            }
            Side::Server => {
                let opening = frames::syn_stream(cell.version, id).get("/");
                self.peer.send(end(opening)).await;
                let (from, reply) = self.incoming.accept().await.unwrap().split();
                self.kept.push(from);
                reply.send_reply(HeaderBlock::new(), false).unwrap()
            }
        }
    }

    async fn end(mut self, version: Version, way: Way) -> Rest {
        match way {
            Way::Graceful => self.session.shutdown(Shutdown::Graceful { deadline: None }),
            Way::Now => self.session.shutdown(Shutdown::Now),
            Way::NowTwice => {
                self.session.shutdown(Shutdown::Now);
                sleep(SECOND / 10).await;
                self.session.shutdown(Shutdown::Now);
            }
            Way::Dropped => {}
            Way::PeerGoesAway => {
                let status = spdy_frame::GoAwayStatus::OK;
                self.peer.send(frames::go_away(version, 0, status)).await;
            }
            Way::PeerFinishes => self.peer.shutdown().await,
            Way::NowAfterPeer => {
                self.peer.shutdown().await;
                sleep(SECOND / 10).await;
                self.session.shutdown(Shutdown::Now);
            }
            Way::PeerBreaksRule => self.peer.send(frames::ping(version, 1).length(3)).await,
            Way::Drain => self.session.shutdown(Shutdown::Graceful {
                deadline: Some(SECOND / 10),
            }),
        }
        let session = (way != Way::Dropped).then_some(self.session);
        Rest {
            driver: self.driver,
            peer: self.peer,
            _session: session,
            _kept: self.kept,
        }
    }
}

/// What is left of both sides.
struct Rest {
    driver: JoinHandle<Result<(), SessionError>>,
    peer: Wire<Box<dyn Io>>,
    _session: Option<Session>,
    _kept: Vec<RecvStream>,
}

impl Cell {
    async fn run(self) {
        let mut ends = Ends::new(self).await;
        let mut written = ends.stream(self, 1, true).await;
        let mut second = match self.is_full {
            true => Some(ends.stream(self, 3, false).await),
            false => None,
        };
        let payload = Bytes::from(vec![7; LENGTH]);
        written.send_data(payload, true).unwrap();
        written.written().await.unwrap();
        if let Some(second) = &mut second {
            let payload = Bytes::from(vec![8; LENGTH]);
            second.send_data(payload, false).unwrap();
            sleep(SECOND / 10).await;
        }
        let start = Instant::now();
        let mut rest = ends.end(self.version, self.way).await;
        match self.peer {
            Peer::ReadsLate => {
                sleep(25 * SECOND).await;
                assert!(!rest.driver.is_finished(), "{self}: the bytes are lost");
                assert_eq!(length(&mut rest.peer).await, LENGTH, "{self}");
                drop(rest.peer);
                let end = rest.driver.await.unwrap();
                assert_eq!(end.is_ok(), self.way.is_in_order(), "{self}: {end:?}");
            }
            Peer::ReadsNothing => {
                let end = rest.driver.await.unwrap();
                let timed_out = matches!(end, Err(SessionError::TimedOut(Timeout::Write)));
                assert!(timed_out || !self.way.is_in_order(), "{self}: {end:?}");
                assert!(end.is_err(), "{self}");
                let taken = start.elapsed();
                assert!(
                    (29 * SECOND..32 * SECOND).contains(&taken),
                    "{self}: {taken:?}"
                );
            }
            Peer::Resets => {
                sleep(5 * SECOND).await;
                drop(rest.peer);
                let end = timeout(SECOND, rest.driver).await;
                let end = end.expect("the transport has failed").unwrap();
                assert!(end.is_err(), "{self}: what was written is lost");
            }
        }
    }
}

/// Reads to the end, and returns the length of the payload of the first stream.
async fn length(peer: &mut Wire<Box<dyn Io>>) -> usize {
    let frames = peer.recv_all().await;
    let length = frames.iter().map(|frame| match frame {
        Received::Data {
            stream, payload, ..
        } if *stream == 1 => payload.len(),
        _ => 0,
    });
    length.sum()
}

/// Every cell with this end.
async fn check(peer: Peer) {
    for (holder, version) in [
        (Holder::Buffer, Version::V2),
        (Holder::Buffer, Version::V3),
        (Holder::Buffer, Version::V3_1),
        (Holder::Rustls, Version::V3_1),
    ] {
        for side in [Side::Client, Side::Server] {
            for way in Way::ALL {
                for is_full in [false, true] {
                    let cell = Cell {
                        holder,
                        side,
                        version,
                        is_full,
                        way,
                        peer,
                    };
                    if way.ends(is_full) {
                        cell.run().await;
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_arrives_though_the_peer_reads_late() {
    check(Peer::ReadsLate).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_an_error_after_the_time_of_a_write() {
    check(Peer::ReadsNothing).await;
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_loses_what_was_written_is_an_error() {
    check(Peer::Resets).await;
}

const SECOND: Duration = Duration::from_secs(1);

/// More than the wire takes, and less than the transport. Twice as much is more than either takes.
const LENGTH: usize = 50_000;
