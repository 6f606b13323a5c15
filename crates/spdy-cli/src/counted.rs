//! A TCP transport that counts its bytes, keeps the first of them, and reports when it is closed.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use spdy_tower::client::{Dial, Dialing, Transport, connect_any};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    sync::mpsc,
};

use crate::{route::Route, speech::Speech, wire};

/// The number of bytes on the wire, including TLS and framing.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    received: AtomicU64,
    sent: AtomicU64,
    /// The first bytes that the server has sent on the newest connection.
    first: Mutex<Vec<u8>>,
}

impl Wire {
    /// Returns the bytes received and the bytes sent.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [&self.received, &self.sent].map(|bytes| bytes.load(Ordering::Relaxed))
    }

    /// Returns what the server of the newest connection speaks without TLS, if that is known.
    pub(crate) fn speech(&self) -> Option<Speech> {
        Speech::recognize(&self.first.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns whether the server of the newest connection has sent nothing.
    pub(crate) fn is_mute(&self) -> bool {
        let first = self.first.lock();
        first.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn change_first(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.first.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Opens the TCP connections of one client.
#[derive(Debug)]
pub(crate) struct Tcp {
    pub(crate) wire: Arc<Wire>,
    /// Each connection holds a clone until it is closed.
    pub(crate) open: mpsc::Sender<()>,
    /// The first route for an origin is used.
    pub(crate) routes: Arc<[Route]>,
    pub(crate) verbose: bool,
}

impl Dial for Tcp {
    fn dial(&self, host: &str, port: u16) -> Dialing {
        let route = self.routes.iter().find_map(|route| route.of(host, port));
        let (host, port) = route.unwrap_or((host, port));
        let (host, verbose) = (host.to_owned(), self.verbose);
        let (wire, open) = (Arc::clone(&self.wire), self.open.clone());
        Box::pin(async move {
            let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
            let io = connect_any(addresses).await?;
            io.set_nodelay(true)?;
            if verbose {
                wire::note(format_args!("connected to {}", io.peer_addr()?));
            }
            wire.change_first(Vec::clear);
            let counted = Counted {
                io,
                wire,
                early: FIRST,
                _open: open,
            };
            Ok(Box::new(counted) as Box<dyn Transport>)
        })
    }
}

#[derive(Debug)]
struct Counted {
    io: TcpStream,
    wire: Arc<Wire>,
    /// How many of the first bytes are still to come.
    early: usize,
    _open: mpsc::Sender<()>,
}

/// Enough to recognize each protocol.
const FIRST: usize = 9;

impl Counted {
    /// Counts what a write has sent.
    fn sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.wire.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        written
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        let early = self.early.min(bytes);
        if early > 0 {
            self.early -= early;
            let first = &buffer.filled()[before..before + early];
            self.wire.change_first(|kept| kept.extend_from_slice(first));
        }
        self.wire
            .received
            .fetch_add(bytes as u64, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
