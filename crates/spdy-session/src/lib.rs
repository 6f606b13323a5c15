//! SPDY sessions: many streams over one transport, as server or client, for SPDY/2, SPDY/3 and
//! SPDY/3.1.
//!
//! *In scope*: streams and their states, flow control, settings, priorities, PING, GOAWAY,
//! draining, limits and timeouts. *Out of scope*: what streams carry, and where the transport comes
//! from. `spdy-tower` implements HTTP over streams. The application provides the transport, with
//! its sockets and its TLS.
//!
//! ```
//! use spdy_frame::{HeaderBlock, Version};
//! use spdy_session::{Config, OpenOptions};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Any transport will do: TCP, TLS, or a pipe in memory.
//! let (near, far) = duplex(4096);
//!
//! let (_session, mut incoming, driver) =
//!     spdy_session::server(far, Version::V3_1, Config::default());
//! tokio::spawn(driver);
//! tokio::spawn(async move {
//!     while let Some(stream) = incoming.accept().await {
//!         let mut stream = stream.send_reply(HeaderBlock::new()).unwrap();
//!         let mut request = Vec::new();
//!         stream.read_to_end(&mut request).await.unwrap();
//!         stream.write_all(&request).await.unwrap();
//!         stream.shutdown().await.unwrap();
//!     }
//! });
//!
//! let (session, _pushes, driver) = spdy_session::client(near, Version::V3_1, Config::default());
//! tokio::spawn(driver);
//! let mut stream = session.open(HeaderBlock::new(), OpenOptions::default()).await?;
//! stream.write_all(b"echo").await?;
//! stream.shutdown().await?;
//! let mut answer = Vec::new();
//! stream.read_to_end(&mut answer).await?;
//! assert_eq!(answer, b"echo");
//! # Ok(())
//! # }
//! ```
//!
//! [`server`] and [`client`] return three values: a [`Session`], which opens streams and ends the
//! session; an [`Incoming`], which receives the streams of the peer; and the [`Driver`], a future
//! that does all the work. A [`Stream`] is `AsyncRead` and `AsyncWrite`. Its halves can be used
//! separately, and move whole pieces without a copy.
//!
//! # What you can rely on
//!
//! - A reader sees the end of a stream only if the peer has finished the stream. A reset stream, a
//!   lost transport and an ended session are errors that tell the cause ([`StreamError`],
//!   [`SessionError`]).
//! - A slow reader stops the peer on its own stream and on no other, as long as flow control is in
//!   force ([`FlowControl`]). Credit goes back to the peer when the application takes bytes, not
//!   when they arrive.
//! - A writer waits while its queue is full. Every buffer has a limit with a name in [`Limits`].
//!   Every wait for the peer has a limit in [`Timeouts`], except that an open stream can be silent
//!   for any time: [`keep_alive`](Timeouts::keep_alive) finds peers that have vanished.
//! - Nothing that the peer sends causes a panic.
//!
//! # Without tokio
//!
//! [`proto::Connection`] implements the whole protocol. It does no I/O and reads no clock. Without
//! the default feature `tokio` the crate consists of this type and its configuration.
//!
//! # Logging
//!
//! Each frame is one line of [`tracing`] at level `TRACE` under the target `spdy::wire`. The ends
//! of streams and sessions are logged at level `DEBUG` under the target `spdy`.

#![cfg_attr(docsrs, feature(doc_cfg))]
// Compiles the example in the README.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]

mod config;
mod counters;
mod error;
pub mod proto;
mod queue;
mod rule;
mod spare;
mod timeout;
mod wire_log;

#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod handle;
#[cfg(feature = "tokio")]
mod memory;
#[cfg(feature = "tokio")]
mod session;
#[cfg(feature = "tokio")]
mod shared;
#[cfg(feature = "tokio")]
mod sync;

pub use spdy_frame::{HeaderBlock, Priority, RstStatus, Side, StreamId, Version};

pub use self::{
    config::{Config, FlowControl, Limits, OversizedHeaders, Rate, Timeouts, Trailers},
    counters::{Count, Counters, Counts, Limit},
    error::{Initiator, OpenError, SessionError, StreamError},
    proto::{ForeignProtocol, OpenOptions, Shutdown},
    rule::Rule,
    timeout::Timeout,
};
#[cfg(feature = "tokio")]
pub use self::{
    driver::Driver,
    handle::{
        Incoming, Opening, PendingStream, RecvStream, Reserved, SendReply, SendRoom, SendStream,
        Session, Stream, TryAcceptError,
    },
    memory::MemoryUse,
    session::{client, server},
    shared::stream_cell::Received,
};

/// Tasks share these types, so they are `Send` and `Sync`. Losing that is a breaking change.
const _: () = {
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<(Config, Counters, proto::Connection, proto::Event)>();
    is_send_and_sync::<(OpenError, SessionError, StreamError)>();
};

#[cfg(feature = "tokio")]
const _: () = {
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<(Session, Incoming, PendingStream, Opening, MemoryUse)>();
    is_send_and_sync::<(
        Stream,
        RecvStream,
        SendStream,
        SendReply,
        SendRoom,
        Reserved,
    )>();
    const fn is_send<T: Send>() {}
    is_send::<Driver<tokio::io::DuplexStream>>();
};
