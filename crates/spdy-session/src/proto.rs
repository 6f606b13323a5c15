//! The protocol machine: one side of a SPDY connection without I/O, clock, tasks or locks.
//!
//! The caller moves the bytes and provides the time; [`Connection`] does the rest. The tokio driver
//! of this crate is such a caller, and so are tests and programs on other runtimes. The calls of
//! one turn, in this order:
//!
//! ```text
//!   bytes have come         handle_input(now, &mut buffer)
//!   the transport has ended handle_eof(now)
//!   what happened           poll_event()        until None
//!   the application acts    open, reply, send_data, consume, reset …
//!   bytes to write          poll_transmit(now)  write, advance, until empty
//!   when to come back       poll_timeout()      then handle_timeout(now)
//! ```
//!
//! Two connections in memory:
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//!
//! use bytes::{Buf, BytesMut};
//! use spdy_session::{
//!     Config,
//!     proto::{Connection, Event, OpenOptions},
//! };
//! use spdy_frame::{HeaderBlock, Side, Version};
//!
//! let now = Instant::now();
//! let config = Arc::new(Config::default());
//! let mut client = Connection::new(Side::Client, Version::V3_1, Arc::clone(&config), now);
//! let mut server = Connection::new(Side::Server, Version::V3_1, config, now);
//!
//! let stream = client.open(now, HeaderBlock::new(), OpenOptions::default())?;
//! client.send_data(stream, "hello".into(), true)?;
//!
//! // The network: whatever one side writes, the other side reads.
//! let mut wire = BytesMut::new();
//! let out = client.poll_transmit(now);
//! while out.has_remaining() {
//!     wire.extend_from_slice(out.chunk());
//!     out.advance(out.chunk().len());
//! }
//! server.handle_input(now, &mut wire);
//!
//! let Some(Event::Settings(_)) = server.poll_event() else { panic!("no SETTINGS") };
//! let Some(Event::Opened(opened)) = server.poll_event() else { panic!("no stream") };
//! assert_eq!(opened.id, stream);
//! let Some(Event::Data { payload, fin, .. }) = server.poll_event() else { panic!("no data") };
//! assert_eq!((&payload[..], fin), (&b"hello"[..], true));
//! server.consume(stream, payload.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Inside
//!
//! [`Connection`] is the only place that uses two managers at once. A manager does not know
//! `Connection`. `ARCHITECTURE.md` draws the calls.
//!
//! - `connection`: everything that needs several managers: one handler for each frame, the calls of
//!   the application, deadlines, the order of output, the ends of streams and sessions;
//! - `role`: the side, the version, and which windows are in force;
//! - `inbound`: the decoders of frames and of header blocks; `foreign`: peers that speak another
//!   protocol;
//! - `streams`: the map of streams, their halves, and every count that belongs to them;
//! - `windows`: windows, and when they grow;
//! - `waits`: streams that wait for windows, and the start of each wait;
//! - `output`: what waits to be written, and how it becomes bytes; `scheduler`: the next stream to
//!   write; `transmit`: bytes on their way to the transport;
//! - `held`: whether the transport holds the end of a stream;
//! - `pings`: every PING of this side and its purpose;
//! - `go_away`: the GOAWAY frames of both sides;
//! - `guard`: how often the peer may do what is costly for this side; `bucket`: a token bucket;
//! - `clock`: the moments from which deadlines are counted;
//! - `error`: a broken rule, and whether it ends the stream or the session.

mod bucket;
mod clock;
mod connection;
mod error;
mod event;
mod foreign;
mod go_away;
mod guard;
mod held;
mod inbound;
mod output;
mod pings;
mod role;
mod scheduler;
mod streams;
mod transmit;
mod waits;
mod windows;

pub use self::{
    connection::{Connection, OpenOptions, Phase, Shutdown, Stats, Windows},
    event::{Event, Opened, PingId},
    foreign::ForeignProtocol,
    streams::held_size,
    transmit::Transmit,
};

pub(crate) use self::output::TURN;
#[cfg(feature = "tokio")]
pub(crate) use self::{
    connection::{Heeds, Quiet},
    event::Outcome,
    streams::{IdHasher, Outgoing},
};
