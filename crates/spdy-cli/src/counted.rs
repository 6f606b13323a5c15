//! A TCP transport that counts its bytes, keeps the first of them, and reports when it is closed.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http::Uri;
use spdy_tower::client::{Dial, Dialing, Lookups, Transport, connect_any};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};

use crate::{route::Route, speech::Speech, wire};

/// The number of bytes on the wire, including TLS and framing.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    received: AtomicU64,
    sent: AtomicU64,
    newest: Mutex<Newest>,
}

/// What is known of the server of the newest connection.
#[derive(Debug, Default)]
struct Newest {
    /// The connections before it are counted too.
    number: u64,
    host: String,
    port: u16,
    /// The first bytes that the server has sent.
    first: Vec<u8>,
    /// Whether the server has answered a request, over this connection or the ones before it.
    has_answered: bool,
}

impl Newest {
    fn is_of(&self, url: &Uri) -> bool {
        let host = url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let usual = if url.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        host.eq_ignore_ascii_case(&self.host) && url.port_u16().unwrap_or(usual) == self.port
    }
}

impl Wire {
    /// Returns the bytes received and the bytes sent.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [&self.received, &self.sent].map(|bytes| bytes.load(Ordering::Relaxed))
    }

    /// Returns what the server of a URL speaks without TLS, if that is known: the newest connection
    /// is to that server.
    pub(crate) fn speech(&self, url: &Uri) -> Option<Speech> {
        let newest = self.newest();
        Speech::recognize(&newest.first).filter(|_| newest.is_of(url))
    }

    /// Returns whether the newest connection is to the server of a URL, which has sent nothing.
    pub(crate) fn is_mute(&self, url: &Uri) -> bool {
        let newest = self.newest();
        newest.first.is_empty() && newest.is_of(url)
    }

    /// Keeps that the server of a URL has answered.
    pub(crate) fn answered(&self, url: &Uri) {
        let mut newest = self.newest();
        newest.has_answered |= newest.is_of(url);
    }

    /// Returns whether the server of a URL has answered, so that it speaks the right protocol.
    pub(crate) fn has_answered(&self, url: &Uri) -> bool {
        let newest = self.newest();
        newest.has_answered && newest.is_of(url)
    }

    /// Begins a connection. Returns its number.
    pub(crate) fn begin(&self, host: &str, port: u16) -> u64 {
        let mut newest = self.newest();
        let is_other = newest.host != host || newest.port != port;
        *newest = Newest {
            number: newest.number + 1,
            host: host.to_owned(),
            port,
            first: Vec::new(),
            has_answered: newest.has_answered && !is_other,
        };
        newest.number
    }

    /// Keeps some of the first bytes of a connection.
    fn begins_with(&self, number: u64, bytes: &[u8]) {
        let mut newest = self.newest();
        if newest.number == number {
            newest.first.extend_from_slice(bytes);
        }
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the TCP connections of one client.
#[derive(Debug)]
pub(crate) struct Tcp {
    pub(crate) wire: Arc<Wire>,
    /// Each connection holds a clone until it is closed.
    pub(crate) open: mpsc::Sender<()>,
    pub(crate) lookups: Lookups,
    /// The first route for an origin is used.
    pub(crate) routes: Arc<[Route]>,
    pub(crate) verbose: bool,
}

impl Dial for Tcp {
    fn dial(&self, host: &str, port: u16) -> Dialing {
        let number = self.wire.begin(host, port);
        let route = self.routes.iter().find_map(|route| route.of(host, port));
        let (host, port) = route.unwrap_or((host, port));
        let (host, verbose) = (host.to_owned(), self.verbose);
        let (wire, open) = (Arc::clone(&self.wire), self.open.clone());
        let lookups = self.lookups.clone();
        Box::pin(async move {
            let io = connect_any(lookups.find(&host, port).await?).await?;
            if verbose {
                wire::note(format_args!("connected to {}", io.peer_addr()?));
            }
            let counted = Counted {
                io,
                wire,
                number,
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
    number: u64,
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
            self.wire.begins_with(self.number, first);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_known_of_that_server_alone() {
        let wire = Wire::default();
        let [one, other] =
            ["http://[::1]:8080/x", "http://A.test/"].map(|url| url.parse().unwrap());
        let first = wire.begin("::1", 8080);
        assert!(wire.is_mute(&one) && !wire.is_mute(&other));
        wire.answered(&one);
        wire.answered(&other);
        let second = wire.begin("::1", 8080);
        wire.begins_with(first, b"\x80\x03\0\x04\0");
        wire.begins_with(second, b"HTTP/1.1 503");
        assert_eq!(wire.speech(&one), Some(Speech::Http1));
        assert_eq!(wire.speech(&other), None);
        assert!(wire.has_answered(&one) && !wire.has_answered(&other));
        let third = wire.begin("a.test", 80);
        wire.begins_with(third, b"\x80\x03\0\x04\0");
        assert_eq!(wire.speech(&other), Some(Speech::Spdy3));
        assert_eq!(wire.speech(&one), None);
        assert!(!wire.has_answered(&one) && !wire.has_answered(&other));
    }
}
